"""How long qat-run takes to begin.

    SMOLLM2=model.gguf BENCH_DATA=folder make bench-start

load to first step: from the start of the program to the end of the first training step, less
the median of later steps, which leaves what is done once: reading the model, checking,
planning, memory that is touched for the first time. The files are in memory: the first run is
not counted. help: the time of `qat-run --help`, with that of starting a process. Medians, with
the least and the most. Exits with 77 where SMOLLM2 or BENCH_DATA is not set.
"""
import argparse
import statistics
import subprocess
import sys
import time

import kit
from kit import spread

CASES = ["f32", "bf16", "w8a8"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    kit.add_options(p, batch=1, length=128, steps=4, rounds=5)
    p.add_argument("--helps", type=int, default=50, help="runs of --help")
    o = p.parse_args()
    if o.steps < 2 or o.rounds < 1 or o.helps < 1:
        p.error("steps must be 2 at least, rounds and helps 1")
    return o


def help_seconds(o):
    began = time.perf_counter()
    subprocess.run([o.qat_run, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def load_seconds(o, model, case):
    """Up to the first step, and of a step. Events have the time of day, hence the same here."""
    text = kit.pipeline(o, model, f"train {case}")
    began = time.time()
    ends = [e["time"] for e in kit.run_pipeline(o, text)[1]]
    step = statistics.median(b - a for a, b in zip(ends, ends[1:]))
    return ends[0] - began - step, step


def main():
    o = arguments()
    if kit.say_missing("start", ["SMOLLM2", "BENCH_DATA"]):
        return kit.SKIPPED
    o.data = kit.variable_path("BENCH_DATA")
    model = kit.smollm2(o, None)
    helps = [1e3 * help_seconds(o) for _ in range(o.helps + 1)][1:]
    rows = [["", "load to first step, s", "a later step, s"]]
    for case in CASES:
        kit.say_progress(f"train {case}")
        found = [load_seconds(o, model, case) for _ in range(o.rounds + 1)][1:]
        rows.append([f"train {case}"] + [spread(at, "{:.2f}") for at in zip(*found)])
    print(f"{kit.processor()}; batch {o.batch} x {o.length}, {o.threads} threads")
    print(f"qat-run --help: {spread(helps, '{:.1f}')} ms\n")
    kit.table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
