#!/usr/bin/env python3
"""Small models with random weights, made by transformers: GPT-2 and Llama 3 in miniature."""
import argparse
import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from peer import LLAMA3, byte_level, split

# What a tokenizer can get wrong: added tokens within words and beside spaces, the ends of
# runs of spaces, CRLF, digits, contractions, letters and digits beyond ASCII, combining
# marks, emoji, controls.
EDGES = (
    "Plain text, then<|endoftext|>a token inside, <|mark|> one between spaces.\n"
    "<|begin_of_text|>Twice: <|end_of_text|><|end_of_text|>\n<|mark|><|mark>\n"
    "I'll say it's HERE, I'LL SAY IT'S 'here', they've, we'd; 'tis rock'n'roll ''s\n"
    "1 12 123 1234 12345 3.14159 1,000,000 x2y 2024-11-23 \u00b2\u00bd\u0663\u0664\u2167\u5341\n"
    "two  three   four    \ttab\t\ttabs \t mixed\n\n\nlines\r\nCRLF\r\n\r\n  indented\n   \n"
    "na\u00efve caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m stra\u00dfe \u0130stanbul "
    "\u0416\u0443\u043a \u65e5\u672c\u8a9e \u0939\u093f\u0928\u094d\u0926\u0940\n"
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2014 \u2026 \u00a0nbsp\u3000wide"
    "\u2028line\u0085next \ufeffbom \u017f '\u017f\n"
    "(){}[]<>!?...--==+*/\\|@#$%^&~` a_b __init__ $x->y[3] \x01\x7f\n"
    "   trailing spaces   "
)

ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}


def train(model, pre_tokenizer, text, vocab_size, special):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def gpt2_tokenizer(text):
    """599 ids of the vocabulary, one added token inside it (0), one behind it (599)."""
    tokenizer = train(models.BPE(), byte_level(), text, 599, ["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_tokens([AddedToken("<|mark|>", lstrip=True, rstrip=False, normalized=True)])
    return tokenizer


def llama_tokenizer(text):
    """598 ids, two added tokens behind them; adds BOS where special tokens are asked for."""
    tokenizer = train(models.BPE(ignore_merges=True), split(LLAMA3), text, 598, [])
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      special_tokens=[("<|begin_of_text|>", bos)]),
    ])
    return tokenizer


def fill(model, seed):
    """Weights large enough that every part moves the logits: the usual 0.02, with norms of
    one and biases of zero, would hide a missing bias or a wrong rotation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() == 2:
                embeds = re.search(r"wte|wpe|embed_tokens|lm_head", name)
                p.copy_(noise * (0.25 if embeds else p.shape[1] ** -0.5))
            elif "bias" in name:
                p.copy_(0.1 * noise)
            else:
                p.copy_(1 + 0.1 * noise)
    return model


def gpt2(seed):
    return fill(GPT2LMHeadModel(GPT2Config(
        vocab_size=600, n_embd=64, n_layer=2, n_head=4, n_positions=128,
        bos_token_id=0, eos_token_id=0)), seed)


def llama(seed, tied):
    """608 rows for 600 ids: a vocabulary padded to a round width."""
    return fill(LlamaForCausalLM(LlamaConfig(
        vocab_size=608, hidden_size=64, intermediate_size=176, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        rms_norm_eps=1e-5, tie_word_embeddings=tied, bos_token_id=598, eos_token_id=599,
        rope_parameters={"rope_theta": 10000.0, **ROPE})), seed)


def write(folder, model, tokenizer, **options):
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, **options)
    tokenizer.save(str(folder / "tokenizer.json"))


def edit_config(folder, drop, add):
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps({**config, **add}, indent=2) + "\n")


def write_old_llama(folder, model, tokenizer):
    """The spelling of config.json before transformers 5."""
    write(folder, model, tokenizer)
    edit_config(folder, {"rope_parameters", "dtype"},
                {"rope_theta": 10000.0, "rope_scaling": ROPE, "torch_dtype": "float32"})


def write_hub_gpt2(folder, model, tokenizer):
    """As the first GPT-2 files on the hub: names without prefix, mask buffers among them,
    merges as strings."""
    write(folder, model, tokenizer)
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor
               for name, tensor in load_file(path).items()}
    places = model.config.n_positions
    for i in range(model.config.n_layer):
        mask = torch.ones(1, 1, places, places).tril()
        tensors[f"h.{i}.attn.bias"] = mask
    save_file(tensors, path, metadata={"format": "pt"})

    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    whole["model"]["merges"] = [" ".join(pair) for pair in whole["model"]["merges"]]
    path.write_text(json.dumps(whole, ensure_ascii=False, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to make the models in")
    parser.add_argument("--text", type=Path, required=True, help="text to train tokenizers on")
    parser.add_argument("--bytes", type=int, default=200_000, help="of the text (200000)")
    args = parser.parse_args()

    text = args.text.read_bytes()[:args.bytes].decode("utf-8", "ignore")
    for_gpt2, for_llama = gpt2_tokenizer(text), llama_tokenizer(text)
    write(args.out / "gpt2", gpt2(1), for_gpt2)
    write_hub_gpt2(args.out / "gpt2-hub", gpt2(1), for_gpt2)
    write(args.out / "llama", llama(2, tied=False), for_llama)
    write(args.out / "llama-sharded", llama(2, tied=False), for_llama, max_shard_size="100KB")
    write_old_llama(args.out / "llama-tied", llama(3, tied=True), for_llama)
    (args.out / "edges.txt").write_bytes(EDGES.encode("utf-8"))


if __name__ == "__main__":
    main()
