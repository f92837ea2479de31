"""Reads the event files of a run with TensorBoard's own reader, and holds them against the
run's events.jsonl and results.json.

    tensorboard.py FOLDER       the output of a run with the tracker tensorboard

Exit 1 where they differ, 77 where the package tensorboard is not there.
"""
import json
import os
import sys

sys.path.pop(0)     # this folder has a file of the package's name

try:
    from tensorboard.backend.event_processing import event_multiplexer
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)


def points(reader, run, tag):
    """[(step, value)] of a curve; a float32, as the files hold it."""
    return [(e.step, e.value) for e in reader.Scalars(run, tag)]


def expected(folder):
    """{(state, tag): [(step, value)]} from the run's own records."""
    curves = {}
    with open(os.path.join(folder, "results.json")) as f:
        results = json.load(f)
    steps = results["steps"]
    with open(os.path.join(folder, "events.jsonl")) as f:
        for line in f:
            e = json.loads(line)
            if e.get("optimizer_step") is None:
                continue
            state = e.get("state") or steps[e["step"]]["as"]
            prefix = e.get("kind") or e["task"]
            for key, value in e.items():
                if key in ("time", "step", "task", "state", "kind", "progress", "tokens",
                           "optimizer_step") or value is None:
                    continue
                curves.setdefault((state, f"{prefix}/{key}"), []).append(
                    (e["optimizer_step"], value))
    for kind, prefix in (("evaluations", "evaluate"), ("comparisons", "compare")):
        at = [i for i, s in enumerate(steps) if s["task"] == prefix]
        for row in results[kind]:
            for key in ("loss", "perplexity", "loss_delta", "recovered", "bytes_ratio"):
                if row.get(key) is not None and len(at) == 1:
                    curves.setdefault((row["state"], f"{prefix}/{row['data']}/{key}"),
                                      []).append((at[0], row[key]))
    return curves


def close(a, b):
    return len(a) == len(b) and all(
        s == t and abs(x - y) <= 1e-6 * abs(y) for (s, x), (t, y) in zip(a, b))


def main(folder):
    reader = event_multiplexer.EventMultiplexer(size_guidance={"scalars": 0, "tensors": 0})
    reader.AddRunsFromDirectory(os.path.join(folder, "tensorboard"))
    reader.Reload()
    curves = expected(folder)
    bad = 0
    for (state, tag), want in sorted(curves.items()):
        try:
            have = points(reader, state, tag)
        except KeyError:
            have = []
        if not close(have, want):
            bad += 1
            print(f"FAIL {state} {tag}: {have[:4]}.. is not {want[:4]}..")
    tables = [t for t in reader.Runs().get(".", {}).get("tensors", [])]
    with open(os.path.join(folder, "results.json")) as f:
        results = json.load(f)
    for kind in ("evaluations", "comparisons"):
        if not results[kind]:
            continue
        text = reader.Tensors(".", kind)[0].tensor_proto.string_val[0].decode() \
            if kind in tables else ""
        if text.count("\n") != len(results[kind]) + 2:
            bad += 1
            print(f"FAIL {kind}: {text!r}")
    if not curves:
        print("FAIL no curves")
        bad += 1
    print(f"{len(curves)} curves, {sum(map(len, curves.values()))} points: "
          + (f"{bad} differ" if bad else "ok"))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
