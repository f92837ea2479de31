"""The peer of bench.py: PyTorch trains or evaluates a model through transformers.

    python peer.py --model model.gguf|folder --text file --mode train --precision bf16
                   [--scheme w8a8|8da4w|4w: torchao's QAT] [--compile: by torch.compile]
                   [--bytes: bytes of the text are its tokens]

Prints one line of JSON: tokens_per_second of all steps but the first (compiled: the first
two, and there is one more), best_tokens_per_second of the fastest of them, first_loss (of the
first step of training, or of all that is evaluated), first_seconds, which has the
compilation, peak_bytes (resident), versions. Training takes the first batch of the text in
every step, as ours does.
"""
import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch
import transformers


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--model", required=True, type=Path, help="GGUF file, or folder")
    p.add_argument("--text", required=True, type=Path)
    p.add_argument("--mode", choices=["train", "evaluate"], required=True)
    p.add_argument("--precision", choices=["f32", "bf16"], required=True)
    p.add_argument("--scheme", choices=["none", "w8a8", "8da4w", "4w"], default="none")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--bytes", action="store_true")
    p.add_argument("--steps", type=int, default=5, help="the first is not timed")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=256)
    return p.parse_args()


def load(path):
    """The model without dropout, which ours has not, and how it is found."""
    where = {"pretrained_model_name_or_path": str(path)}
    if path.is_file():
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model, where


def linears_of(model):
    """GPT-2's Conv1D as linears, which torchao's QAT takes no other than."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, transformers.pytorch_utils.Conv1D):
                linear = torch.nn.Linear(*module.weight.shape)
                linear.weight.data = module.weight.data.t().contiguous()
                linear.bias.data = module.bias.data
                setattr(parent, name, linear)


def prepare_qat(model, scheme):
    """Fake quantization of the blocks' linears: int8 weights per channel, or int4 in groups of
    32, with int8 tokens (asymmetric: torchao has no other) or, 4w, float ones. The version
    of torchao."""
    import torchao
    from torchao.quantization import quantize_
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig
    linears_of(model)
    channels = {"dtype": torch.int8, "granularity": "per_channel"}
    groups = {"dtype": torch.int4, "group_size": 32}
    weight = channels if scheme == "w8a8" else groups
    tokens = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    config = QATConfig(activation_config=None if scheme == "4w" else tokens, step="prepare",
                       weight_config=IntxFakeQuantizeConfig(**weight))
    quantize_(model, config, lambda module, name: isinstance(module, torch.nn.Linear)
              and "lm_head" not in name)
    return f", torchao {torchao.__version__}"


def token_ids(o, where, count):
    """The first of the text, `count` or a few more."""
    text = o.text.read_text(encoding="utf-8")[:16 * count]
    if o.bytes:
        return torch.tensor(list(text.encode()))
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])


def batches(o, where):
    """Token ids [batch, length] and what follows each, one batch for each step."""
    tokens = o.batch * o.length
    count = 1 if o.mode == "train" else o.steps
    ids = token_ids(o, where, count * tokens + 1)
    if len(ids) <= count * tokens:
        raise SystemExit(f"{o.text}: {len(ids)} tokens, {count} batches take {count * tokens + 1}")
    for step in range(o.steps + o.compile):
        part = ids[step % count * tokens:][:tokens + 1]
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
    model, where = load(o.model)
    training = o.mode == "train"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if o.scheme != "none":
        versions += prepare_qat(model, o.scheme)
    model.train(training)
    if o.compile:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0, fused=True)
    seconds, losses = [], []
    for inputs, labels in batches(o, where):
        start = time.perf_counter()
        if training:
            losses.append(train_step(model, optimizer, inputs, labels, o.precision))
        else:
            with torch.inference_mode():
                losses.append(loss_of(model, inputs, labels, o.precision).item())
        seconds.append(time.perf_counter() - start)
    timed = seconds[1 + o.compile:]
    tokens = o.batch * o.length
    print(json.dumps({
        "tokens_per_second": tokens * len(timed) / sum(timed),
        "best_tokens_per_second": tokens / min(timed),
        "first_loss": losses[0] if training else statistics.fmean(losses[:o.steps]),
        "first_seconds": seconds[0],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": versions,
    }))


if __name__ == "__main__":
    main()
