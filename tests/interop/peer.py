"""What the scripts of this folder share: models, tokenizers, token sequences, dumps."""
import json
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

GGUF_CONTROL, GGUF_USER_DEFINED = 3, 4


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(pattern):
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([cut, byte_level(use_regex=False)])


def single_digits():
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])


# by the name that a GGUF file gives in tokenizer.ggml.pre
PRE_TOKENIZERS = {
    "gpt-2": byte_level,
    "smollm": single_digits,
    "llama-bpe": lambda: split(LLAMA3),
    "qwen2": lambda: split(QWEN2),
}


def gguf_tokenizer(path):
    """The tokenizer of a GGUF file. Not transformers' own conversion: that one takes
    GPT-2's pre-tokenizer for SmolLM2, and differs on runs of spaces before digits."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    get = {key: fields["tokenizer.ggml." + key].contents()
           for key in ("model", "pre", "tokens", "merges", "token_type")}
    if get["model"] != "gpt2" or get["pre"] not in PRE_TOKENIZERS:
        raise SystemExit(f"{path}: tokenizer {get['model']}/{get['pre']} is not known here")
    vocab = {token: i for i, token in enumerate(get["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in get["merges"]]
    ready = Tokenizer(models.BPE(vocab, merges, ignore_merges=get["pre"] == "llama-bpe"))
    ready.pre_tokenizer = PRE_TOKENIZERS[get["pre"]]()
    ready.decoder = decoders.ByteLevel()
    for token, kind in zip(get["tokens"], get["token_type"]):
        if kind in (GGUF_CONTROL, GGUF_USER_DEFINED):
            add = AddedToken(token, normalized=False, special=kind == GGUF_CONTROL)
            ready.add_tokens([add])
    return ready


def is_gguf(path):
    return Path(path).suffix == ".gguf"


def load_tokenizer(path):
    if is_gguf(path):
        return gguf_tokenizer(path)
    return Tokenizer.from_file(str(Path(path) / "tokenizer.json"))


def encode(path, files):
    """Ids of the files, each encoded whole, one after the other, without BOS."""
    tokenizer = load_tokenizer(path)
    ids = []
    for name in files:
        # bytes, since text mode would turn \r\n into \n
        text = Path(name).read_bytes().decode("utf-8")
        ids += tokenizer.encode(text, add_special_tokens=False).ids
    return torch.tensor(ids, dtype=torch.int32)


def sequences(ids, length, limit=None):
    """[n, length + 1]: sequence i is ids[i*length .. i*length+length], both included."""
    count = max(0, (len(ids) - 1) // length)
    if limit is not None:
        count = min(count, limit)
    if count == 0:
        raise SystemExit(f"{len(ids)} tokens do not make one sequence of length {length}")
    return torch.stack([ids[i * length:i * length + length + 1] for i in range(count)])


def wide_rms_norm(self, x):
    """RMSNorm in the dtype of x; transformers' goes through float32."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def load_model(path, dtype=torch.float32):
    """Float64 widens everything but the rotation's cos and sin, which stay rounded to
    float32: they are constants of the model."""
    from transformers import AutoModelForCausalLM

    where = Path(path)
    if is_gguf(path):
        model = AutoModelForCausalLM.from_pretrained(
            str(where.parent), gguf_file=where.name, dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(str(where), dtype=torch.float32)
    model = model.to(dtype).eval()
    if dtype == torch.float64:
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.forward = types.MethodType(wide_rms_norm, module)
    return model


def nll(logits, labels):
    """Negative log likelihood of each label, in float64."""
    return torch.nn.functional.cross_entropy(
        logits.double().flatten(0, 1), labels.long().flatten(), reduction="none"
    ).view(labels.shape)


def save(path, tensors, **metadata):
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, str(path), metadata={"format": "pt", **metadata})


def report(**numbers):
    print(json.dumps(numbers, indent=1))
