#!/usr/bin/env python3
"""Gives the tensors that `gradients` of qatrun wrote the names and layouts of a reference
in Hugging Face names (GPT-2: [in, out]), so that compare.py can hold them against it."""
import argparse
import re

from safetensors.torch import load_file

import peer

LLAMA = (
    (r"^embed\.", "model.embed_tokens."),
    (r"^norm\.", "model.norm."),
    (r"^layers\.(\d+)\.norm1\.", r"model.layers.\1.input_layernorm."),
    (r"^layers\.(\d+)\.norm2\.", r"model.layers.\1.post_attention_layernorm."),
    (r"^layers\.(\d+)\.attn\.([qkvo])\.", r"model.layers.\1.self_attn.\2_proj."),
    (r"^layers\.(\d+)\.mlp\.(gate|up|down)\.", r"model.layers.\1.mlp.\2_proj."),
)
GPT2 = (
    (r"^embed\.", "transformer.wte."),
    (r"^positions\.", "transformer.wpe."),
    (r"^norm\.", "transformer.ln_f."),
    (r"^layers\.(\d+)\.norm([12])\.", r"transformer.h.\1.ln_\2."),
    (r"^layers\.(\d+)\.attn\.qkv\.", r"transformer.h.\1.attn.c_attn."),
    (r"^layers\.(\d+)\.attn\.o\.", r"transformer.h.\1.attn.c_proj."),
    (r"^layers\.(\d+)\.mlp\.up\.", r"transformer.h.\1.mlp.c_fc."),
    (r"^layers\.(\d+)\.mlp\.down\.", r"transformer.h.\1.mlp.c_proj."),
)


def rename(name, rules):
    for pattern, to in rules:
        name, count = re.subn(pattern, to, name)
        if count:
            break
    return name


def lay_out(name, flat, like):
    """Ours is [out, in], row by row; GPT-2's matrices lie the other way."""
    if re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", name):
        return flat.view(like.shape[::-1]).t()
    return flat.view(like.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ours", help="what the task gradients wrote")
    parser.add_argument("reference", help="whose names and shapes are wanted")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    reference = load_file(args.reference)
    rules = GPT2 if any(name.startswith("transformer.") for name in reference) else LLAMA
    out = {}
    for name, flat in load_file(args.ours).items():
        theirs = rename(name, rules)
        out[theirs] = lay_out(theirs, flat, reference[theirs]) if theirs in reference else flat
    peer.save(args.out, out)


if __name__ == "__main__":
    main()
