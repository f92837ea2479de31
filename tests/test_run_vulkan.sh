#!/bin/sh
# Whole runs on backend vulkan, on the driver in software where there is no other choice:
# calibration, training, quantization, evaluation and generation next to the same on backend
# cpu; under the validation layer; and what it says where there is no device.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
for backend in vulkan cpu; do
	[ -e "$top_builddir/plugins-built/backend-$backend.so" ] ||
		{ echo "skipped: backend $backend is not built"; exit 77; }
done
soft=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
if [ -z "$VK_ICD_FILENAMES$VK_DRIVER_FILES" ] && [ -e $soft ]; then
	VK_ICD_FILENAMES=$soft
	export VK_ICD_FILENAMES
fi
XDG_CACHE_HOME=$dir/cache LP_NUM_THREADS=${LP_NUM_THREADS:-1}
mkdir "$XDG_CACHE_HOME"
export XDG_CACHE_HOME LP_NUM_THREADS
make_text "$dir/text" 30

{
	begin vulkan "$tied"
	cat <<-'END'
	device: {backend: vulkan}
	schemes:
	  w: {quantizer: int4, group_size: 32, symmetric: false}
	  x: {quantizer: int8, granularity: tensor, dynamic: false, range: percentile}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	steps:
	  - {task: calibrate, from: base, sites: deploy, data: test, as: ranged}
	  - {task: train, from: ranged, sites: deploy, as: qat, data: train, steps: 3, batch: 2}
	  - {task: quantize, from: ranged, sites: deploy, as: ptq}
	  - {task: evaluate, of: [base, ptq, qat], data: test}
	  - {task: generate, of: [base, ptq], prompts: ["7 and 9"], max_new_tokens: 3}
	END
} | sed 's/length: 32/length: 16/; s/limit: 16/limit: 4/' >"$dir/p.yaml"

timeout 100 "$run" --check --force "$dir/p.yaml" >"$dir/stdout" 2>"$dir/stderr" ||
	{ echo "skipped: $(cat "$dir/stderr")"; exit 77; }

loss() {
	number "$dir/vulkan/results.json" evaluations "$1" loss
}

# as_cpu WHAT ARGUMENT..: losses within what the CLOSE ops and a flipped code may do
as_cpu() {
	what=$1
	shift
	pass "$dir/p.yaml" "$@"
	near "$what, base" "$(loss base)" "$base" 1e-4
	near "$what, ptq" "$(loss ptq)" "$ptq" 0.02
	near "$what, qat" "$(loss qat)" "$qat" 0.02
}

pass "$dir/p.yaml" --set device.backend=cpu
base=$(loss base) ptq=$(loss ptq) qat=$(loss qat)
as_cpu alone --set device.fallback=error
first="$(loss base) $(loss ptq) $(loss qat)"
cp "$dir/vulkan/states/qat/model.safetensors" "$dir/qat.safetensors"

# The same bits through staging memory, from the cache of pipelines, and under validation.
pass "$dir/p.yaml" --set device.staging=true
same staging "$(loss base) $(loss ptq) $(loss qat)" "$first"
checks=$((checks + 1))
cmp "$dir/qat.safetensors" "$dir/vulkan/states/qat/model.safetensors" || fail "staging: qat differs"
if timeout 100 "$run" --check --force "$dir/p.yaml" --set device.validate=true \
	>"$dir/stdout" 2>"$dir/stderr"; then
	pass "$dir/p.yaml" --set device.validate=true
	same validate "$(loss base) $(loss ptq) $(loss qat)" "$first"
	pass "$dir/p.yaml" --set device.validate=true --set device.staging=true \
		--set device.precision=bf16
else
	echo "not run under the validation layer: $(cat "$dir/stderr")"
fi

# refused WHAT PATTERN ARGUMENT..: one line, exit 2
refused() {
	what=$1 pattern=$2
	shift 2
	timeout 100 "$run" --quiet --force "$dir/p.yaml" "$@" >"$dir/stdout" 2>"$dir/stderr" \
		</dev/null
	same "$what, exit" $? 2
	same "$what, lines" "$(wc -l <"$dir/stderr")" 1
	checks=$((checks + 1))
	grep -q -e "$pattern" "$dir/stderr" ||
		{ fail "$what: nothing like $pattern"; cat "$dir/stderr"; }
}
# Moments in 8 bits are cpu's: the masters' way there and back is told, or refused.
bits='steps[1].optimizer={name: adamw, moments: 8bit}'
pass "$dir/p.yaml" --set "$bits" --set device.backend=cpu
base=$(loss base) ptq=$(loss ptq) qat=$(loss qat)
as_cpu moments --set "$bits"
checks=$((checks + 1))
grep -q '^cpu runs [0-9]* nodes that vulkan cannot, with up to .* copied in each step: adamw8 and' \
	"$dir/stderr" || { fail "moments: goes without saying"; cat "$dir/stderr"; }
refused moments 'device vulkan cannot run adamw8 and .*fallback: warn' --set "$bits" \
	--set device.fallback=error
refused index 'vulkan: no device 99: there is index 0, ' --set device.index=99
refused name 'vulkan: no device named none-such: there is index 0, ' --set device.device=none-such
VK_ICD_FILENAMES=$dir/none.json VK_DRIVER_FILES=$dir/none.json \
	refused driver 'vulkan: no device: no driver is installed'
finish
