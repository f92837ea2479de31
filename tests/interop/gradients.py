#!/usr/bin/env python3
"""Gradient of the mean loss over a batch with respect to every parameter, under the names
and in the layout of the Hugging Face file (GPT-2: [in, out]). A tied weight appears once."""
import argparse
import math

import torch
from safetensors.torch import load_file

import peer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder or GGUF file")
    parser.add_argument("--tokens", required=True, help="dump whose sequences are the batch")
    parser.add_argument("--limit", type=int, help="only the first n sequences")
    parser.add_argument("--double", action="store_true", help="compute in float64, store float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    tokens = load_file(args.tokens)["tokens"][:args.limit].long()
    model = peer.load_model(args.model, torch.float64 if args.double else torch.float32)
    logits = model(tokens[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()

    gradients = {name: p.grad.float() for name, p in model.named_parameters()}
    peer.save(args.out, gradients, loss=repr(loss.item()))
    norm = math.sqrt(sum(g.double().pow(2).sum().item() for g in gradients.values()))
    peer.report(loss=loss.item(), gradient_norm=norm, parameters=len(gradients))


if __name__ == "__main__":
    main()
