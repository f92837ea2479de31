#!/bin/sh
# The task generate in whole runs: what it prints and records, that it says the same again,
# with any number of threads, however a prompt is cut; and what it refuses.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
make_text "$dir/text"
printf '5 and 7 make\r\n\n11 and 3 make' >"$dir/prompts"

# texts RUN: all continuations of a run, in order
texts() {
	sed -n 's/^      "text": \(.*\),$/\1/p' "$dir/$1/results.json"
}

# pipeline NAME MODEL THREADS STEP..
pipeline() {
	begin "$1" "$2" | sed "s/^device:.*//"
	cat <<-END
	device: {threads: $3}
	schemes:
	  w4: {quantizer: int4, group_size: 32}
	  a8: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w4, input: a8}]
	steps:
	END
	shift 3
	for step; do
		echo "  - $step"
	done
}

round='{task: quantize, from: base, sites: deploy, as: ptq}'
greedy='{task: generate, of: [base, ptq], prompts: ["7 and 9", "é{"], max_new_tokens: 12'
drawn="$greedy, temperature: 0.9, top_k: 40, top_p: 0.95"

# ---- what is recorded and printed ----
pipeline greedy "$llama" 1 "$round" \
	"$greedy, file: $dir/prompts, dump: {path: ids.safetensors}}" >"$dir/greedy.yaml"
pass "$dir/greedy.yaml" || finish
r=$dir/greedy/results.json
for key in prompt text prompt_tokens tokens tokens_per_second finish_reason; do
	checks=$((checks + 1))
	[ -n "$(number "$r" generations ptq $key)" ] || fail "generations: no $key"
done
same "tokens" "$(number "$r" generations ptq tokens)" 12
same "prompt tokens" "$(number "$r" generations ptq prompt_tokens)" 7
same "finish" "$(number "$r" generations ptq finish_reason)" length
same "texts" "$(texts greedy | wc -l | tr -d ' ')" 8
same "no text is missing" "$(texts greedy | grep -c null)" 0
same "prompts are printed once" "$(grep -c '^> ' "$dir/stdout")" 4
same "the file's first prompt" "$(sed -n '/^> 5/p' "$dir/stdout")" "> 5 and 7 make"
same "states below them" "$(grep -c '^base: 12 tokens, length' "$dir/stdout")" 4
checks=$((checks + 1))
[ -s "$dir/greedy/ids.safetensors" ] || fail "no dump"
greedy_texts=$(texts greedy | sed -n '1,2p;5,6p')

# ---- the same again, with other threads and chunks ----
pipeline drawn "$llama" 1 "$round" "$drawn}" "$drawn, seed: 1}" "$drawn, seed: 2}" \
	"$greedy}" >"$dir/drawn.yaml"
pass "$dir/drawn.yaml" || finish
all=$(texts drawn)
part() { printf '%s\n' "$all" | sed -n "$1p"; }
same "the run's seed" "$(part 1,4)" "$(part 5,8)"
same "greedy once more" "$(part 13,16)" "$greedy_texts"
checks=$((checks + 1))
[ "$(part 1,4)" != "$(part 9,12)" ] || fail "another seed says the same"
checks=$((checks + 1))
[ "$(part 1,4)" != "$(part 13,16)" ] || fail "sampling says what greedy says"
for threads in 2 3 4; do
	pass "$dir/drawn.yaml" --set "device.threads=$threads" \
		--set "steps[1].chunk=$threads" || finish
	same "with $threads threads" "$(texts drawn)" "$all"
done

# ---- ends ----
pipeline ends "$gpt2" 2 \
	'{task: generate, of: [base], prompts: ["a"], max_new_tokens: 63}' \
	'{task: generate, of: [base], prompts: ["a"], max_new_tokens: 63, top_k: 1, temperature: 5}' \
	'{task: generate, of: [base], prompts: ["a"], max_new_tokens: 4, stop: ["x", "b", "c"]}' \
	>"$dir/ends.yaml"
pass "$dir/ends.yaml"
same "the most likely of one" "$(texts ends | sed -n 1p)" "$(texts ends | sed -n 2p)"

# ---- refused before anything runs ----
# refuse WHAT STEP: exit 2, and the message says WHAT
refuse() {
	checks=$((checks + 1))
	rm -rf "$dir/no"
	pipeline no "$llama" 1 "$2" >"$dir/no.yaml"
	timeout 100 "$run" --quiet "$dir/no.yaml" >"$dir/stdout" 2>"$dir/stderr" </dev/null
	code=$?
	[ $code -eq 2 ] || fail "$2: exit $code"
	grep -q "$1" "$dir/stderr" || fail "$2: $(cat "$dir/stderr")"
	[ ! -e "$dir/no/results.json" ] || fail "$2: something ran"
}
refuse "prompt 2 has 3 tokens.*context of 64" \
	'{task: generate, of: [base], prompts: ["a", "abc"], max_new_tokens: 62}'
refuse "prompt 1 is empty" '{task: generate, of: [base], prompts: [""]}'
refuse "nothing to go on from" '{task: generate, of: [base]}'
refuse "has a BOS token" '{task: generate, of: [base], prompts: ["a"], add_bos: true}'
refuse "missing.txt" '{task: generate, of: [base], file: missing.txt}'
refuse "stop: an empty text" '{task: generate, of: [base], prompts: ["a"], stop: [""]}'
refuse "temperature" '{task: generate, of: [base], prompts: ["a"], temperature: -1}'
refuse "results.json" \
	'{task: generate, of: [base], prompts: ["a"], max_new_tokens: 4, dump: {path: results.json}}'
finish
