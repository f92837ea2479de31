#!/bin/sh
# Every allocation of a small run of all tasks fails once, each in a run of its own: no crash,
# exit 1 or 2 with one message that speaks of memory, nothing half-written, nothing lost.
# `make check` tries a sample; ALLOC_ALL=1 tries all, ALLOC_FROM=n begins there.
# ALLOC_SECONDS: each of the three pipelines gets at most so many.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
grep -q -e '-fsanitize' "$top_builddir/Makefile" &&
	{ echo "skipped: sanitizers have an allocator of their own"; exit 77; }
preload=$top_builddir/tests/.libs/fail_alloc.so
[ -e "$preload" ] || { echo "skipped: no $preload"; exit 77; }
case $preload in
/*) ;;
*) preload=$PWD/$preload ;;
esac
# the program itself: libtool's wrapper is a shell script, which allocates as well
program=$top_builddir/core/.libs/qat-run
[ -x "$program" ] || program=$run
make_text "$dir/text" 30

cat >"$dir/p.yaml" <<END
qatrun: 1
name: memory
output: $dir/out
model: {family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256, hidden_size: 32,
  intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, tie_word_embeddings: true}}
device: {threads: 1}
data:
  train: {dataset: text, files: [$dir/text], length: 8, limit: 4}
schemes:
  w: {quantizer: int4, group_size: 32}
  x: {quantizer: int8, granularity: tensor, dynamic: false}
sites: {deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]}
steps:
  - {task: calibrate, from: base, sites: deploy, data: train, as: ranged}
  - {task: train, from: ranged, sites: deploy, as: qat, data: train, steps: 1, batch: 1}
  - {task: quantize, from: ranged, sites: deploy, as: ptq}
  - {task: evaluate, of: [ptq, qat], data: train, dump: {what: [nll]}}
  - {task: compare, of: [qat], ptq: ptq, control: base, data: train}
  - {task: save, from: qat, path: saved}
  - {task: save, from: base, path: hf, format: hf}
END

# A model in a folder, with a tokenizer of letters: what others wrote is read.
cat >"$dir/loaded.yaml" <<END
qatrun: 1
name: loaded
output: $dir/out
model: {path: $dir/model}
device: {threads: 1}
data:
  lines: {dataset: jsonl, files: [$dir/lines.jsonl], length: 8}
steps:
  - {task: evaluate, of: [base], data: lines, batch: 1}
  - {task: generate, of: [base], prompts: [the cat], max_new_tokens: 1}
END
cat >"$dir/lines.jsonl" <<'END'
{"text": "the thing that is longer than sixteen bytes"}
{"input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, 4]}
END
make_tokenizer() {
	awk 'BEGIN {
		byte_level = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
		printf "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 28, \"content\": "
		printf "\"<|end_of_a_text|>\", \"special\": true}], \"pre_tokenizer\": %s,\n", byte_level
		printf " \"decoder\": %s, \"model\": {\"type\": \"BPE\", \"vocab\": {", byte_level
		for (i = 0; i < 26; i++)
			printf "\"%s\": %d, ", substr("abcdefghijklmnopqrstuvwxyz", i + 1, 1), i
		printf "\"\\u0120\": 26, \"th\": 27}, \"merges\": [[\"t\", \"h\"]]}}\n"
	}'
}

# fails N PIPELINE [ARGUMENT]: the run in which allocation N fails; 0: none
fails() {
	timeout 60 env LD_PRELOAD="$preload" FAIL_ALLOC_AT="$1" FAIL_ALLOC_REPORT="$dir/report" \
		LD_LIBRARY_PATH="$top_builddir/core/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
		"$program" --quiet "$2" ${3:+"$3"} >"$dir/stdout" 2>"$dir/stderr" </dev/null
}

# lost: a place that has left more than it leaves in a run that goes well
lost() {
	awk 'NR == FNR { left[$1] = $2; next }
	     $1 != "count" && $2 > left[$1] + 0 { print $1, $2, left[$1] + 0 }' \
		"$dir/$2" "$dir/report" >"$dir/lost"
	[ ! -s "$dir/lost" ] || fail "allocation $1: lost: $(tr '\n' ';' <"$dir/lost") $(cat "$dir/stderr")"
}

# whole: nothing but finished folders and files
whole() {
	find "$dir/out" -name '*.tmp-*' -o -name '*.new' 2>/dev/null | grep -q . &&
		fail "allocation $1 leaves $(find "$dir/out" -name '*.tmp-*' -o -name '*.new')"
	for state in "$dir"/out/states/* "$dir/out/saved"; do
		[ ! -d "$state" ] || [ -s "$state/state.json" -a -s "$state/model.safetensors" ] ||
			fail "allocation $1: $state is not whole"
	done
}

# try N PIPELINE REFERENCE
try() {
	checks=$((checks + 1))
	rm -rf "$dir/out"
	fails "$1" "$2"
	code=$?
	case $code in
	0) ;;	# done without: a hint, a message
	1|2) [ "$(wc -l <"$dir/stderr")" -eq 1 ] && grep -q '^qat-run: ' "$dir/stderr" ||
		fail "allocation $1: exit $code says: $(cat "$dir/stderr")" ;;
	*) fail "allocation $1: exit $code: $(cat "$dir/stderr")"; return ;;
	esac
	[ $code -eq 0 ] || grep -q -i -e memory "$dir/stderr" || cmp -s "$dir/stderr" "$dir/$3.says" ||
		fail "allocation $1 is not told of: $(cat "$dir/stderr")"
	whole "$1"
	lost "$1" "$3"
}

# sweep PIPELINE REFERENCE SAMPLES CODE SECONDS: the code, where nothing fails; at most so long
sweep() {
	checks=$((checks + 1))
	rm -rf "$dir/out"
	fails 0 "$1"
	code=$?
	[ $code -eq "$4" ] || { fail "exit $code: $(cat "$dir/stderr")"; finish; }
	cp "$dir/report" "$dir/$2"
	cp "$dir/stderr" "$dir/$2.says"
	total=$(sed -n 's/^count //p' "$dir/$2")
	[ "${total:-0}" -gt 100 ] || { fail "only \"$total\" allocations are counted"; finish; }
	step=$((total / $3 + 1))
	[ -z "$ALLOC_ALL" ] || step=1
	n=${ALLOC_FROM:-1}
	began=$(date +%s)
	while [ $n -le $total ] && [ $(($(date +%s) - began)) -lt "${ALLOC_SECONDS:-$5}" ]; do
		try $n "$1" "$2"
		n=$((n + step))
	done
	echo "$2: $total allocations, one in $step tried, up to $((n - step))"
}
[ -z "$ALLOC_ALL" ] || ALLOC_SECONDS=${ALLOC_SECONDS:-86400}
sed 's/^device.*/&\nsettings: {a: \&a [1, {b: 2}], c: *a}/; s/as: ptq}/as: prq}/' "$dir/p.yaml" >"$dir/refused.yaml"
sweep "$dir/refused.yaml" refused 60 2 15
sweep "$dir/p.yaml" whole 240 0 40
rm -rf "$dir/out"
fails 0 "$dir/p.yaml" && cp -r "$dir/out/hf" "$dir/model" && make_tokenizer >"$dir/model/tokenizer.json" || exit 99
sweep "$dir/loaded.yaml" loaded 100 0 20

# no room for a plugin, or for what it links with
for mib in 10 14 18 22 26 30 34 38 42 46 50 60 80 100 150 200; do
	checks=$((checks + 1))
	rm -rf "$dir/out"
	(ulimit -v $((mib * 1024)) && fails 0 "$dir/p.yaml" --check) && break
	[ "$(wc -l <"$dir/stderr")" -eq 1 ] && grep -q -i memory "$dir/stderr" ||
		fail "with $mib MiB: $(cat "$dir/stderr")"
done
finish
