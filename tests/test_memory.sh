#!/bin/sh
# Memory: what is predicted is what is used, in seven configurations; memory_limit is kept or
# refused; frozen parameters are used where they lie in their files, in less memory than they
# are long.
#
# Of a random model of 115 MB. With SMOLLM2 (a GGUF file) and DATA (a folder with wikitext-2)
# the seven configurations also of that model; with QATRUN_BIG=1 also an evaluation of a model of
# 1.6 GB in 512 MB.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
kit=$top_builddir/tests/memory_kit
make_text "$dir/text"

grep -q -e '-fsanitize' "$top_builddir/Makefile" &&
	{ echo "skipped: sanitizers take memory of their own"; exit 77; }
[ -r /proc/self/status ] || { echo "skipped: no /proc that says what memory is in use"; exit 77; }

# pipeline NAME MODEL: the parts that all begin with
pipeline() {
	cat <<-END
	qatrun: 1
	name: $1
	seed: 1
	output: $dir/$1
	model: $2
	data:
	  train: {dataset: text, files: ["$train"], length: $length}
	  test: {dataset: text, files: ["$test"], length: $length, limit: 8}
	device: {threads: 2, precision: $precision}
	schemes:
	  w: {quantizer: int4, group_size: 32}
	  x: {quantizer: int8, granularity: token, symmetric: false}
	  s: {quantizer: int8, granularity: tensor, dynamic: false}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	  static: [{match: "layers.*.{attn,mlp}", weight: w, input: s}]
	steps:
	END
}

train_step="data: train, steps: 2, batch: 4, optimizer: {name: adamw, lr: 1e-4}"
many_step="data: train, steps: 1, batch: 16, optimizer: {name: adamw, lr: 1e-4},
     evaluate: {data: test, every: 1, batch: 8}"

# measured NAME [DATA]: runs $dir/NAME.yaml, with the most bytes that were in memory in $peak;
# in DATA bytes of memory of its own
measured() {
	checks=$((checks + 1))
	timeout "${seconds:-100}" "$kit" run "$dir/peak" "${2:-0}" "$run" --force \
		"$dir/$1.yaml" >"$dir/stdout" 2>"$dir/stderr" </dev/null
	code=$?
	if [ $code -ne 0 ]; then
		fail "$1: exit $code"
		cat "$dir/stderr"
		return 1
	fi
	# each step begins with a new mark, which is the system's own, too
	outer=$(cat "$dir/peak")
	peak=$(of_steps "$dir/$1/results.json" peak_bytes)
	[ "$peak" -ge "$outer" ] || peak=$outer
}

# of_steps FILE KEY: the largest of that number over all steps
of_steps() {
	awk -v key="\"$2\":" '$1 == key && $2 + 0 > most { most = $2 + 0 }
		END { printf "%.0f\n", most }' "$1"
}

# agrees NAME: prediction and measurement, within 10 % or 64 MiB
agrees() {
	measured "$1" || return
	predicted=$(of_steps "$dir/$1/results.json" predicted_peak_bytes)
	echo "$1: predicted $((predicted >> 20)) MiB, measured $((peak >> 20)) MiB"
	holds "$1" "$predicted > 0 && ($predicted - $peak) ^ 2 <= \
		(0.1 * $peak > 67108864 ? 0.1 * $peak : 67108864) ^ 2"
}

# seven KIND FLOATS CODES: models as values of `model:`, in floats and with codes
seven() {
	precision=f32
	{ pipeline "$1-f32" "$2"; echo "  - {task: train, from: base, as: a, $train_step}"
	} >"$dir/$1-f32.yaml"
	agrees "$1-f32"
	precision=bf16
	{ pipeline "$1-bf16" "$2"; echo "  - {task: train, from: base, as: a, $train_step}"
	} >"$dir/$1-bf16.yaml"
	agrees "$1-bf16"
	precision=f32
	{ pipeline "$1-qat" "$2"
	  echo "  - {task: train, from: base, sites: deploy, as: a, $many_step}"
	} >"$dir/$1-qat.yaml"
	less "$1-qat"
	{ pipeline "$1-moments" "$2"
	  echo "  - {task: train, from: base, as: a, ${train_step%\}}, moments: 8bit}}"
	} >"$dir/$1-moments.yaml"
	agrees "$1-moments"
	{ pipeline "$1-floats" "$2"; echo "  - {task: evaluate, of: [base], data: test, batch: 4}"
	} >"$dir/$1-floats.yaml"
	agrees "$1-floats"
	{ pipeline "$1-codes" "$3"; echo "  - {task: evaluate, of: [base], data: test, batch: 4}"
	} >"$dir/$1-codes.yaml"
	agrees "$1-codes"
	{ pipeline "$1-save" "$2"
	  cat <<-END
	  - {task: calibrate, from: base, sites: static, as: c, data: test, batch: 4}
	  - {task: quantize, from: c, sites: static, as: q}
	  - {task: save, from: q, path: saved}
	END
	} >"$dir/$1-save.yaml"
	agrees "$1-save"
}

# less NAME: with a limit $save MiB below what the step takes as it is; both are compared
less() {
	measured "$1" || return
	plain=$peak
	cp "$dir/$1/states/a/model.safetensors" "$dir/plain"
	whole=$(of_steps "$dir/$1/results.json" predicted_peak_bytes)
	limit=$(((whole >> 20) - save))
	sed "s/^device: {/device: {memory_limit: ${limit}MiB, /" "$dir/$1.yaml" >"$dir/p.yaml"
	mv "$dir/p.yaml" "$dir/$1.yaml"
	agrees "$1"
	holds "$1: recompute" "$(of_steps "$dir/$1/results.json" recompute) >= 1"
	checks=$((checks + 1))
	grep -q 'memory_limit .*the backward pass computes .* again' "$dir/stderr" ||
		fail "$1: recompute goes without saying"
	holds "$1: the limit of $limit MiB is kept" "$peak <= $limit * 1048576 && $peak < $plain"
	checks=$((checks + 1))
	cmp -s "$dir/plain" "$dir/$1/states/a/model.safetensors" || fail "$1: other bits"
	rm -f "$dir/plain"
}

# evaluates NAME PRECISION MODEL [LIMIT]
evaluates() {
	precision=$2
	{ pipeline "$1" "$3"; echo "  - {task: evaluate, of: [base], data: test, batch: 4}"
	} >"$dir/$1.yaml"
	[ -z "$4" ] || sed -i "s/^device: {/device: {memory_limit: $4, /" "$dir/$1.yaml"
}

# loss NAME
loss() {
	number "$dir/$1/results.json" evaluations base loss
}

train=$dir/text
test=$dir/text
length=64
precision=f32

# 28.5 million parameters: in our own format, for others, with codes; in f32 and bf16
wide='{family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256,
  hidden_size: 768, intermediate_size: 2048, num_hidden_layers: 4, num_attention_heads: 12,
  num_key_value_heads: 12, max_position_embeddings: 64, tie_word_embeddings: false}}'
{ pipeline models "$wide"
	cat <<-END
  - {task: quantize, from: base, sites: deploy, as: coded}
  - {task: save, from: base, path: floats}
  - {task: save, from: base, path: hub, format: hf}
	END
} >"$dir/models.yaml"
pass "$dir/models.yaml" || finish
floats="{path: $dir/models/floats, tokenizer: bytes}"
codes="{path: $dir/models/states/coded, tokenizer: bytes}"
hub="{path: $dir/models/hub, tokenizer: bytes}"
halves="{path: $dir/models/halves, tokenizer: bytes}"
mkdir "$dir/models/halves"
cp "$dir/models/hub/config.json" "$dir/models/halves"
"$kit" halve "$dir/models/hub/model.safetensors" "$dir/models/halves/model.safetensors" ||
	fail "memory_kit halve"
bytes=$(wc -c <"$dir/models/floats/model.safetensors")

save=32
seven small "$floats" "$codes"

# Parameters in f32 and bf16 are mapped: they do not count as data of the process.
for precision in f32 bf16; do
	for kind in hub halves; do
		eval "model=\$$kind"
		evaluates "$kind-$precision" $precision "$model"
		agrees "$kind-$precision"
		measured "$kind-$precision" $((bytes * 3 / 4))
	done
	near "$precision: hub, halves" "$(loss hub-$precision)" "$(loss halves-$precision)" 1e-2
	holds "halves are half" "$peak < $bytes / 2 + 48 * 1048576"
done

# In less memory than they take: pages leave it, and weights are packed again and again.
evaluates tight f32 "$floats" 64MiB
measured tight
holds "tight: 64 MiB are kept" "$peak <= 64 * 1048576"
same "tight: loss" "$(loss tight)" "$(loss small-floats)"
limit=$(($(of_steps "$dir/small-codes/results.json" predicted_peak_bytes) - (10 << 20)))
evaluates anew f32 "$codes" $limit
measured anew
holds "anew: $limit are kept" "$peak <= $limit"
same "anew: loss" "$(loss anew)" "$(loss small-codes)"
checks=$((checks + 1))
grep -q 'memory_limit .*packed anew' "$dir/stderr" || fail "anew: goes without saying"

# Below any possible need: refused before anything is there.
sed 's/memory_limit: [^,]*,/memory_limit: 32MiB,/' "$dir/small-qat.yaml" >"$dir/refused.yaml"
rm -rf "$dir/small-qat"
checks=$((checks + 1))
"$run" "$dir/refused.yaml" >"$dir/stdout" 2>"$dir/stderr" </dev/null
code=$?
[ $code -eq 2 ] && [ ! -e "$dir/small-qat" ] || fail "refused: exit $code"
grep -q 'needs about [0-9.]* MiB.*memory_limit allows (32.0 MiB): a smaller batch' \
	"$dir/stderr" || fail "refused: $(cat "$dir/stderr")"

# 411 million parameters in 512 MB
if [ -n "$QATRUN_BIG" ]; then
	seconds=1000
	{ pipeline make-big "$(echo "$wide" | sed 's/hidden_size: 768/hidden_size: 2048/
		s/2048, num_hidden_layers: 4/5632, num_hidden_layers: 8/
		s/intermediate_size: 2048/intermediate_size: 5632/; s/_layers: 4/_layers: 8/
		s/_heads: 12/_heads: 16/g')"
	  echo "  - {task: save, from: base, path: floats}"
	} >"$dir/make-big.yaml"
	measured "make-big" 536870912
	evaluates big f32 "{path: $dir/make-big/floats, tokenizer: bytes}"
	measured "big" 536870912
	agrees big
	evaluates big-tight f32 "{path: $dir/make-big/floats, tokenizer: bytes}" 256MiB
	measured "big-tight" 536870912
	holds "big: 256 MiB are kept" "$peak <= 256 * 1048576"
	same "big: loss" "$(loss big)" "$(loss big-tight)"
	rm -rf "$dir/make-big"
fi

# The model that others are compared with.
if [ -n "$SMOLLM2" ] && [ -n "$DATA" ]; then
	seconds=1000
	train=$DATA/wikitext-2/valid.txt
	test=$DATA/wikitext-2/test.txt
	length=256
	many_step=$train_step
	{ pipeline smollm2 "{path: \"$SMOLLM2\"}"
	  echo "  - {task: quantize, from: base, sites: deploy, as: coded}"
	} >"$dir/smollm2.yaml"
	measured smollm2
	save=200
	seven smollm2 "{path: \"$SMOLLM2\"}" "{path: $dir/smollm2/states/coded}"
fi
finish
