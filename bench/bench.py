"""How fast qat-run trains and evaluates, beside this machine's ceiling and PyTorch.

    SMOLLM2=model.gguf BENCH_DATA=folder make bench [PEER_PYTHON=python with torch]

Rounds of all cases in turn (ours, the peer's, ours ...), so that neighbours of a virtual
machine disturb both alike. Prints a table of medians, and ratios of ours to the peer's in
the same round; --json has all of it. Exits with 77 where SMOLLM2 or BENCH_DATA is not set
(not DATA, which make has a use of its own for).

Share of the ceiling: seconds that the products of matrices would take at the ceiling of
their type, over the seconds taken. For a token, with P weights in the blocks' linears and
V x C in the head,
    training    6 P + 6 V C operations (forward, and twice as many backward)
    evaluation  2 P + 2 V C
of which W8A8 and int4 do the blocks' 2 P of the forward pass in int8 and the rest in bf16.
Products of attention are not counted.
"""
import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = 77

# name: precision, quantizer of weights, type of the blocks' forward products
CASES = {
    "f32": ("f32", None, "f32"),
    "bf16": ("bf16", None, "bf16"),
    "w8a8": ("bf16", "{quantizer: int8, granularity: channel}", "int8"),
    "int4": ("bf16", "{quantizer: int4, group_size: 32}", "int8"),
}
RUNS = ["train f32", "train bf16", "train w8a8", "train int4",
        "evaluate f32", "evaluate bf16", "evaluate w8a8", "evaluate int4"]

# kind of peer: {our case: precision, torchao's scheme}. The first two hold QAT against
# training in full precision.
PLAIN = {"f32": ("f32", "none"), "bf16": ("bf16", "none"),
         "w8a8": ("bf16", "none"), "int4": ("bf16", "none")}
QAT = {"w8a8": ("bf16", "w8a8"), "int4": ("bf16", "8da4w")}
PEERS = {"eager": PLAIN, "compiled": PLAIN, "qat": QAT, "qat-compiled": QAT,
         "qat-f32": {"w8a8": ("f32", "w8a8"), "int4": ("f32", "8da4w")}}

PIPELINE = """qatrun: 1
name: bench
seed: 1
model: {{path: "{model}"}}
device: {{precision: {precision}, threads: {threads}}}
data:
  train: {{dataset: text, files: ["{data}/wikitext-2/valid.txt"], length: {length}}}
  test: {{dataset: text, files: ["{data}/wikitext-2/test.txt"], length: {length}, limit: {limit}}}
"""
SCHEMES = """schemes:
  w: {weight}
  a: {{quantizer: int8, granularity: token}}
sites:
  deploy:
    - {{match: "layers.*.{{attn,mlp}}", weight: w, input: a}}
"""
TRAIN = """  - {{task: train, from: base, {sites}as: out, data: train, steps: {steps},
     batch: {batch}, optimizer: {{name: adamw, lr: 2e-5, weight_decay: 0.0}},
     schedule: {{name: constant}}}}
"""
QUANTIZE = "  - {task: quantize, from: base, sites: deploy, as: ptq}\n"
EVALUATE = "  - {{task: evaluate, of: [{state}], data: test, batch: {batch}}}\n"


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--qat-run", default="qat-run")
    p.add_argument("--ceiling", default="bench/ceiling", help="the program of ceiling.c")
    p.add_argument("--peer-python", default="", help="with torch and transformers; none: no peer")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=256)
    p.add_argument("--peers", default="eager", help="kinds, of: " + ", ".join(PEERS)
                   + " (compilation takes minutes each time)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=6, help="of training; the first is not timed")
    p.add_argument("--batches", type=int, default=12, help="of evaluation, likewise")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", default="", help="cases, as in \"train bf16,evaluate f32\"")
    p.add_argument("--json", default="bench.json", help="file of all figures")
    o = p.parse_args()
    o.runs = [r.strip() for r in o.only.split(",")] if o.only else RUNS
    o.peers = [k.strip() for k in o.peers.split(",")]
    for given, known in ((o.runs, RUNS), (o.peers, PEERS)):
        unknown = [g for g in given if g not in known]
        if unknown:
            p.error(f"unknown {unknown[0]!r}, of: {', '.join(known)}")
    if o.steps < 2 or o.batches < 2 or o.rounds < 1:
        p.error("steps and batches must be 2 at least, rounds 1")
    return o


# ---- the model ----

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


def model_weights(path):
    """Weights in the linears of all blocks, and in the head."""
    v = gguf_values(path)
    family = v["general.architecture"].decode()

    def get(key):
        return v[f"{family}.{key}"]

    width, hidden, heads = (get("embedding_length"), get("feed_forward_length"),
                            get("attention.head_count"))
    kv_width = width // heads * get("attention.head_count_kv")
    block = 2 * width * width + 2 * width * kv_width + 3 * width * hidden
    return get("block_count") * block, v["tokenizer.ggml.tokens"] * width


def token_seconds(run, weights, ceiling):
    """Of a token at the ceiling, whose figures are in 1e9 operations a second."""
    mode, case = run.split()
    blocks, head = weights
    precision, _, forward = CASES[case]
    if precision not in ceiling or forward not in ceiling:
        return None
    passes = 3 if mode == "train" else 1
    return 1e-9 * (2 * blocks / ceiling[forward]
                   + (2 * blocks * (passes - 1) + 2 * head * passes) / ceiling[precision])


# ---- runs ----

def run(command, env=None):
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, command))}: status {done.returncode}\n"
                         f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def measure_ceiling(o):
    """{kind: {threads: 1e9 operations a second}} and the instructions."""
    rates, names = {}, {}
    for line in run([o.ceiling, str(o.threads)]).splitlines():
        kind, threads, rate, name = line.split("\t")
        rates.setdefault(kind, {})[int(threads)] = float(rate)
        names[kind] = name
    return rates, names


def pipeline(o, name):
    mode, case = name.split()
    precision, weight, _ = CASES[case]
    text = PIPELINE.format(model=o.model, data=o.data, precision=precision, threads=o.threads,
                           length=o.length, limit=o.batches * o.batch)
    if weight:
        text += SCHEMES.format(weight=weight)
    text += "steps:\n"
    if mode == "train":
        sites = "sites: deploy, " if weight else ""
        return text + TRAIN.format(sites=sites, steps=o.steps, batch=o.batch)
    if weight:
        text += QUANTIZE
    return text + EVALUATE.format(state="ptq" if weight else "base", batch=o.batch)


def ours(o, name):
    folder = Path(tempfile.mkdtemp(prefix="qatrun-bench-"))
    try:
        file = folder / "bench.yaml"
        file.write_text(pipeline(o, name))
        run([o.qat_run, "--quiet", "--set", f"output={folder / 'out'}", str(file)])
        results = json.loads((folder / "out" / "results.json").read_text())
    finally:
        shutil.rmtree(folder)
    step = results["steps"][-1]
    o.device = results["machine"].get("device", o.device)
    speed = results["evaluations"][-1] if name.startswith("evaluate") else step
    return {"tokens_per_second": speed["tokens_per_second"], "peak_bytes": step["peak_bytes"],
            "predicted_peak_bytes": step.get("predicted_peak_bytes")}


def peers_of(o, name):
    """{kind: (mode, precision, scheme, compiled)} of one of our runs."""
    mode, case = name.split()
    return {kind: (mode, *PEERS[kind][case], kind.endswith("compiled")) for kind in o.peers
            if case in PEERS[kind] and (mode == "train" or PEERS[kind] is PLAIN)}


def peer_name(which):
    mode, precision, scheme, compiled = which
    return " ".join([mode, precision] + [scheme] * (scheme != "none") + ["compiled"] * compiled)


def peer(o, which):
    mode, precision, scheme, compiled = which
    text = "valid.txt" if mode == "train" else "test.txt"
    steps = (o.steps if mode == "train" else o.batches) + compiled
    out = run([o.peer_python, str(Path(__file__).with_name("peer.py")), "--model", o.model,
               "--text", f"{o.data}/wikitext-2/{text}", "--mode", mode, "--precision", precision,
               "--steps", str(steps), "--threads", str(o.threads), "--scheme", scheme,
               "--batch", str(o.batch), "--length", str(o.length)] + ["--compile"] * compiled)
    return json.loads(out.splitlines()[-1])


def one_round(o, number):
    """Ours, and each peer where this round has not run it yet."""
    figures = {"ours": {}, "peer": {}, "ceiling": measure_ceiling(o)[0]}
    for name in o.runs:
        print(f"round {number + 1} of {o.rounds}: {name}", file=sys.stderr, flush=True)
        figures["ours"][name] = ours(o, name)
        for which in peers_of(o, name).values() if o.peer_python else ():
            if peer_name(which) not in figures["peer"]:
                print(f"    beside {peer_name(which)}", file=sys.stderr, flush=True)
                figures["peer"][peer_name(which)] = peer(o, which)
    figures["load"] = os.getloadavg()[0]
    return figures


# ---- what it says ----

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


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown processor"


def say_ceiling(o, rounds, names):
    best = {}
    print("ceiling, 1e9 operations a second (best of all rounds)")
    rows = [["", "1 thread", f"{o.threads} threads", "instructions"]]
    for kind, name in names.items():
        at = {t: max(r["ceiling"][kind][t] for r in rounds) for t in rounds[0]["ceiling"][kind]}
        best[kind] = at[o.threads]
        rows.append([kind, f"{at[1]:.0f}", f"{at[o.threads]:.0f}", name])
    table(rows)
    return best


def say_ours(o, rounds, best):
    rows = [["", "tokens/s", "peak MB", "predicted MB", "of ceiling"]]
    for name in o.runs:
        at = [r["ours"][name] for r in rounds]
        speeds = [a["tokens_per_second"] for a in at]
        floor = token_seconds(name, o.weights, best)
        share = f"{100 * floor * statistics.median(speeds):.0f} %" if floor else "-"
        rows.append([name, spread(speeds), megabytes([a["peak_bytes"] for a in at]),
                     megabytes([a["predicted_peak_bytes"] for a in at]), share])
    print()
    table(rows)


def say_peer(o, rounds):
    if not rounds[0]["peer"]:
        print("\nno peer: PEER_PYTHON names a python with torch, transformers and gguf")
        return
    versions = {p["versions"] for p in rounds[0]["peer"].values()}
    print(f"\npeer: {max(versions, key=len)}")
    rows = [["", "tokens/s", "peak MB", "first step, s"]]
    for name in rounds[0]["peer"]:
        at = [r["peer"][name] for r in rounds]
        rows.append([name, spread([a["tokens_per_second"] for a in at]),
                     megabytes([a["peak_bytes"] for a in at]),
                     spread([a["first_seconds"] for a in at])])
    table(rows)
    print("\nours over the peer's, in the same round")
    rows = [["", "against", "speed", "memory"]]
    for name in o.runs:
        for other in map(peer_name, peers_of(o, name).values()):
            pairs = [(r["ours"][name], r["peer"][other]) for r in rounds]
            rows.append([name, other] + [
                spread([a[key] / b[key] for a, b in pairs], "{:.2f}")
                for key in ("tokens_per_second", "peak_bytes")])
    table(rows)


def main():
    o = arguments()
    missing = [name for name in ("SMOLLM2", "BENCH_DATA") if not os.environ.get(name)]
    if missing:
        print(f"bench: skipped: {' and '.join(missing)} not set: SMOLLM2 is "
              "SmolLM2-135M-Instruct.Q4_1.gguf, BENCH_DATA a folder that has "
              "wikitext-2/{valid,test}.txt")
        return SKIPPED
    o.model, o.data = (os.path.abspath(os.environ[name]) for name in ("SMOLLM2", "BENCH_DATA"))
    o.weights = model_weights(o.model)
    o.device = processor()
    began, load = time.time(), os.getloadavg()[0]
    _, names = measure_ceiling(o)
    rounds = [one_round(o, i) for i in range(o.rounds)]
    loads = [load] + [r["load"] for r in rounds]
    print(f"\n{processor()}: {o.device}; batch {o.batch} x {o.length}, {o.threads} threads, "
          f"{o.rounds} rounds")
    print(f"load average {min(loads):.1f}-{max(loads):.1f} (ours is {o.threads}); "
          f"{time.time() - began:.0f} s; median (least-most)\n")
    best = say_ceiling(o, rounds, names)
    say_ours(o, rounds, best)
    say_peer(o, rounds)
    Path(o.json).write_text(json.dumps({
        "processor": processor(), "device": o.device, "threads": o.threads, "batch": o.batch,
        "length": o.length, "loads": loads, "instructions": names, "rounds": rounds,
        "weights": {"blocks": o.weights[0], "head": o.weights[1]}}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
