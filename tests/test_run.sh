#!/bin/sh
# A whole run: base, training, quantization, training for it, evaluation, comparison, save;
# and what it leaves in results.json, events.jsonl and the folders.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
make_text "$dir/text"

{
	begin chain "$llama"
	cat <<-'END'
	device: {threads: 1}
	schemes:
	  w4: {quantizer: int4, group_size: 32}
	  a8: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w4, input: a8}]
	settings:
	  - &fit {data: train, steps: 16, batch: 2, accumulate: 2, clip: 1.0,
	      optimizer: {name: adamw, lr: 1e-3, weight_decay: 0.0},
	      schedule: {name: cosine, warmup: 4}, evaluate: {data: test, every: 8}}
	steps:
	  - {task: train, from: base, as: grown, data: train, steps: 60, batch: 4,
	     optimizer: {name: adamw, lr: 3e-3}}
	  - {task: quantize, from: grown, sites: deploy, as: early}
	  - {task: train, from: grown, as: control, <<: *fit}
	  - {task: quantize, from: control, sites: deploy, as: ptq}
	  - {task: train, from: grown, sites: deploy, as: qat, <<: *fit}
	  - {task: evaluate, of: [base, grown, early, control, ptq, qat], data: test}
	  - {task: evaluate, of: [qat], data: test,
	     dump: {path: said.safetensors, what: [tokens, nll, logits]}}
	  - {task: compare, of: [qat, early], ptq: ptq, control: control, data: test}
	  - {task: save, from: qat, path: saved}
	END
} >"$dir/chain.yaml"

pass "$dir/chain.yaml" || finish
r=$dir/chain/results.json

# every key that a script may ask for
has() {
	list=$1 name=$2
	shift 2
	for key; do
		checks=$((checks + 1))
		[ -n "$(number "$r" "$list" "$name" "$key")" ] || fail "$list: $name has no $key"
	done
}
for state in base grown early control ptq qat; do
	has states $state parent bytes effective_bits tokens_trained
	has evaluations $state data width precision loss perplexity tokens token_accuracy \
		tokens_per_second
done
for step in grown early control ptq qat evaluate compare save; do
	has steps $step task as seconds tokens tokens_per_second peak_bytes predicted_peak_bytes recompute
done
for row in qat early; do
	has comparisons $row loss_delta loss_delta_stderr perplexity_ratio bytes_ratio recovered
done
for key in qatrun numerics name seed machine; do
	checks=$((checks + 1))
	grep -q "^  \"$key\": " "$r" || fail "results.json has no $key"
done
same "numerics" "$(sed -n 's/^  "numerics": \(.*\),/\1/p' "$r")" 1

loss() { number "$r" evaluations "$1" loss; }
bytes() { number "$r" states "$1" bytes; }
base=$(loss base) grown=$(loss grown) early=$(loss early) control=$(loss control)
ptq=$(loss ptq) qat=$(loss qat)

# losses
near "base knows nothing" "$base" "log(256)" 0.3
holds "training helps" "$grown < $base - 1"
holds "more helps more" "$control < $grown"
holds "training for the scheme helps" "$qat < $early"
holds "the scheme costs something" "$ptq != $control"
for state in base qat; do
	near "perplexity of $state" "$(number "$r" evaluations $state perplexity) / \
		exp($(loss $state))" 1 1e-12
	same "tokens of $state" "$(number "$r" evaluations $state tokens)" 512
done

# the comparison, from the losses
row() { number "$r" comparisons "$1" "$2"; }
for state in qat early; do
	of=$(loss $state)
	near "loss_delta of $state" "$(row $state loss_delta)" "$of - $control" 1e-12
	near "recovered by $state" "$(row $state recovered)" \
		"($ptq - $of) / ($ptq - $control)" 1e-9
	near "perplexity_ratio of $state" "$(row $state perplexity_ratio)" \
		"exp($of - $control)" 1e-12
	near "bytes_ratio of $state" "$(row $state bytes_ratio)" \
		"$(bytes $state) / $(bytes control)" 1e-12
	holds "stderr of $state" "$(row $state loss_delta_stderr) > 0"
done

# Bytes by hand. Floats: embed and lm_head of 256 x 64, five norms of 64. At sites, in two
# layers: q, o 64 x 64; k, v 32 x 64; gate, up, down 96 x 64.
floats=$(((2 * 256 * 64 + 5 * 64) * 4))
weights=$((2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64)))
same "bytes of base" "$(bytes base)" $((floats + weights * 4))
same "bytes of control" "$(bytes control)" $((floats + weights * 4))
for state in early ptq qat; do
	same "bytes of $state" "$(bytes $state)" $((floats + weights / 2 + weights / 32 * 4))
	same "bits of $state" "$(number "$r" states $state effective_bits)" 5.0
done
same "bits of control" "$(number "$r" states control effective_bits)" null
size=$(wc -c <"$dir/chain/saved/model.safetensors")
holds "the saved file has these bytes" "$size >= $(bytes qat) && $size < $(bytes qat) + 8192"

# who came from whom, and what they saw
same "parent of base" "$(number "$r" states base parent)" null
same "parent of qat" "$(number "$r" states qat parent)" grown
same "parent of ptq" "$(number "$r" states ptq parent)" control
same "tokens of grown" "$(number "$r" states grown tokens_trained)" $((60 * 4 * 32))
same "tokens of qat" "$(number "$r" states qat tokens_trained)" $((60 * 4 * 32 + 16 * 4 * 32))
same "tokens of the step" "$(number "$r" steps qat tokens)" $((16 * 4 * 32))
holds "memory was predicted" "$(number "$r" steps qat predicted_peak_bytes) > 0"

# events: one line an optimizer step, losses that fall, evaluations in between
e=$dir/chain/events.jsonl
same "optimizer steps" "$(grep -c '"step":4,.*"optimizer_step":[0-9]*,"loss"' "$e")" 18
field() { sed -n "$2" "$e" | sed "s/.*\"$1\":\([^,}]*\).*/\1/"; }
first=$(field loss '/"step":0,.*"optimizer_step":1,/p')
last=$(field loss '/"step":0,.*"optimizer_step":60,/p')
holds "the loss falls in training" "$last < $first - 1"
near "warm-up" "$(field lr '/"step":4,.*"optimizer_step":1,.*"lr"/p')" 2.5e-4 1e-12
during=$(field loss '/"step":4,.*"evaluation".*"optimizer_step":16,/p')
near "evaluation while training is evaluation of the state" "$during" "$qat" 1e-12

# dumps: an 8-byte length, the header, then nothing but the tensors
dump=$dir/chain/said.safetensors
length=$(od -A n -t d8 -N 8 "$dump" | tr -d ' ')
same "size of the dump" "$(wc -c <"$dump" | tr -d ' ')" \
	$((8 + length + 4 * (16 * 33 + 16 * 32 + 16 * 32 * 256)))

# codes, and no floats beside them
checks=$((checks + 1))
grep -q 'layers.0.attn.q.weight.codes' "$dir/chain/saved/model.safetensors" ||
	fail "no codes were saved"
checks=$((checks + 1))
grep -q '"layers.0.attn.q.weight":' "$dir/chain/saved/model.safetensors" &&
	fail "dequantized weights were saved"

# the record runs again, and says the same
cp "$dir/chain/pipeline.yaml" "$dir/again.yaml"
pass "$dir/again.yaml" --set "output=$dir/again" &&
	same "the record run again" "$(number "$dir/again/results.json" evaluations qat loss)" \
		"$qat"
cmp -s "$dir/chain/saved/model.safetensors" "$dir/again/saved/model.safetensors" ||
	fail "the record run again saves other bytes"

# a folder for other programs: what follows from other numbers is left out, what they have
# in an inner table is there, and it is the same model
{
	begin shared "{family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256,
	  hidden_size: 64, intermediate_size: 96, num_hidden_layers: 1, num_attention_heads: 4,
	  rope_type: llama3, rope_factor: 8, rope_original_positions: 16}}"
	echo 'steps: [{task: evaluate, of: [base], data: test},
	  {task: save, from: base, format: hf, path: saved}]'
} >"$dir/shared.yaml"
pass "$dir/shared.yaml"
config=$dir/shared/saved/config.json
checks=$((checks + 2))
grep -q -e ': 0,' -e '"rope_factor"' "$config" && fail "config.json: $(grep -e ': 0,' -e rope_ "$config")"
tr -d ' \n' <"$config" | grep -q '"rope_scaling":{"rope_type":"llama3","factor":8.0,' ||
	fail "config.json has no rope_scaling"
{
	begin opened "{path: $dir/shared/saved, tokenizer: bytes}"
	echo 'steps: [{task: evaluate, of: [base], data: test}]'
} >"$dir/opened.yaml"
pass "$dir/opened.yaml"
same "loss of the folder" "$(number "$dir/opened/results.json" evaluations base loss)" \
	"$(number "$dir/shared/results.json" evaluations base loss)"

# --check runs nothing and leaves nothing
pass --check "$dir/chain.yaml" --set "output=$dir/unmade"
[ -e "$dir/unmade" ] && fail "--check made an output"
finish
