#!/usr/bin/env python3
"""Holds two dumps against each other. Tokens must be equal; logits, nll, perplexity and
gradients agree within tolerances. Exit 1 where they do not. A NaN never agrees."""
import argparse
import math
import sys

import torch
from safetensors.torch import load_file

KINDS = ("tokens", "logits", "nll")


def differences(a, b):
    """Largest |a - b|; NaN where either holds one."""
    if a.numel() == 0:
        return 0.0
    return (a.double() - b.double()).abs().max().item()


def relative(a, b):
    """|a - b| / |b| in the 2-norm; b is the reference."""
    size = b.double().norm().item()
    error = (a.double() - b.double()).norm().item()
    return error / size if size > 0 else error


def perplexity(nll):
    return math.exp(nll.double().mean().item())


def ratio(a, b):
    """How far the perplexities' ratio is from 1."""
    return abs(perplexity(a) / perplexity(b) - 1)


def checks(args):
    """(tensor or "*" for gradients, what is measured, measure, tolerance)"""
    return (
        ("tokens", "equal", differences, 0),
        ("logits", "max |difference|", differences, args.logits_tol),
        ("nll", "max |difference|", differences, args.nll_tol),
        ("nll", "|perplexity ratio - 1|", ratio, args.perplexity_tol),
        ("*", "relative error", relative, args.gradient_tol),
    )


def compare(name, a, b, table):
    """Prints a line for each check of this tensor; True where all hold."""
    if a.shape != b.shape:
        print(f"{name}: shape {list(a.shape)} against {list(b.shape)}: FAIL")
        return False
    good = True
    for key, what, measure, tolerance in table:
        if key != (name if name in KINDS else "*"):
            continue
        value = measure(a, b)
        holds = value <= tolerance
        good = good and holds
        print(f"{name}: {what} {value:.3g} (<= {tolerance:g}): {'ok' if holds else 'FAIL'}")
    return good


def joined(dump):
    """Sequences of length 1 overlap by one id: the ids of the text that they were cut from."""
    pairs = dump["tokens"]
    return {"tokens": torch.cat([pairs[:, 0], pairs[-1:, 1]])}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", help="dump to judge")
    parser.add_argument("b", help="reference")
    parser.add_argument("--logits-tol", type=float, default=2e-3)
    parser.add_argument("--nll-tol", type=float, default=2e-3)
    parser.add_argument("--perplexity-tol", type=float, default=1e-4)
    parser.add_argument("--gradient-tol", type=float, default=1e-4)
    parser.add_argument("--common", action="store_true",
                        help="judge what both hold, instead of failing where one lacks a tensor")
    parser.add_argument("--ids", action="store_true",
                        help="A holds a text's ids as sequences of length 1, B as one row")
    args = parser.parse_args()

    a, b = load_file(args.a), load_file(args.b)
    if args.ids:
        a = joined(a)
    names = sorted(a.keys() & b.keys())
    lacking = sorted(a.keys() ^ b.keys())
    if not names:
        sys.exit(f"{args.a} and {args.b} have no tensor in common")
    if lacking and not args.common:
        sys.exit(f"only in one of {args.a}, {args.b}: {', '.join(lacking)} (--common allows it)")
    results = [compare(name, a[name], b[name], checks(args)) for name in names]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
