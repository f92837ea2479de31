#!/bin/sh
# Trackers: what they leave, that they change no number, and that one which fails is named
# once and stops nothing.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
make_text "$dir/text" 120
mkdir "$dir/plugins" || exit 99
cp -L "$top_builddir/tests/.libs/every.so" "$dir/plugins/tracker-flaky.so" || exit 99
chmod 755 "$dir/plugins/tracker-flaky.so"
QATRUN_PLUGIN_PATH=$QATRUN_PLUGIN_PATH:$dir/plugins
{
	begin plain "$tied"
	cat <<-'END'
	device: {threads: 1}
	schemes:
	  w4: {quantizer: int4, group_size: 32}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w4}]
	steps:
	  - {task: train, from: base, as: control, data: train, steps: 4, batch: 2}
	  - {task: quantize, from: control, sites: deploy, as: ptq}
	  - {task: train, from: base, sites: deploy, as: qat, data: train, steps: 6, batch: 2,
	     optimizer: {name: adamw, lr: 1e-3}, evaluate: {data: test, every: 3}}
	  - {task: evaluate, of: [base, control, ptq, qat], data: test}
	  - {task: compare, of: [qat], ptq: ptq, control: control, data: test}
	  - {task: save, from: qat, path: saved}
	END
} >"$dir/p.yaml"

# refusals, before anything runs
refused() {
	checks=$((checks + 1))
	pattern=$1
	shift
	timeout 60 "$run" "$dir/p.yaml" "$@" >"$dir/stdout" 2>"$dir/stderr"
	code=$?
	[ $code -eq 2 ] || fail "$*: exit $code: $(cat "$dir/stderr")"
	grep -q -e "$pattern" "$dir/stderr" || fail "$*: no \"$pattern\": $(cat "$dir/stderr")"
	[ ! -e "$dir/plain" ] || fail "$*: left an output"
}
refused 'unknown tracker "tensorbord": did you mean "tensorboard"?' --set 'trackers=[tensorbord]'
refused 'trackers\[1\]: tracker tensorboard is there twice' \
	--set 'trackers=[tensorboard, tensorboard]'
refused 'unknown option "flsh" of tracker tensorboard' \
	--set 'trackers={name: tensorboard, flsh: 1}'
refused 'trackers\[0\]: lacks "name"' --set 'trackers=[{flush: 1}]'
refused "path \"tensorboard/x\": tensorboard is the tracker's" \
	--set trackers=tensorboard --set 'steps[5].path=tensorboard/x'

pass "$dir/p.yaml" || finish
[ ! -e "$dir/plain/tensorboard" ] || fail "a tracker that nobody named"
checks=$((checks + 1))
numbers='loss|perplexity|loss_delta|recovered|bytes|token_accuracy'
grep -E "\"($numbers)\":" "$dir/plain/results.json" >"$dir/numbers"

# with SETTING NAME: the run with trackers; its numbers are the same
with() {
	pass "$dir/p.yaml" --set "trackers=$1" --set "output=$dir/$2" || return
	grep -E "\"($numbers)\":" "$dir/$2/results.json" >"$dir/other"
	checks=$((checks + 1))
	cmp -s "$dir/numbers" "$dir/other" || fail "$2: other numbers"
	cmp -s "$dir/plain/saved/model.safetensors" "$dir/$2/saved/model.safetensors" ||
		fail "$2: another model"
}

with '[tensorboard]' board
[ ! -s "$dir/stderr" ] || fail "board: $(cat "$dir/stderr")"
files() { find "$dir/board/tensorboard" -type f | sed "s|$dir/board/tensorboard/||" | LC_ALL=C sort; }
same "files" "$(files | sed 's/events.out.tfevents.[0-9]*\..*\.[0-9]*\.0$/E/' | tr '\n' ' ')" \
	"base/E control/E E ptq/E qat/E "
of_state() { cat "$dir/board/tensorboard/$1"/events.out.*; }
# count STATE TAG: how often a tag is there
count() { of_state "$1" | tr -c 'a-z_/.@0-9' '\n' | grep -c "$2\$"; }
same "losses of qat" "$(count qat train/loss)" 6
same "learning rates" "$(count qat train/lr)" 6
same "memory" "$(count qat train/memory)" 6
same "losses of control" "$(count control train/loss)" 4
same "evaluations while training" "$(count qat evaluation/loss)" 2
same "evaluations" "$(count qat evaluate/test/loss)" 1
same "of base too" "$(count base evaluate/test/perplexity)" 1
same "comparisons" "$(count qat compare/test/recovered)" 1
checks=$((checks + 1))
of_state . 2>/dev/null | grep -aq '^| qat | test |' || fail "no table of results"

# run again with --force, what was there is gone
files >"$dir/before"
with '[{name: tensorboard, flush: 0}]' board
same "files again" "$(files | wc -l)" 5
checks=$((checks + 1))
files | cmp -s - "$dir/before" && fail "the files of the first run are still there"

# flaky fails at once, later, or never opens; the other goes on
for calls in -1 0 9; do
	with "[{name: flaky, calls: $calls}, tensorboard]" flaky
	same "flaky $calls: one line" "$(wc -l <"$dir/stderr" | tr -d ' ')" 1
	checks=$((checks + 1))
	grep -q 'tracker flaky: .* the run goes on$' "$dir/stderr" ||
		fail "flaky $calls: $(cat "$dir/stderr")"
	same "flaky $calls: the other" "$(find "$dir/flaky/tensorboard" -type f | wc -l)" 5
done
# or cannot write at the end
with '[{name: flaky, calls: 1000}]' flaky
same "flaky: one line" "$(cat "$dir/stderr")" "tracker flaky: flaky cannot close"

# A run that fails says its own cause, whatever trackers say.
checks=$((checks + 1))
timeout 60 "$run" --quiet "$dir/p.yaml" --set "trackers={name: flaky, calls: 1000}" \
	--set "output=$dir/failing" --set 'steps[2].optimizer.lr=1000' \
	--set 'steps[2].clip=0' --set 'steps[2].steps=60' >"$dir/stdout" \
	2>"$dir/stderr"
same "exit" $? 1
grep -q '^qat-run: .*step [0-9]* of state qat: ' "$dir/stderr" || fail "a failing run: $(cat "$dir/stderr")"

# a front names trackers too
checks=$((checks + 1))
"$top_builddir/fronts/qat-train" m --data x --scheme int4 --tracker tensorboard --print |
	grep -qx 'trackers: \[tensorboard\]' || fail "qat-train --tracker"
finish
