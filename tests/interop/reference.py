#!/usr/bin/env python3
"""Evaluates a model with transformers in float32; writes a dump as qatrun's evaluate does:
tokens I32 [n, L+1], logits F32 [n, L, V], nll F32 [n, L]. Prints the figures as JSON."""
import argparse
import math

import torch
from safetensors.torch import load_file

import peer


def evaluate(model, tokens, keep_logits):
    """One sequence at a time, so that memory holds one sequence's logits."""
    losses, logits = [], []
    with torch.no_grad():
        for row in tokens.long():
            out = model(row[None, :-1], use_cache=False).logits
            losses.append(peer.nll(out, row[None, 1:]))
            if keep_logits:
                logits.append(out)
    return torch.cat(losses), torch.cat(logits) if keep_logits else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder or GGUF file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", nargs="+", help="files, each encoded whole")
    source.add_argument("--tokens", help="take the sequences of this dump instead of a text")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--limit", type=int, help="only the first n sequences")
    parser.add_argument("--no-logits", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    if args.tokens:
        tokens = load_file(args.tokens)["tokens"][:args.limit]
    else:
        tokens = peer.sequences(peer.encode(args.model, args.text), args.length, args.limit)
    loss, logits = evaluate(peer.load_model(args.model), tokens, not args.no_logits)

    dump = {"tokens": tokens, "nll": loss.float()}
    if logits is not None:
        dump["logits"] = logits
    peer.save(args.out, dump)
    mean = loss.mean().item()
    peer.report(loss=mean, perplexity=math.exp(mean), tokens=loss.numel())


if __name__ == "__main__":
    main()
