"""How the speed of training goes with length, batch, layers and threads.

    BENCH_DATA=folder make bench-scale

Trains a model of SmolLM2-135M's widths and of random weights, as speed does not depend on
them, in bf16 and in W8A8. Prints a Markdown table for each dimension and draws all of them
into one SVG. --json keeps every figure; with --keep, those that it has are not measured
again. Exits with 77 where BENCH_DATA is not set.
"""
import argparse
import collections
import json
import math
import statistics
import sys
from pathlib import Path

import kit

# and their colors
CASES = {"bf16": "#1f6fb4", "w8a8": "#c4501b"}

Point = collections.namedtuple("Point", "length batch layers threads")
BASE = Point(length=256, batch=4, layers=30, threads=2)
# of length, as many tokens in each batch
DIMENSIONS = {
    "length": [BASE._replace(length=n, batch=2048 // n) for n in (128, 256, 512, 1024, 2048)],
    "batch": [BASE._replace(batch=n) for n in (1, 2, 4, 8, 16)],
    "layers": [BASE._replace(layers=n) for n in (7, 15, 30, 60)],
    "threads": [BASE._replace(threads=n) for n in (1, 2)],
}
TITLES = {"length": "tokens of a sequence (batches of 2048 tokens)",
          "batch": "sequences of a batch", "layers": "layers", "threads": "threads"}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--qat-run", default="qat-run")
    p.add_argument("--steps", type=int, default=3, help="of training; the first is not timed")
    p.add_argument("--rounds", type=int, default=1, help="the median counts")
    p.add_argument("--only", default=",".join(DIMENSIONS), help="dimensions")
    p.add_argument("--json", default="scale.json", help="file of all figures")
    p.add_argument("--keep", action="store_true", help="what that file has is not run again")
    p.add_argument("--svg", default="scaling.svg", help="the plot")
    o = p.parse_args()
    o.only = [word.strip() for word in o.only.split(",")]
    unknown = [word for word in o.only if word not in DIMENSIONS]
    if unknown:
        p.error(f"unknown {unknown[0]!r}, of: {', '.join(DIMENSIONS)}")
    if o.steps < 2 or o.rounds < 1:
        p.error("steps must be 2 at least, rounds 1")
    return o


# ---- runs ----

def key_of(case, point):
    """Of a measured point in the file of figures."""
    return " ".join([case] + [f"{name}={value}" for name, value in point._asdict().items()])


def measure(o, case, point):
    work = argparse.Namespace(**vars(o), **point._asdict())
    return kit.ours(work, kit.random_llama(point.layers), f"train {case}")


def measure_all(o, figures):
    """Adds what is missing: each point once a round, cases in turn."""
    points = dict.fromkeys(p for name in o.only for p in DIMENSIONS[name])
    missing = {key_of(case, p): (case, p) for p in points for case in CASES
               if key_of(case, p) not in figures}
    found = {key: [] for key in missing}
    for number in range(o.rounds):
        for i, (key, (case, point)) in enumerate(missing.items()):
            kit.say_progress(f"round {number + 1} of {o.rounds}, {i + 1} of {len(missing)}: {key}")
            found[key].append(measure(o, case, point))
            if number + 1 == o.rounds:
                figures[key] = found[key]
                Path(o.json).write_text(json.dumps(figures, indent=1) + "\n")


def series(figures, case, name):
    """[(value of the dimension, tokens a second, bytes)] of what is measured."""
    at = [(getattr(p, name), figures.get(key_of(case, p))) for p in DIMENSIONS[name]]
    return [(x, *(statistics.median(f[key] for f in found)
                  for key in ("tokens_per_second", "peak_bytes"))) for x, found in at if found]


# ---- tables ----

def say_table(figures, name):
    all_series = [series(figures, case, name) for case in CASES]
    what = [f"{case}, {unit}" for case in CASES for unit in ("tokens/s", "peak MB")]
    rows = [[TITLES[name], *what, "w8a8 over bf16"]]
    for points in zip(*all_series):
        cells = [f"{value:.0f}" for _, speed, size in points for value in (speed, size / 1e6)]
        rows.append([str(points[0][0])] + cells + [f"{points[1][1] / points[0][1]:.2f}"])
    print()
    kit.markdown(rows)


# ---- the plot: a panel for each dimension, both axes logarithmic ----

PANEL = (380, 270)		# with its margins
MARGIN = {"left": 56, "right": 18, "top": 30, "bottom": 44}


def ticks(low, high):
    """1, 2 and 5 times powers of ten, from below the low end to above the high one."""
    steps = [m * 10 ** e for e in range(-1, 9) for m in (1, 2, 5)]
    first = max(s for s in steps if s <= low)
    last = min(s for s in steps if s >= high)
    return [s for s in steps if first <= s <= last]


def scaler(low, high, begin, end):
    """From low .. high, by logarithms, to begin .. end."""
    span = math.log(high / low) or 1.0
    return lambda v: begin + (end - begin) * math.log(v / low) / span


def text(x, y, words, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}</text>'


def line(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def dot(x, y, case):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{CASES[case]}"/>'


def axes(name, values, speeds, across, up):
    """Grid, ticks and titles of a panel."""
    (left, bottom), (right, top) = ((across(values[0]), up(speeds[0])),
                                    (across(values[-1]), up(speeds[-1])))
    out = []
    for v in values:
        out += [line(across(v), bottom, across(v), top),
                text(across(v), bottom + 16, v, 'text-anchor="middle"')]
    for s in speeds:
        out += [line(left, up(s), right, up(s)),
                text(left - 6, up(s) + 4, f"{s:g}", 'text-anchor="end"')]
    middle = (left + right) / 2
    out.append(text(middle, bottom + 34, TITLES[name], 'text-anchor="middle"'))
    out.append(text(left - 40, top - 12, "tokens a second"))
    return out + legend(right, top - 12)


def curve(case, points, across, up):
    at = [(across(x), up(speed)) for x, speed, _ in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return ([f'<polyline points="{path}" fill="none" stroke="{CASES[case]}" stroke-width="2"/>']
            + [dot(x, y, case) for x, y in at])


def legend(right, y):
    out = []
    for case in reversed(CASES):
        out += [text(right, y, case, 'text-anchor="end"'), dot(right - 40, y - 4, case)]
        right -= 60
    return out


def panel(figures, name, left, top):
    data = {case: series(figures, case, name) for case in CASES}
    values = [x for x, _, _ in data["bf16"]]
    speeds = [speed for points in data.values() for _, speed, _ in points]
    marks = ticks(min(speeds), max(speeds))
    across = scaler(values[0], values[-1], left + MARGIN["left"],
                    left + PANEL[0] - MARGIN["right"])
    up = scaler(marks[0], marks[-1], top + PANEL[1] - MARGIN["bottom"], top + MARGIN["top"])
    out = axes(name, values, marks, across, up)
    for case, points in data.items():
        out += curve(case, points, across, up)
    return out


def drawing(figures):
    """Panels two in a row, of the dimensions that are measured."""
    names = [n for n in DIMENSIONS if all(len(series(figures, case, n)) > 1 for case in CASES)]
    width, height = 2 * PANEL[0], (len(names) + 1) // 2 * PANEL[1]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}" font-family="sans-serif" font-size="12" '
           'fill="#333333">', f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for i, name in enumerate(names):
        out += panel(figures, name, i % 2 * PANEL[0], i // 2 * PANEL[1])
    return "\n".join(out + ["</svg>", ""])


def main():
    o = arguments()
    if kit.say_missing("scale", ["BENCH_DATA"]):
        return kit.SKIPPED
    o.data = kit.variable_path("BENCH_DATA")
    kept = Path(o.json)
    figures = json.loads(kept.read_text()) if o.keep and kept.exists() else {}
    measure_all(o, figures)
    print(f"{kit.processor()}; training, {BASE.batch} x {BASE.length} tokens, {BASE.layers} "
          f"layers and {BASE.threads} threads where the table has no other")
    for name in o.only:
        say_table(figures, name)
    Path(o.svg).write_text(drawing(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
