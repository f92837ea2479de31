#!/bin/sh
# What is trained is what is saved: the loss of a trained state, and of the folder that save
# made of it, loaded in another process with other threads, are the same to the last digit.
# So are a state quantized afterwards and its folder; and a folder saved once more has the
# same bytes.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
make_text "$dir/text"

linear='layers.*.{attn,mlp}'
group='{quantizer: int4, group_size: 32}'
token='{quantizer: int8, granularity: token}'
channel='{quantizer: int8, granularity: channel}'
fixed='{quantizer: int8, granularity: tensor, dynamic: false}'

# pipeline NAME MODEL PRECISION THREADS STEPS..: what all of them have.
pipeline() {
	begin "$1" "$2"
	echo "device: {precision: $3, threads: $4}"
	[ -z "$schemes" ] || printf 'schemes: %s\nsites: %s\n' "$schemes" "$sites"
	shift 4
	echo "steps:"
	for step; do
		echo "  - {$step}"
	done
}

fit='data: train, steps: 12, batch: 4, optimizer: {name: adamw, lr: 1e-3}'

# trained states to start from, one of each kind of model
grow() {
	schemes='' sites=''
	pipeline "grown-$1" "$2" f32 1 "task: train, from: base, as: grown, data: train,
	  steps: 40, batch: 4, optimizer: {name: adamw, lr: 3e-3}" \
	  "task: save, from: grown, path: saved" >"$dir/p.yaml"
	pass "$dir/p.yaml" || finish
}
grow llama "$llama"
grow tied "$tied"
grow gpt2 "$gpt2"

# reload NAME STATE FOLDER PRECISION THREADS
reload() {
	want=$(number "$dir/$1/results.json" evaluations "$2" loss)
	schemes='' sites=''
	pipeline "$1-again" "{path: $dir/$1/$3, tokenizer: bytes}" "$4" "$5" \
		'task: evaluate, of: [base], data: test, batch: 3' \
		'task: save, from: base, path: saved' >"$dir/p.yaml"
	pass "$dir/p.yaml" || return
	same "$1: $2 and its folder" "$want" \
		"$(number "$dir/$1-again/results.json" evaluations base loss)"
	same "$1: bytes of $2" "$(number "$dir/$1/results.json" states "$2" bytes)" \
		"$(number "$dir/$1-again/results.json" states base bytes)"
	checks=$((checks + 1))
	cmp -s "$dir/$1/$3/model.safetensors" "$dir/$1-again/saved/model.safetensors" ||
		fail "$1: $3 saved once more has other bytes"
}

# parity NAME MODEL: with $schemes and $sites, in f32 and bf16.
parity() {
	mine=$schemes where=$sites
	for precision in f32 bf16; do
		schemes=$mine sites=$where
		name=$1-$precision
		threads=1 others=2 from=base
		[ $precision = f32 ] || threads=2 others=1
		case $mine in
		*"dynamic: false"*) from=ranged ;;
		esac
		{
			pipeline "$name" "{path: $dir/grown-$2/saved, tokenizer: bytes}" \
				$precision $threads
			[ $from = base ] || echo "  - {task: calibrate, from: base, sites: deploy,
			  data: train, limit: 8, as: ranged}"
			cat <<-END
			  - {task: quantize, from: $from, sites: deploy, as: ptq}
			  - {task: train, from: $from, sites: deploy, as: qat, $fit}
			  - {task: evaluate, of: [base, ptq, qat], data: test}
			  - {task: save, from: ptq, path: saved-ptq}
			  - {task: save, from: qat, path: saved-qat}
			END
		} >"$dir/p.yaml"
		pass "$dir/p.yaml" || continue
		r=$dir/$name/results.json
		holds "$name: training helps" "$(number "$r" evaluations qat loss) < \
			$(number "$r" evaluations base loss)"
		reload "$name" ptq saved-ptq $precision $others
		reload "$name" qat saved-qat $precision $others
	done
	schemes=$mine sites=$where
}

# place NAME MODEL WEIGHT [INPUT]: at all linear sites.
place() {
	schemes="{w: $3${4:+, x: $4}}"
	sites="{deploy: [{match: \"$linear\", weight: w${4:+, input: x}}]}"
	parity "$1" "$2"
}

place int4-int8 llama "$group" "$token"
place channel llama "$channel" "$token"
place int3-lohi llama '{quantizer: int3, group_size: 16, symmetric: false}' "$token"
place floatzero llama '{quantizer: int4, group_size: 32, symmetric: false, float_zero: true,
  scale_format: bf16}'
place signed llama '{quantizer: int4, group_size: 32, divisor: signed, scale_format: f16}' \
	"$token"
for rule in floor ceil even; do
	place mxfp4-$rule llama "{quantizer: mxfp4, scale_rule: $rule}" \
		"{quantizer: mxfp4, scale_rule: $rule}"
done
place mxfp6 llama '{quantizer: mxfp6}' '{quantizer: mxfp6, element: e3m2, scale_rule: even}'
place mxfp8 gpt2 '{quantizer: mxfp8, scale_rule: ceil}' '{quantizer: mxfp8, element: e5m2}'
place fp8 llama '{quantizer: fp8}' '{quantizer: fp8}'
place fp8-static llama '{quantizer: fp8, granularity: tensor, scale_format: bf16}' \
	'{quantizer: fp8, element: e5m2, dynamic: false}'
place nvfp4 llama '{quantizer: nvfp4, gradient: ste_clipped}' '{quantizer: nvfp4}'
place nvfp4-static gpt2 '{quantizer: nvfp4}' '{quantizer: nvfp4, dynamic: false}'
place nvfp4-mxfp8 llama '{quantizer: nvfp4}' '{quantizer: mxfp8}'
place weight-only llama "$group"
place int2-lohi-inputs llama '{quantizer: int2, group_size: 32, divisor: full}' \
	'{quantizer: int8, granularity: token, symmetric: false}'

schemes="{x: $token}"
sites="{deploy: [{match: \"$linear\", input: x}]}"
parity input-only llama

place static llama "$channel" "$fixed"
place mse llama '{quantizer: int4, group_size: 32, range: mse}' \
	'{quantizer: int8, dynamic: false, range: mse}'
place percentile gpt2 '{quantizer: int8, range: percentile, percentile: 99}' \
	'{quantizer: int8, dynamic: false, range: percentile, percentile: 99.9, symmetric: false}'
place ema llama "$channel" '{quantizer: fp8, dynamic: false, range: ema, ema_rate: 0.5}'
place static-lohi gpt2 "$group" \
	'{quantizer: int8, granularity: tensor, dynamic: false, symmetric: false}'

schemes="{w: $group, x: $token, e: $channel}"
sites="{deploy: [{match: \"$linear\", weight: w, input: x},
  {match: lm_head, weight: e, input: x}]}"
parity head llama
sites="{deploy: [{match: \"$linear\", weight: w, input: x}, {match: \"{embed,lm_head}\",
  weight: e}]}"
parity tied-both tied
sites="{deploy: [{match: embed, weight: e}, {match: lm_head, input: x}]}"
parity tied-embed tied

place gpt2 gpt2 "$group" "$token"
schemes="{w: $group, x: $token}"
sites="{deploy: [{match: \"$linear\", weight: w, input: x}, {match: \"layers.*.attn\",
  weight: w, kv: x}]}"
parity cache llama
schemes="{w: {quantizer: nvfp4}, x: {quantizer: nvfp4}, kv: {quantizer: fp8, dynamic: false}}"
sites="{deploy: [{match: \"$linear\", weight: w, input: x}, {match: lm_head, weight: w},
  {match: \"layers.*.attn\", kv: kv}]}"
parity cache-fp8 llama
finish
