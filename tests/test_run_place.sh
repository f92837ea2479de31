#!/bin/sh
# Whole runs on two devices: backend partial of tests/plugins lacks ops, the default backend
# runs them. What it runs here is EXACT, so that results are those of the reference alone.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
[ -e "$top_builddir/plugins-built/backend-cpu.so" ] ||
	{ echo "skipped: backend cpu is not built"; exit 77; }
make_text "$dir/text" 30
mkdir "$dir/plugins" && cp -L "$top_builddir/tests/.libs/partial.so" \
	"$dir/plugins/backend-partial.so" && chmod 755 "$dir/plugins/backend-partial.so" || exit 99
ln -s backend-partial.so "$dir/plugins/backend-partial-mapped.so"
QATRUN_PLUGIN_PATH=$dir/plugins:$QATRUN_PLUGIN_PATH

{
	begin place "$tied"
	cat <<-'END'
	device: {backend: reference, threads: 1}
	schemes:
	  w: {quantizer: int3, group_size: 32, symmetric: false}
	  x: {quantizer: int8, granularity: tensor, dynamic: false}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	settings:
	  - &fit {data: train, steps: 3, batch: 2, accumulate: 2, evaluate: {data: test, every: 1}}
	steps:
	  - {task: calibrate, from: base, sites: deploy, data: test, as: ranged}
	  - {task: train, from: ranged, sites: deploy, as: qat, <<: *fit}
	  - {task: quantize, from: ranged, sites: deploy, as: ptq}
	  - {task: evaluate, of: [base, ptq, qat], data: test}
	END
} | sed 's/length: 32/length: 8/; s/limit: 16/limit: 6/' >"$dir/p.yaml"

# ops NAME...: as bits
ops() {
	sum=0
	for op; do
		n=$(sed -n "s/^	QAT_OP_$op = \([0-9]*\),.*/\1/p" \
			"${top_srcdir:-..}/core/include/qatrun/graph.h")
		sum=$((sum | 1 << n))
	done
	echo $sum
}
exact=$(ops QUANTIZE DEQUANTIZE MASK OBSERVE QMATMUL EMBEDDING EMBEDDING_GRAD SPLIT CONCAT ADD \
	MUL SCALE ROPE ADAMW)

loss() {
	number "$dir/place/results.json" evaluations "$1" loss
}

pass "$dir/p.yaml"
base=$(loss base) ptq=$(loss ptq) qat=$(loss qat)
cp -r "$dir/place/states" "$dir/states"

# as_alone BACKEND OPS: every number and every bit of a state
as_alone() {
	pass "$dir/p.yaml" --set device.backend=$1 --set device.lacks="$2"
	same "$1 $2, base" "$(loss base)" "$base"
	same "$1 $2, ptq" "$(loss ptq)" "$ptq"
	same "$1 $2, qat" "$(loss qat)" "$qat"
	for state in ranged qat ptq; do
		checks=$((checks + 1))
		cmp "$dir/states/$state/model.safetensors" \
			"$dir/place/states/$state/model.safetensors" || fail "$1 $2: $state differs"
	done
}
as_alone partial "$exact"
as_alone partial-mapped "$exact"
as_alone partial "$(ops ADAMW EMBEDDING)"
as_alone partial-mapped "$(ops QUANTIZE)"

# says WHAT PATTERN [FILE]: a line of what was printed
says() {
	checks=$((checks + 1))
	grep -q -e "$2" "$dir/${3:-stderr}" || { fail "$1: nothing like $2"; cat "$dir/stderr"; }
}

# refused WHAT PATTERN ARGUMENT..: before anything ran
refused() {
	what=$1 pattern=$2
	shift 2
	timeout 100 "$run" --quiet --force "$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null
	same "$what, exit" $? 2
	says "$what" "$pattern"
}

lacks="--set device.backend=partial --set device.lacks=$(ops ROPE)"
pass "$dir/p.yaml" $lacks --set device.fallback=warn
says warn '^cpu runs 4 nodes that partial cannot, with up to .* KiB copied in each step: .*rope and'
pass "$dir/p.yaml" $lacks --set device.fallback=allow
same allow "$(cat "$dir/stderr")x" x
refused error 'steps\[0\]: device partial cannot run .*rope and 1 more: left out .*fallback' \
	"$dir/p.yaml" $lacks --set device.fallback=error
make_text "$dir/long" 200
refused auto 'cpu would, with .* MiB copied in each step' "$dir/p.yaml" --set steps[1].batch=600 \
	--set "data.train.files=[$dir/long]" \
	--set device.backend=partial --set "device.lacks=$(ops ROPE RMS_NORM GLU ADD)"

pass "$dir/p.yaml" --explain $lacks --set "device.generic=$(ops MATMUL)"
says explain '^    forward  .* 2  rope  *f32 -> f32  *cpu native: partial: left out for' stdout
says explain '^    backward .*  matmul  *f32 -> f32  *partial generic: one thread$' stdout
says explain '^    prologue .*  quantize  *f32 -> i8,f32,u8 \[int3\]  *partial native$' stdout
says explain '^    copied between partial and cpu: [1-9][0-9.]* KiB a step$' stdout
pass "$dir/p.yaml" --explain --set device.backend=cpu
says explain 'linear_cross_entropy + linear_cross_entropy_grad  .*  cpu native$' stdout

# moments as codes, where the update runs elsewhere: they stay there
sed -i 's/accumulate: 2,/& optimizer: {name: adamw, moments: 8bit},/' "$dir/p.yaml"
rm -r "$dir/states"
pass "$dir/p.yaml"
base=$(loss base) ptq=$(loss ptq) qat=$(loss qat)
cp -r "$dir/place/states" "$dir/states"
as_alone partial "$(ops ADAMW8)"
as_alone partial-mapped "$(ops ADAMW8 QUANTIZE)"
finish
