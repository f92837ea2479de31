#!/bin/sh
# moments: 8bit: training whose moments are kept in 8 bits learns as much as with f32; threads
# change no bit, an interrupted run goes on to the same, and only with the same moments; nodes
# agree with the reference; a checkpoint is smaller by what moments take.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
make_text "$dir/text"

# trains NAME MOMENTS ARGUMENT..: 60 steps
trains() {
	name=$1 moments=$2
	shift 2
	{
		begin "$name" "$llama"
		cat <<-END
		device: {threads: 1}
		schemes: {w: {quantizer: int4, group_size: 32}, x: {quantizer: int8}}
		sites: {deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]}
		steps:
		  - {task: train, from: base, sites: deploy, as: qat, data: train, steps: 60, batch: 4,
		     optimizer: {name: adamw, lr: 3e-3, moments: $moments}, checkpoint: {every: 20}}
		  - {task: evaluate, of: [qat], data: test}
		END
	} >"$dir/$name.yaml"
	pass "$dir/$name.yaml" "$@"
}

# loss NAME
loss() {
	number "$dir/$1/results.json" evaluations qat loss
}

# losses NAME FROM TO: mean of the optimizer steps' losses
losses() {
	sed -n 's/.*"optimizer_step":[0-9]*,"loss":\([^,}]*\).*/\1/p' "$dir/$1/events.jsonl" |
		sed -n "$2,$3p" | awk '{ s += $1 } END { print s / NR }'
}

# as_much A B: their states are equal
as_much() {
	checks=$((checks + 1))
	cmp -s "$dir/$1/states/qat/model.safetensors" "$dir/$2/states/qat/model.safetensors" ||
		fail "$1, $2: the states differ"
}

# size FILE
size() {
	wc -c <"$1" | tr -d ' '
}

for precision in f32 bf16; do
	set=--set=device.precision=$precision
	trains floats f32 $set
	trains codes 8bit $set
	for from in 1 16 31 46; do
		near "$precision: losses from step $from on" "$(losses codes $from $((from + 14)))" \
			"$(losses floats $from $((from + 14)))" 0.05
	done
	near "$precision: loss" "$(loss codes)" "$(loss floats)" 0.05
	holds "$precision: it learned" "$(losses codes 46 60) < $(losses codes 1 15) - 0.5"
	holds "$precision: other moments" "$(loss codes) != $(loss floats)"
	for threads in 2 3 4; do
		trains threads 8bit $set --set=device.threads=$threads
		as_much codes threads
	done
done

# Interrupted, each leaves a checkpoint: masters, and beside them a quarter of what there is
# with f32, and units.
trains floats f32
trains codes 8bit
for name in floats codes; do
	start --force --set "output=$dir/broken-$name" "$dir/$name.yaml"
	until_step "$dir/broken-$name" 0 23 && kill -TERM "$pid"
	ended
	[ $code -eq 130 ] || fail "interrupted: exit $code: $(cat "$dir/stderr")"
	eval "$name=$(size "$dir/broken-$name"/checkpoints/qat/20/model.safetensors)"
done
params=$(size "$dir/codes/states/qat/model.safetensors")
near "checkpoint" "($floats - $params) / $params" 2 0.1
near "checkpoints" "($codes - $params) / ($floats - $params)" 0.26 0.02
checks=$((checks + 1))
grep -aq '"optimizer.layers.0.attn.q.weight.2":{"dtype":"F32","shape":\[16,2\]' \
	"$dir/broken-codes/checkpoints/qat/20/model.safetensors" || fail "no units in the checkpoint"

# It goes on to the same bits; and with no other moments.
for name in floats:8bit codes:f32; do
	now=${name#*:} name=${name%:*}
	checks=$((checks + 1))
	timeout 60 "$run" --quiet --resume --set "output=$dir/broken-$name" \
		--set "steps[0].optimizer.moments=$now" "$dir/$name.yaml" >"$dir/stdout" \
		2>"$dir/stderr" </dev/null
	[ $? -eq 2 ] || fail "other moments were not refused"
	grep -q "optimizer.moments was .*, is now $now: put it back, or remove " "$dir/stderr" &&
		[ "$(wc -l <"$dir/stderr")" -eq 1 ] || fail "other moments: $(cat "$dir/stderr")"
	resumes "$dir/broken-$name" "$dir/$name.yaml"
	equal "interrupted" "$dir/$name" "$dir/broken-$name"
done

trains traced 8bit --trace --set='steps[0].steps=2' --set='steps[0].batch=2' \
	--set=data.test.limit=4
checks=$((checks + 1))
grep -q '^trace: [1-9][0-9]* nodes agree with reference' "$dir/stdout" ||
	fail "trace: $(cat "$dir/stdout")"

# refused PATTERN SETTING
refused() {
	checks=$((checks + 1))
	timeout 60 "$run" --check --set "$2" "$dir/codes.yaml" >"$dir/stdout" 2>"$dir/stderr" \
		</dev/null
	[ $? -eq 2 ] || fail "$2 was not refused"
	grep -q -e "$1" "$dir/stderr" || fail "$2: no \"$1\": $(cat "$dir/stderr")"
}
refused 'moments.*f32, 8bit' 'steps[0].optimizer.moments=bf16'
finish
