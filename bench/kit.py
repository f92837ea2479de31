"""What bench.py, scale.py and start.py share: cases, models, runs of qat-run, tables."""
import collections
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77

# Schemes of the blocks' weights and inputs, None: floats; types of their products, forward and
# backward. All else takes the precision.
Case = collections.namedtuple("Case", "precision weight input forward backward")
CHANNELS = "{quantizer: int8, granularity: channel}"
GROUPS = "{quantizer: int4, group_size: 32}"
TOKENS = "{quantizer: int8, granularity: token}"
CASES = {
    "f32": Case("f32", None, None, "f32", "f32"),
    "bf16": Case("bf16", None, None, "bf16", "bf16"),
    "w8a8": Case("bf16", CHANNELS, TOKENS, "int8", "bf16"),
    "w8a8-int8": Case("bf16", CHANNELS, TOKENS, "int8", "int8"),
    "int4": Case("bf16", GROUPS, TOKENS, "int8", "bf16"),
    "int4w": Case("bf16", GROUPS, None, "bf16", "bf16"),
}

# of a pipeline, in YAML; path for a peer; weights in the blocks' linears and in the head
Model = collections.namedtuple("Model", "name yaml path tokenizer blocks head")

PIPELINE = """qatrun: 1
name: bench
seed: 1
model: {model}
device: {{precision: {precision}, threads: {threads}}}
data:
  {mode}: {{dataset: text, files: ["{data}/wikitext-2/{file}"], length: {length}, limit: {limit}}}
"""
FILES = {"train": "valid.txt", "evaluate": "test.txt"}
SCHEMES = """schemes: {{{schemes}}}
sites:
  deploy:
    - {{match: "layers.*.{{attn,mlp}}", {sites}}}
"""
TRAIN = """  - {{task: train, from: base, {options}as: out, data: train, steps: {steps},
     batch: {batch}, optimizer: {{name: adamw, lr: 2e-5, weight_decay: 0.0}},
     schedule: {{name: constant}}}}
"""
QUANTIZE = "  - {task: quantize, from: base, sites: deploy, as: ptq}\n"
EVALUATE = "  - {{task: evaluate, of: [{state}], data: evaluate, batch: {batch}}}\n"
SAVE = """qatrun: 1
name: model
seed: 1
model: {model}
steps:
  - {{task: save, from: base, path: model, format: hf}}
"""


# ---- options and the environment ----

def add_options(p, **defaults):
    """Those that every program here has."""
    p.add_argument("--qat-run", default="qat-run")
    p.add_argument("--batch", type=int, default=defaults.get("batch", 4))
    p.add_argument("--length", type=int, default=defaults.get("length", 256))
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=defaults.get("steps", 6),
                   help="of training; the first is not timed")
    p.add_argument("--rounds", type=int, default=defaults.get("rounds", 3))


def say_missing(program, names):
    """Whether one of the variables that the program needs is not set."""
    what = {"SMOLLM2": "SMOLLM2 is SmolLM2-135M-Instruct.Q4_1.gguf",
            "BENCH_DATA": "BENCH_DATA is a folder that has wikitext-2/{valid,test}.txt"}
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        print(f"{program}: skipped: {' and '.join(missing)} not set: "
              + ", ".join(what[name] for name in missing))
    return bool(missing)


def variable_path(name):
    return os.path.abspath(os.environ[name])


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown processor"


# ---- models ----

def gguf_values(path):
    """Numbers of a GGUF file's header; of arrays, their length."""
    kinds = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?",
             10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as f:
        def read(kind):
            return struct.unpack("<" + kind, f.read(struct.calcsize("<" + kind)))[0]

        def value(kind):
            if kind == 8:
                return f.read(read("Q"))
            if kind != 9:
                return read(kinds[kind])
            of, count = read("I"), read("Q")
            if of == 8:
                for _ in range(count):
                    f.seek(read("Q"), os.SEEK_CUR)
            else:
                f.seek(count * struct.calcsize(kinds[of]), os.SEEK_CUR)
            return count

        if f.read(4) != b"GGUF":
            raise SystemExit(f"bench: {path} is no GGUF file")
        f.seek(4 + 8, os.SEEK_CUR)
        return {f.read(read("Q")).decode(): value(read("I")) for _ in range(read("Q"))}


def llama_block(width, hidden, heads, kv_heads):
    """Weights in the linears of a block."""
    return 2 * width * width + 2 * width * (width // heads * kv_heads) + 3 * width * hidden


def gpt2_block(width, hidden):
    return 4 * width * width + 2 * width * hidden


def smollm2(o, folder):
    path = variable_path("SMOLLM2")
    v = gguf_values(path)
    family = v["general.architecture"].decode()

    def get(key):
        return v[f"{family}.{key}"]

    width, heads = get("embedding_length"), get("attention.head_count")
    block = llama_block(width, get("feed_forward_length"), heads,
                        get("attention.head_count_kv"))
    return Model("smollm2", f'{{path: "{path}"}}', path, "",
                 get("block_count") * block, v["tokenizer.ggml.tokens"] * width)


def random_yaml(family, config):
    return f"{{init: random, family: {family}, tokenizer: bytes, config: {json.dumps(config)}}}"


def random_llama(layers):
    """SmolLM2-135M's widths, with so many layers; of no path, as no peer takes it."""
    config = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
              "num_hidden_layers": layers, "num_attention_heads": 9,
              "num_key_value_heads": 3, "max_position_embeddings": 8192,
              "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
    return Model(f"random llama of {layers} layers", random_yaml("llama", config), None,
                 "bytes", layers * llama_block(576, 1536, 9, 3), 49152 * 576)


def gpt2(o, folder):
    """GPT-2 of 124 million weights from a seed, in a Hugging Face folder for both sides."""
    config = {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12,
              "n_positions": 1024, "n_inner": 3072}
    file = Path(folder) / "gpt2.yaml"
    file.write_text(SAVE.format(model=random_yaml("gpt2", config)))
    run([o.qat_run, "--quiet", "--set", f"output={folder}/gpt2", str(file)])
    path = f"{folder}/gpt2/model"
    return Model("gpt2", f'{{path: "{path}", tokenizer: bytes}}', path, "bytes",
                 12 * gpt2_block(768, 3072), 50257 * 768)


# name: (what makes it, variables that it needs)
MODELS = {"smollm2": (smollm2, ["SMOLLM2"]), "gpt2": (gpt2, [])}


# ---- runs ----

def run(command, env=None):
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, command))}: status {done.returncode}\n"
                         f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def say_progress(text):
    print(text, file=sys.stderr, flush=True)


def schemes(case):
    """Of a pipeline: the schemes of a case, w and i, and the sites that have them."""
    given = {"weight": case.weight, "input": case.input}
    given = {port: scheme for port, scheme in given.items() if scheme}
    return SCHEMES.format(
        schemes=", ".join(f"{port[0]}: {scheme}" for port, scheme in given.items()),
        sites=", ".join(f"{port}: {port[0]}" for port in given))


def train_options(case):
    """Of the train step, beyond those that all cases share."""
    given = ["sites: deploy, "] * bool(case.weight) + ["gradient_bits: 8, "] * (
        case.backward == "int8")
    return "".join(given)


def pipeline(o, model, name):
    """Training has one batch of text, again in each step, as its order is drawn by a seed
    that no peer knows."""
    mode, case = name.split()
    case = CASES[case]
    text = PIPELINE.format(model=model.yaml, mode=mode, data=o.data, file=FILES[mode],
                           precision=case.precision, threads=o.threads, length=o.length,
                           limit=o.batch * (1 if mode == "train" else o.batches))
    if case.weight:
        text += schemes(case)
    text += "steps:\n"
    if mode == "train":
        return text + TRAIN.format(options=train_options(case), steps=o.steps, batch=o.batch)
    if case.weight:
        text += QUANTIZE
    return text + EVALUATE.format(state="ptq" if case.weight else "base", batch=o.batch)


def training_events(folder):
    """The optimizer steps of a run, in order."""
    lines = (Path(folder) / "out" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [e for e in events if e["task"] == "train" and e.get("optimizer_step")]


def run_pipeline(o, text, options=()):
    """What the run left: results.json, the optimizer steps."""
    folder = Path(tempfile.mkdtemp(prefix="qatrun-bench-"))
    try:
        file = folder / "bench.yaml"
        file.write_text(text)
        run([o.qat_run, "--quiet", *options, "--set", f"output={folder / 'out'}", str(file)])
        return json.loads((folder / "out" / "results.json").read_text()), training_events(folder)
    finally:
        shutil.rmtree(folder)


def ours(o, model, name):
    """first_loss: of the model as it is loaded, the first batch of training or all that
    evaluation has."""
    results, events = run_pipeline(o, pipeline(o, model, name))
    step = results["steps"][-1]
    evaluates = name.startswith("evaluate")
    told = results["evaluations"][-1] if evaluates else step
    return {"tokens_per_second": told["tokens_per_second"], "peak_bytes": step["peak_bytes"],
            "predicted_peak_bytes": step.get("predicted_peak_bytes"),
            "first_loss": (told if evaluates else events[0])["loss"],
            "device": results["machine"].get("device")}


# ---- tables ----

def spread(values, form="{:.0f}"):
    """median (least - most)"""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{form.format(middle)} ({form.format(low)}-{form.format(high)})"


def megabytes(values):
    values = [v for v in values if v]
    return f"{statistics.median(values) / 1e6:.0f}" if values else "-"


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [c.ljust(w) if i == 0 else c.rjust(w)
                 for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def markdown(rows):
    rows = [rows[0], ["---"] * len(rows[0])] + rows[1:]
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
