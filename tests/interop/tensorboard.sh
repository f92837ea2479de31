#!/bin/sh
# A small run with the tracker tensorboard, read by TensorBoard's own reader.
#   PYTHON   of an environment with the package tensorboard; default: python3
#   QAT_RUN  default: qat-run; with QATRUN_PLUGIN_PATH where it is not installed
# Exit 1 where they differ, 77 without TensorBoard.
set -u
QAT_RUN=${QAT_RUN:-qat-run}
here=$(cd "$(dirname "$0")" && pwd) || exit 99
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE

seq 1 3000 >"$work/text"
cat >"$work/p.yaml" <<END
qatrun: 1
name: board
output: $work/board
model: {family: gpt2, init: random, tokenizer: bytes, config: {vocab_size: 256, n_embd: 64,
  n_layer: 1, n_head: 4, n_positions: 64}}
trackers: [tensorboard]
data: {text: {dataset: text, files: [$work/text], length: 32, limit: 40}}
schemes: {w: {quantizer: int4, group_size: 32}}
sites: {deploy: [{match: layers, weight: w}]}
steps:
  - {task: train, from: base, as: control, data: text, steps: 30, batch: 2}
  - {task: quantize, from: control, sites: deploy, as: ptq}
  - {task: train, from: base, sites: deploy, as: qat, data: text, steps: 30, batch: 2,
     evaluate: {data: text, every: 10}}
  - {task: evaluate, of: [base, control, ptq, qat], data: text}
  - {task: compare, of: [qat], ptq: ptq, control: control, data: text}
END
timeout 300 "$QAT_RUN" --quiet "$work/p.yaml" >/dev/null || exit 1
timeout 300 "${PYTHON:-python3}" "$here/tensorboard.py" "$work/board"
