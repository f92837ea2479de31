"""The peer of bench.py: PyTorch trains or evaluates a GGUF model through transformers.

    python peer.py --model model.gguf --text file --mode train --precision bf16
                   [--scheme w8a8|8da4w: torchao's QAT] [--compile: by torch.compile]

Prints one line of JSON: tokens_per_second of all steps but the first (compiled: the first
two), best_tokens_per_second of the fastest of them, first_seconds, which has the compilation,
peak_bytes (resident), versions.
"""
import argparse
import json
import resource
import time
from pathlib import Path

import torch
import transformers


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--model", required=True, type=Path, help="GGUF file")
    p.add_argument("--text", required=True, type=Path)
    p.add_argument("--mode", choices=["train", "evaluate"], required=True)
    p.add_argument("--precision", choices=["f32", "bf16"], required=True)
    p.add_argument("--scheme", choices=["none", "w8a8", "8da4w"], default="none")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--steps", type=int, default=5, help="the first is not timed")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=256)
    return p.parse_args()


def load(path):
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(**where)


def prepare_qat(model, scheme):
    """Fake quantization of the blocks' linears: int8 weights per channel, or int4 in groups of
    32, with int8 tokens (asymmetric: torchao has no other). The version of torchao."""
    import torchao
    from torchao.quantization import quantize_
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig
    weight = {"w8a8": {"dtype": torch.int8, "granularity": "per_channel"},
              "8da4w": {"dtype": torch.int4, "group_size": 32}}[scheme]
    tokens = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    config = QATConfig(activation_config=tokens, step="prepare",
                       weight_config=IntxFakeQuantizeConfig(**weight))
    quantize_(model, config, lambda module, name: isinstance(module, torch.nn.Linear)
              and "lm_head" not in name)
    return f", torchao {torchao.__version__}"


def batches(tokenizer, o):
    """Token ids [batch, length + 1], one batch for each step."""
    need = o.batch * o.length + 1
    text = o.text.read_text(encoding="utf-8")[:16 * need * o.steps]
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) < need:
        raise SystemExit(f"{o.text}: {len(ids)} tokens, a batch takes {need}")
    for step in range(o.steps):
        first = step * (need - 1) % (len(ids) - need + 1)
        part = ids[first:first + need]
        yield part[:-1].view(o.batch, o.length), part[1:].view(o.batch, o.length)


def loss_of(model, inputs, labels, precision):
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())


def train_step(model, optimizer, inputs, labels, precision):
    loss = loss_of(model, inputs, labels, precision)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def main():
    o = arguments()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    model, tokenizer = load(o.model)
    training = o.mode == "train"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if o.scheme != "none":
        versions += prepare_qat(model, o.scheme)
    model.train(training)
    if o.compile:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0, fused=True)
    seconds = []
    for inputs, labels in batches(tokenizer, o):
        start = time.perf_counter()
        if training:
            train_step(model, optimizer, inputs, labels, o.precision)
        else:
            with torch.inference_mode():
                loss_of(model, inputs, labels, o.precision).item()
        seconds.append(time.perf_counter() - start)
    timed = seconds[2 if o.compile else 1:] or seconds[-1:]
    tokens = o.batch * o.length
    print(json.dumps({
        "tokens_per_second": tokens * len(timed) / sum(timed),
        "best_tokens_per_second": tokens / min(timed),
        "first_seconds": seconds[0],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": versions,
    }))


if __name__ == "__main__":
    main()
