#!/bin/sh
# Going on: a run that was stopped, by a signal or by its end, and resumed leaves what an
# uninterrupted one leaves, byte for byte; a torn checkpoint is skipped; and a pipeline
# that would make something else is refused by name.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
make_text "$dir/text"
pipeline whole >"$dir/p.yaml"
pass "$dir/p.yaml" || finish

# stopped SIGNAL FOLDER STEP N: there, asked to stop by a signal
stopped() {
	start "$dir/p.yaml" --set "output=$2"
	until_step "$2" "$3" "$4" || return
	kill -"$1" "$pid"
	ended
	checks=$((checks + 1))
	[ $code -eq 130 ] || fail "$1 at $3, $4: exit $code: $(cat "$dir/stderr")"
	grep -q 'interrupted after .*--resume goes on' "$dir/stderr" ||
		fail "$1 at $3, $4: $(cat "$dir/stderr")"
	[ "$(wc -l <"$dir/stderr")" -eq 1 ] || fail "$1: more than a line: $(cat "$dir/stderr")"
}

# by a signal, at several steps, on another number of threads
n=0
for at in 'INT 0 1' 'TERM 0 7' 'INT 0 20' 'TERM 1 2' 'INT 1 11' 'TERM 1 24'; do
	set -- $at
	n=$((n + 1))
	stopped "$1" "$dir/at$n" "$2" "$3"
	threads=$((n % 2 + 1))
	resumes "$dir/at$n" "$dir/p.yaml" --set device.threads=$threads
	equal "stopped by $at, resumed on $threads threads" "$dir/whole" "$dir/at$n"
done

# twice in one step
stopped INT "$dir/twice" 1 5
start --resume "$dir/p.yaml" --set "output=$dir/twice"
until_step "$dir/twice" 1 15 && kill -INT "$pid"
ended
resumes "$dir/twice" "$dir/p.yaml"
equal "stopped twice" "$dir/whole" "$dir/twice"

# in an evaluation while training, again and again; in one that is a step
start "$dir/p.yaml" --set "output=$dir/judging"
for at in 6 12 18 24; do
	until_step "$dir/judging" 1 $at && kill -TERM "$pid"
	ended
	same "asked to stop at evaluation $at" "$code" 130
	start --resume "$dir/p.yaml" --set "output=$dir/judging"
done
ended
same "after evaluations" "$code" 0
equal "stopped at evaluations" "$dir/whole" "$dir/judging"
start "$dir/p.yaml" --set "output=$dir/late"
while kill -0 "$pid" 2>/dev/null && ! grep -q '"step":2,' "$dir/late/events.jsonl" 2>/dev/null; do
	:
done
kill -TERM "$pid"
ended
same "asked to stop while evaluating" "$code" 130
grep -q 'interrupted .*: --resume ' "$dir/stderr" || fail "evaluating: $(cat "$dir/stderr")"
resumes "$dir/late" "$dir/p.yaml" && equal "stopped while evaluating" "$dir/whole" "$dir/late"

# a second Ctrl-C ends it at once, whatever it was writing
start "$dir/p.yaml" --set "output=$dir/hasty"
until_step "$dir/hasty" 1 9 && kill -INT "$pid" && sleep 0.02 && kill -INT "$pid"
ended
same "Ctrl-C twice" "$code" 130
resumes "$dir/hasty" "$dir/p.yaml" && equal "Ctrl-C twice" "$dir/whole" "$dir/hasty"

# what stays: of a finished step, the best checkpoint alone; it is a model, too
best=$(number "$dir/whole/results.json" steps qat best_checkpoint)
same "one checkpoint is left" "$(cd "$dir/whole" && echo checkpoints/*/[0-9]*)" "$best"
near "its loss" "$(sed -n 's/.*"optimizer_step":'"${best##*/}"',"loss":\([^,]*\),"perp.*/\1/p' \
	"$dir/whole/events.jsonl")" "$(number "$dir/whole/results.json" steps qat best_loss)" 1e-12
least=$(sed -n 's/.*"evaluation".*"loss":\([^,]*\),.*/\1/p' "$dir/whole/events.jsonl" |
	sort -g | head -1)
near "it is the lowest" "$least" "$(number "$dir/whole/results.json" steps qat best_loss)" 1e-12
pass "$dir/p.yaml" --set "output=$dir/again" --set "model={path: $dir/whole/$best, tokenizer: bytes}" \
	--set 'steps=[{task: evaluate, of: [base], data: test}]' &&
	near "it gives that loss" "$(number "$dir/again/results.json" evaluations base loss)" \
		"$least" 1e-12

# --keep: no more than asked for, and the best
stopped INT "$dir/keep" 1 23
count=$(ls -d "$dir"/keep/checkpoints/qat/[0-9]* | wc -l)
holds "checkpoints are limited" "$count >= 2 && $count <= 3"

# torn RULE FILE: the newest checkpoint is spoiled, and the one before it taken
torn() {
	rm -rf "$dir/torn"
	cp -r "$dir/keep" "$dir/torn"
	newest=$(ls "$dir/torn/checkpoints/qat" | sort -n | tail -1)
	at=$dir/torn/checkpoints/qat/$newest/$2
	eval "$1"
	resumes "$dir/torn" "$dir/p.yaml" || return
	grep -q "a torn checkpoint is skipped: .*checkpoints/qat/$newest" "$dir/stderr" ||
		fail "torn, $1: not told: $(cat "$dir/stderr")"
	equal "torn: $1" "$dir/whole" "$dir/torn"
}
torn 'size=$(wc -c <"$at"); head -c $((size - 1)) "$at" >"$dir/cut"; mv "$dir/cut" "$at"' \
	model.safetensors
torn 'printf x | dd of="$at" bs=1 seek=200000 conv=notrunc 2>/dev/null' model.safetensors
torn 'rm "$at"' model.safetensors
torn 'sed "s/\"step\": 2/\"step\": 3/; s/\"tokens\": /\"tokens\": 1/" "$at" >"$dir/cut";
	mv "$dir/cut" "$at"' checkpoint.json
torn ': >"$at"' checkpoint.json
torn 'rm "$at"' checkpoint.json
# none is left: the step begins again
torn 'for i in "$dir"/torn/checkpoints/qat/*/checkpoint.json; do : >"$i"; done' checkpoint.json

# refused CODE PATTERN ARGUMENT..: --resume says why, in a line, and changes nothing
refused() {
	checks=$((checks + 1))
	code=$1 pattern=$2
	shift 2
	facts "$dir/keep" >"$dir/before"
	timeout 100 "$run" --quiet --resume "$dir/p.yaml" --set "output=$dir/keep" "$@" \
		>"$dir/stdout" 2>"$dir/stderr" </dev/null
	[ $? -eq "$code" ] || fail "$*: not refused with $code"
	grep -q "$pattern" "$dir/stderr" || fail "$*: no \"$pattern\": $(cat "$dir/stderr")"
	[ "$(wc -l <"$dir/stderr")" -eq 1 ] || fail "$*: more than a line: $(cat "$dir/stderr")"
	facts "$dir/keep" | cmp -s - "$dir/before" || fail "$*: something changed"
}
refused 2 'steps\[0\] (train, grown): optimizer.lr was 0.003, is now 0.004: put it back, or --force' \
	--set 'steps[0].optimizer.lr=4e-3'
refused 2 'steps\[1\] (train, qat): clip was 1, is now 2: put it back, or remove .*checkpoints/qat' \
	--set 'steps[1].clip=2'
refused 2 'steps\[1\] (train, qat): schemes.w4.group_size was 32, is now 16' \
	--set 'schemes.w4.group_size=16'
refused 2 'steps\[1\] (train, qat): sites.deploy\[0\] was .*input: a8, is now .*input: none' \
	--set 'sites.deploy[0].input=none'
refused 2 'steps\[0\] (train, grown): seed was 1, is now 2' --set seed=2
refused 2 'steps\[0\] (train, grown): data.train.length was 32, is now 16' \
	--set data.train.length=16
refused 2 'steps\[0\] (train, grown): device.precision was f32, is now bf16' \
	--set device.precision=bf16
refused 2 'steps\[0\] (train, grown): model.hidden_size was 64, is now 32' \
	--set 'model.config.hidden_size=32'
refused 2 'steps\[0\] (train, grown): task was train, is now quantize' \
	--set 'steps[0]={task: quantize, from: base, sites: deploy, as: grown}'
mv "$dir/text" "$dir/text.old"
make_text "$dir/text" 399
refused 2 'steps\[0\] (train, grown): content of data.train was .*, is now' 
mv "$dir/text.old" "$dir/text"
refused 2 'goes on with what is there, --force removes it: give one' --force
mv "$dir/keep/states/grown" "$dir/gone"
refused 2 'steps\[0\] (train, grown): .*states/grown, which it made, is not there'
mv "$dir/gone" "$dir/keep/states/grown"
isa=$(sed -n 's/.*"isa": "\(.*\)".*/\1/p' "$dir/whole/results.json")
if [ "$isa" != baseline ]; then
	checks=$((checks + 1))
	QATRUN_CPU_ISA=baseline
	export QATRUN_CPU_ISA
	refused 2 "instruction set was $isa, is now baseline"
	unset QATRUN_CPU_ISA
fi

# another thing that is neutral: how often checkpoints are written
resumes "$dir/keep" "$dir/p.yaml" --set 'steps[1].checkpoint={every: 1, keep: 1}' &&
	equal "other checkpoints" "$dir/whole" "$dir/keep"

# a pipeline that is done has nothing to do; one more step is done alone
cp -r "$dir/whole" "$dir/more"
before=$(cksum <"$dir/more/results.json")
resumes "$dir/more" "$dir/p.yaml"
same "nothing was done" "$(cksum <"$dir/more/results.json")" "$before"
sed '$a\  - {task: quantize, from: grown, sites: deploy, as: late}' "$dir/p.yaml" >"$dir/q.yaml"
resumes "$dir/more" "$dir/q.yaml"
same "the parent of one more" "$(number "$dir/more/results.json" states late parent)" grown
checks=$((checks + 1))
"$run" --quiet --resume "$dir/p.yaml" --set "output=$dir/more" 2>"$dir/stderr" &&
	fail "a step that is gone was not missed"
grep -q 'steps\[5\] (quantize, late) was run, and is no longer in the pipeline' "$dir/stderr" ||
	fail "a step that is gone: $(cat "$dir/stderr")"

# on nothing; on an empty folder; on what no run made
mkdir "$dir/empty" "$dir/theirs"
: >"$dir/theirs/thesis"
resumes "$dir/nothing" "$dir/p.yaml" && equal "resumed on nothing" "$dir/whole" "$dir/nothing"
resumes "$dir/empty" "$dir/p.yaml" && equal "resumed in a folder" "$dir/whole" "$dir/empty"
checks=$((checks + 1))
"$run" --quiet --resume "$dir/p.yaml" --set "output=$dir/theirs" 2>"$dir/stderr" &&
	fail "a folder that no run made was taken"
grep -q 'no run made it' "$dir/stderr" || fail "no run made it: $(cat "$dir/stderr")"

# while it runs
start "$dir/p.yaml" --set "output=$dir/locked"
until_step "$dir/locked" 0 3
checks=$((checks + 1))
"$run" --quiet --resume "$dir/p.yaml" --set "output=$dir/locked" 2>"$dir/stderr2" &&
	fail "a running output was taken"
grep -q "is in use by process $pid" "$dir/stderr2" || fail "the lock: $(cat "$dir/stderr2")"
ended
equal "another that tried" "$dir/whole" "$dir/locked"

# its lock outlives who is killed, and keeps nobody out; of several at once, one runs
start "$dir/p.yaml" --set "output=$dir/dead"
until_step "$dir/dead" 0 3 && kill -KILL "$pid"
ended 2>/dev/null
same "the lock of the dead" "$(cat "$dir/dead/lock")" "$pid"
resumes "$dir/dead" "$dir/p.yaml" && equal "the lock of the dead" "$dir/whole" "$dir/dead"
for how in --quiet --resume --force; do
	for i in 1 2 3 4; do
		"$run" --quiet $how "$dir/p.yaml" --set "output=$dir/many" >"$dir/stdout$i" \
			2>"$dir/stderr$i" </dev/null &
		eval "pid$i=\$!"
	done
	done=0
	for i in 1 2 3 4; do
		eval "wait \$pid$i"
		case $? in
		0)	done=$((done + 1)) ;;
		2)	grep -q -e 'many is in use by ' -e 'many is not empty' "$dir/stderr$i" ||
				fail "$how, several: $(cat "$dir/stderr$i")" ;;
		*)	fail "$how, several: $(cat "$dir/stderr$i")" ;;
		esac
	done
	holds "$how: some of several ran" "$done >= 1"
	equal "several with $how" "$dir/whole" "$dir/many"
done
finish
