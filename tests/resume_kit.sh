# resume_kit.sh - what the tests of checkpoints and --resume share; sourced after e2e_kit.sh.

# The pipeline of these tests, NAME under $dir: two steps of training, one of them for a
# scheme and with evaluations, and what else a run has.
pipeline() {
	begin "$1" "$llama"
	cat <<-'END'
	device: {threads: 1}
	schemes:
	  w4: {quantizer: int4, group_size: 32}
	  a8: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w4, input: a8}]
	steps:
	  - {task: train, from: base, as: grown, data: train, steps: 24, batch: 4,
	     optimizer: {name: adamw, lr: 3e-3}, checkpoint: {every: 5, keep: 2}}
	  - {task: train, from: grown, sites: deploy, as: qat, data: train, steps: 30, batch: 4,
	     accumulate: 2, optimizer: {name: adamw, lr: 2e-3}, schedule: {name: cosine, warmup: 4},
	     checkpoint: {every: 4, keep: 2}, evaluate: {data: test, every: 6}}
	  - {task: evaluate, of: [base, grown, qat], data: test}
	  - {task: evaluate, of: [qat], data: test, dump: {path: said.safetensors}}
	  - {task: save, from: qat, path: saved}
	END
}

# facts FOLDER: all that a run says, but for times and memory: two runs of one pipeline on
# one machine have the same.
facts() {
	(
		cd "$1" || exit
		find states saved said.safetensors checkpoints -type f ! -name best.json \
			! -name checkpoint.json 2>/dev/null | LC_ALL=C sort | xargs cksum
		sed -e '/"seconds"/d; /tokens_per_second/d; /peak_bytes/d; /"threads"/d' \
			-e '/"device"/d; s/,$//' results.json
		grep '"optimizer_step":[0-9]' events.jsonl | sed -e 's/"time":[^,]*,//' \
			-e 's/"tokens_per_second":[^,]*,//; s/,"memory":[^}]*//'
	)
}

# equal WHAT FOLDER FOLDER
equal() {
	checks=$((checks + 1))
	facts "$2" >"$dir/facts1"
	facts "$3" >"$dir/facts2"
	[ -s "$dir/facts1" ] && cmp -s "$dir/facts1" "$dir/facts2" && return
	fail "$1: $2 and $3 differ"
	diff "$dir/facts1" "$dir/facts2" | head -20
	return 1
}

# start ARGUMENT..: in the background; its process is $pid
start() {
	"$run" --quiet "$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null &
	pid=$!
}

# ended: waits for it; its exit code is $code
ended() {
	wait "$pid"
	code=$?
}

# until_step FOLDER STEP N: waits until events.jsonl tells of optimizer step N of a step
until_step() {
	while kill -0 "$pid" 2>/dev/null; do
		grep -q "\"step\":$2,.*\"optimizer_step\":$3,\"loss\"" "$1/events.jsonl" \
			2>/dev/null && return
	done
	fail "the run ended before its step $2, $3"
	cat "$dir/stderr"
	return 1
}

# resumes FOLDER ARGUMENT..: --resume must succeed
resumes() {
	checks=$((checks + 1))
	folder=$1
	shift
	timeout 100 "$run" --quiet --resume --set "output=$folder" "$@" \
		>"$dir/stdout" 2>"$dir/stderr" </dev/null
	code=$?
	[ $code -eq 0 ] && return
	fail "--resume $folder $*: exit $code"
	cat "$dir/stderr"
	return 1
}
