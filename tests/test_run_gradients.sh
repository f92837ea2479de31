#!/bin/sh
# gradient_bits: training whose backward products run on codes learns as much as with floats;
# threads and, where each product has sequences in order, micro-batches change no bit; nodes agree
# with the reference; where no scheme allows it the pipeline is refused.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
make_text "$dir/text"

# trains NAME BITS ARGUMENT..: 60 steps
trains() {
	name=$1 bits=$2
	shift 2
	{
		begin "$name" "$llama"
		cat <<-END
		device: {threads: 1}
		schemes: {w: {quantizer: int8}, x: {quantizer: int8}, g: {quantizer: int4, group_size: 32},
		  z: {quantizer: int8, symmetric: false}}
		sites:
		  rows: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
		  groups: [{match: "layers.*.{attn,mlp}", weight: g, input: x}]
		  neither: [{match: "layers.*.{attn,mlp}", weight: g, input: z}]
		steps:
		  - {task: train, from: base, sites: rows, as: qat, data: train, steps: 60, batch: 4,
		     gradient_bits: $bits, optimizer: {name: adamw, lr: 3e-3}}
		  - {task: evaluate, of: [qat], data: test}
		END
	} >"$dir/p.yaml"
	pass "$dir/p.yaml" "$@"
}

loss() {
	number "$dir/$1/results.json" evaluations qat loss
}

# losses NAME FROM TO: mean of the optimizer steps' losses
losses() {
	sed -n 's/.*"optimizer_step":[0-9]*,"loss":\([^,}]*\).*/\1/p' "$dir/$1/events.jsonl" |
		sed -n "$2,$3p" | awk '{ s += $1 } END { print s / NR }'
}

# equal A B
equal() {
	checks=$((checks + 1))
	cmp -s "$dir/$1/states/qat/model.safetensors" "$dir/$2/states/qat/model.safetensors" ||
		fail "$1, $2: the states differ"
}

for precision in f32 bf16; do
	set=--set=device.precision=$precision
	trains floats 0 $set
	trains codes 8 $set
	# the noise of codes is a small part of what batches differ by
	for from in 1 16 31 46; do
		near "$precision: losses from step $from on" "$(losses codes $from $((from + 14)))" \
			"$(losses floats $from $((from + 14)))" 0.05
	done
	near "$precision: loss" "$(loss codes)" "$(loss floats)" 0.05
	holds "$precision: it learned" "$(losses codes 46 60) < $(losses codes 1 15) - 0.5"
	holds "$precision: other gradients" "$(loss codes) != $(loss floats)"
	trains threads 8 $set --set=device.threads=3
	equal codes threads
	trains again 8 $set
	equal codes again
	trains groups 8 $set --set='steps[0].sites=groups'
	holds "$precision, groups: it learned" "$(losses groups 46 60) < $(losses groups 1 15) - 0.5"
done

trains traced 8 --trace --set='steps[0].steps=2' --set='steps[0].batch=2' --set=data.test.limit=4
checks=$((checks + 1))
grep -q '^trace: [1-9][0-9]* nodes agree with reference' "$dir/stdout" || fail "trace: $(cat "$dir/stdout")"

# refused PATTERN SETTING
refused() {
	checks=$((checks + 1))
	timeout 60 "$run" --check --set "$2" "$dir/p.yaml" >"$dir/stdout" 2>"$dir/stderr" </dev/null
	[ $? -eq 2 ] || fail "$2 was not refused"
	grep -q -e "$1" "$dir/stderr" || fail "$2: no \"$1\": $(cat "$dir/stderr")"
}
refused 'gradient_bits: no site has' 'steps[0].sites=neither'
refused 'gradient_bits: no site has' 'steps[0].sites=none'
refused 'gradient_bits: 1 leaves' 'steps[0].gradient_bits=1'
refused 'gradient_bits' 'steps[0].gradient_bits=9'
finish
