#!/usr/bin/env python3
"""All ids of a text, as `tokens` I32 [n]."""
import argparse

import peer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder or GGUF file")
    parser.add_argument("--text", nargs="+", required=True, help="files, each encoded whole")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    ids = peer.encode(args.model, args.text)
    peer.save(args.out, {"tokens": ids})
    peer.report(tokens=len(ids))


if __name__ == "__main__":
    main()
