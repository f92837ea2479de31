"""How fast qat-run trains and evaluates, beside this machine's ceiling and PyTorch.

    SMOLLM2=model.gguf BENCH_DATA=folder make bench [PEER_PYTHON=python with torch]

Rounds of all cases in turn (ours, the peer's, ours ...), so that neighbours of a virtual
machine disturb both alike. Prints a table of medians, and ratios of two runs of the same
round; --targets holds them against what is aimed at, --json has all of it. Exits with 77
where SMOLLM2 or BENCH_DATA is not set (not DATA, which make has a use of its own for).

Share of the ceiling: seconds that the products of matrices would take at the ceiling of
their type, over the seconds taken. For a token, with P weights in the blocks' linears and
V x C in the head,
    training    6 P + 6 V C operations (forward, and twice as many backward)
    evaluation  2 P + 2 V C
of which W8A8 and int4 do the blocks' 2 P of the forward pass in int8, w8a8-int8 the 4 P of
the backward pass too, and the rest in bf16; int4w, with codes for weights alone, does all in
bf16. Products of attention are not counted.
"""
import argparse
import collections
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import kit
from kit import CASES, megabytes, spread, table

RUNS = ["train f32", "train bf16", "train w8a8", "train w8a8-int8", "train int4", "train int4w",
        "evaluate f32", "evaluate bf16", "evaluate w8a8", "evaluate int4", "evaluate int4w"]

# kind of peer: {our case: precision, torchao's scheme}. The first two hold QAT against
# training in full precision.
PLAIN = {name: (case.precision, "none") for name, case in CASES.items()}
SCHEMES = {"w8a8": "w8a8", "w8a8-int8": "w8a8", "int4": "8da4w", "int4w": "4w"}
QAT = {name: ("bf16", scheme) for name, scheme in SCHEMES.items()}
PEERS = {"eager": PLAIN, "compiled": PLAIN, "qat": QAT, "qat-compiled": QAT,
         "qat-f32": {name: ("f32", scheme) for name, scheme in SCHEMES.items()}}

# Ours over another: our own run, or that of a kind of peer. least: the ratio is at least
# `wanted`, else at most.
Target = collections.namedtuple("Target", "name other key wanted least", defaults=[True])
SPEED, MEMORY = "tokens_per_second", "peak_bytes"
QUANTIZED = ["train w8a8", "train w8a8-int8", "train int4"]
TARGETS = [
    Target("train bf16", "compiled", SPEED, 1.2),
    Target("train w8a8", "train bf16", SPEED, 1.15),
    Target("train w8a8-int8", "train bf16", SPEED, 1.4),
    Target("train int4", "train bf16", SPEED, 1.0),
    *(Target(name, "qat-compiled", SPEED, 2.0) for name in QUANTIZED),
    *(Target(name, "qat-f32", SPEED, 5.0) for name in QUANTIZED),
    *(Target(name, "qat-compiled", MEMORY, 0.6, least=False) for name in QUANTIZED),
    Target("evaluate w8a8", "evaluate bf16", SPEED, 1.5),
    Target("evaluate int4", "evaluate bf16", SPEED, 1.5),
]

# First losses of ours and of a peer without quantization agree to this share.
LOSS_TOLERANCE = 0.01


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    kit.add_options(p)
    p.add_argument("--ceiling", default="bench/ceiling", help="the program of ceiling.c")
    p.add_argument("--models", "--model", default="smollm2",
                   help="of: " + ", ".join(kit.MODELS) + " (of random weights)")
    p.add_argument("--peer-python", default="", help="with torch and transformers; none: no peer")
    p.add_argument("--peers", default="eager", help="kinds, of: " + ", ".join(PEERS)
                   + " (compilation takes minutes each time)")
    p.add_argument("--batches", type=int, default=12, help="of evaluation; the first is not timed")
    p.add_argument("--only", default="", help="cases, as in \"train bf16,evaluate f32\"")
    p.add_argument("--targets", action="store_true", help="print what is aimed at, and reached")
    p.add_argument("--json", default="bench.json", help="file of all figures")
    o = p.parse_args()
    o.runs, o.peers, o.models = (
        [word.strip() for word in given.split(",")]
        for given in (o.only or ",".join(RUNS), o.peers, o.models))
    for given, known in ((o.runs, RUNS), (o.peers, PEERS), (o.models, kit.MODELS)):
        unknown = [g for g in given if g not in known]
        if unknown:
            p.error(f"unknown {unknown[0]!r}, of: {', '.join(known)}")
    if o.steps < 2 or o.batches < 2 or o.rounds < 1:
        p.error("steps and batches must be 2 at least, rounds 1")
    return o


# ---- the ceiling ----

def measure_ceiling(o):
    """{kind: {threads: 1e9 operations a second}} and the instructions."""
    rates, names = {}, {}
    for line in kit.run([o.ceiling, str(o.threads)]).splitlines():
        kind, threads, rate, name = line.split("\t")
        rates.setdefault(kind, {})[int(threads)] = float(rate)
        names[kind] = name
    return rates, names


def token_seconds(run, model, ceiling):
    """Of a token at the ceiling, whose figures are in 1e9 operations a second."""
    mode, case = run.split()
    case = CASES[case]
    passes = {"train": [case.forward, case.backward, case.backward],
              "evaluate": [case.forward]}[mode]
    if not {case.precision, *passes} <= ceiling.keys():
        return None
    return 1e-9 * sum(2 * model.blocks / ceiling[kind] + 2 * model.head / ceiling[case.precision]
                      for kind in passes)


# ---- runs ----

def peers_of(o, name):
    """{kind: (mode, precision, scheme, compiled)} of one of our runs."""
    mode, case = name.split()
    return {kind: (mode, *PEERS[kind][case], kind.endswith("compiled")) for kind in o.peers
            if case in PEERS[kind] and (mode == "train" or PEERS[kind] is PLAIN)}


def peer_name(which):
    mode, precision, scheme, compiled = which
    return " ".join([mode, precision] + [scheme] * (scheme != "none") + ["compiled"] * compiled)


def peer(o, model, which):
    mode, precision, scheme, compiled = which
    options = {"model": model.path, "text": f"{o.data}/wikitext-2/{kit.FILES[mode]}", "mode": mode,
               "precision": precision, "scheme": scheme, "threads": o.threads,
               "steps": o.steps if mode == "train" else o.batches,
               "batch": o.batch, "length": o.length}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    words += ["--compile"] * compiled + ["--bytes"] * (model.tokenizer == "bytes")
    out = kit.run([o.peer_python, str(Path(__file__).with_name("peer.py")), *words])
    return json.loads(out.splitlines()[-1])


def one_round(o, model, number):
    """Ours, and each peer where this round has not run it yet."""
    figures = {"ours": {}, "peer": {}, "ceiling": measure_ceiling(o)[0]}
    for name in o.runs:
        kit.say_progress(f"{model.name}, round {number + 1} of {o.rounds}: {name}")
        figures["ours"][name] = kit.ours(o, model, name)
        for which in peers_of(o, name).values() if o.peer_python else ():
            if peer_name(which) not in figures["peer"]:
                kit.say_progress(f"    beside {peer_name(which)}")
                figures["peer"][peer_name(which)] = peer(o, model, which)
    figures["load"] = os.getloadavg()[0]
    return figures


# ---- what it says ----


def ratios(rounds, name, other, key, side="peer"):
    """Ours over the other, which may be ours too, in each round."""
    return [r["ours"][name][key] / r[side][other][key] for r in rounds]


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


def say_ours(o, model, rounds, best):
    rows = [["", "tokens/s", "peak MB", "predicted MB", "of ceiling", "first loss"]]
    for name in o.runs:
        at = [r["ours"][name] for r in rounds]
        speeds = [a[SPEED] for a in at]
        floor = token_seconds(name, model, best)
        share = f"{100 * floor * statistics.median(speeds):.0f} %" if floor else "-"
        rows.append([name, spread(speeds), megabytes([a[MEMORY] for a in at]),
                     megabytes([a["predicted_peak_bytes"] for a in at]), share,
                     f"{at[0]['first_loss']:.4f}"])
    print()
    table(rows)


def say_own_ratios(o, model, rounds, best):
    """What quantization costs or gains, and would gain if products at their ceilings were all."""
    rows = [["", "against", "speed", "at the ceilings", "memory"]]
    for name in o.runs:
        mode, case = name.split()
        if CASES[case].weight and f"{mode} bf16" in o.runs:
            speed, memory = (spread(ratios(rounds, name, f"{mode} bf16", key, "ours"), "{:.2f}")
                             for key in (SPEED, MEMORY))
            floors = [token_seconds(which, model, best) for which in (f"{mode} bf16", name)]
            rows.append([name, f"{mode} bf16", speed,
                         f"{floors[0] / floors[1]:.2f}" if all(floors) else "-", memory])
    if rows[1:]:
        print("\nours over our own bf16, in the same round")
        table(rows)


def say_peer(o, rounds):
    if not rounds[0]["peer"]:
        print("\nno peer: PEER_PYTHON names a python with torch, transformers and gguf")
        return
    versions = {p["versions"] for p in rounds[0]["peer"].values()}
    print(f"\npeer: {max(versions, key=len)}")
    rows = [["", "tokens/s", "peak MB", "first step, s", "first loss"]]
    for name in rounds[0]["peer"]:
        at = [r["peer"][name] for r in rounds]
        rows.append([name, spread([a[SPEED] for a in at]), megabytes([a[MEMORY] for a in at]),
                     spread([a["first_seconds"] for a in at]), f"{at[0]['first_loss']:.4f}"])
    table(rows)
    print("\nours over the peer's, in the same round")
    rows = [["", "against", "speed", "memory"]]
    for name in o.runs:
        for other in map(peer_name, peers_of(o, name).values()):
            rows.append([name, other] + [spread(ratios(rounds, name, other, key), "{:.2f}")
                                         for key in (SPEED, MEMORY)])
    table(rows)


def warn_losses(o, rounds):
    """Where ours and a peer, both without quantization, do not begin with the same loss."""
    for name in o.runs:
        if CASES[name.split()[1]].weight:
            continue
        for other in {peer_name(which) for which in peers_of(o, name).values()}:
            off = abs(ratios(rounds, name, other, "first_loss")[0] - 1.0)
            if not off <= LOSS_TOLERANCE:
                print(f"\nWARNING: first losses of our {name} and of the peer's {other} differ "
                      f"by {100 * off:.1f} %: they do not train the same")


def target_ratios(o, rounds, target):
    """None where the two were not run."""
    if target.name not in o.runs:
        return None
    if target.other in rounds[0]["ours"]:
        return ratios(rounds, target.name, target.other, target.key, "ours")
    which = peers_of(o, target.name).get(target.other)
    if not which or peer_name(which) not in rounds[0]["peer"]:
        return None
    return ratios(rounds, target.name, peer_name(which), target.key)


def say_targets(o, rounds):
    rows = [["", "against", "", "target", "reached", ""]]
    for t in TARGETS:
        at = target_ratios(o, rounds, t)
        row = [t.name, t.other if t.other in RUNS else f"{t.other} peer",
               {SPEED: "speed", MEMORY: "memory"}[t.key], f"{'>=' if t.least else '<='} {t.wanted}"]
        if at:
            reached = statistics.median(at)
            met = reached >= t.wanted if t.least else reached <= t.wanted
            row += [spread(at, "{:.2f}"), "met" if met else "missed"]
        rows.append(row if at else row + ["not measured", ""])
    print("\ntargets")
    table(rows)


# ---- a model ----

def measure(o, model):
    """Its table, and all figures."""
    began, load = time.time(), os.getloadavg()[0]
    names = measure_ceiling(o)[1]
    rounds = [one_round(o, model, i) for i in range(o.rounds)]
    loads = [load] + [r["load"] for r in rounds]
    device = rounds[0]["ours"][o.runs[0]]["device"] or kit.processor()
    print(f"\n{model.name}: {kit.processor()}: {device}; batch {o.batch} x {o.length}, "
          f"{o.threads} threads, {o.rounds} rounds")
    print(f"load average {min(loads):.1f}-{max(loads):.1f} (ours is {o.threads}); "
          f"{time.time() - began:.0f} s; median (least-most)\n")
    best = say_ceiling(o, rounds, names)
    say_ours(o, model, rounds, best)
    say_own_ratios(o, model, rounds, best)
    say_peer(o, rounds)
    if rounds[0]["peer"]:
        warn_losses(o, rounds)
    if o.targets:
        say_targets(o, rounds)
    return {"device": device, "loads": loads, "instructions": names, "rounds": rounds,
            "weights": {"blocks": model.blocks, "head": model.head}}


def main():
    o = arguments()
    makers, needs = zip(*(kit.MODELS[name] for name in o.models))
    if kit.say_missing("bench", [*sum(needs, []), "BENCH_DATA"]):
        return kit.SKIPPED
    o.data = kit.variable_path("BENCH_DATA")
    figures = {"processor": kit.processor(), "threads": o.threads, "batch": o.batch,
               "length": o.length, "models": {}}
    with tempfile.TemporaryDirectory(prefix="qatrun-bench-") as folder:
        for make in makers:
            model = make(o, folder)
            figures["models"][model.name] = measure(o, model)
            Path(o.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
