#!/usr/bin/env python3
"""Greedy continuations of a run of the task generate (with dump.path), against transformers'.

RUN is the run's folder; the state that is compared is `base`, in float32. Exit 1 where ids
differ."""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

import peer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder or GGUF file")
    parser.add_argument("run")
    parser.add_argument("--dump", default="ids.safetensors", help="dump.path")
    args = parser.parse_args()

    rows = json.loads((Path(args.run) / "results.json").read_text())["generations"]
    ours = load_file(str(Path(args.run) / args.dump))
    model = peer.load_model(args.model)
    failed = 0
    for i, row in enumerate(row for row in rows if row["state"] == "base"):
        ids = ours[f"base.{i}"].long()
        prompt = ids[None, :row["prompt_tokens"]]
        with torch.no_grad():
            theirs = model.generate(prompt, attention_mask=torch.ones_like(prompt),
                                    do_sample=False, max_new_tokens=row["tokens"])[0]
        same = torch.equal(ids, theirs)
        failed += not same
        print(f"prompt {i}: {row['tokens']} tokens: {'ok' if same else 'FAIL'}")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    raise SystemExit(main())
