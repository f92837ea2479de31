#!/bin/sh
# Fifty steps of QAT on backend vulkan next to backend cpu: losses stay as near to the CPU's as
# those of the CPU itself do when the initial weights differ in their last bits (one bit of the
# deviation that they are drawn with, up to four times, either way). How far that is, is
# measured here first: a code that flips changes what follows, so that no fixed bound would say
# anything.
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
make_text "$dir/text"

pipeline() {
	begin spread "$1"
	cat <<-'END'
	device: {backend: cpu, fallback: error}
	schemes:
	  w: {quantizer: int4, group_size: 32}
	  x: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	steps:
	  - {task: train, from: base, sites: deploy, as: qat, data: train, steps: 50, batch: 4,
	     optimizer: {name: adamw, lr: 1e-3}}
	  - {task: evaluate, of: qat, data: test}
	END
}

# losses NAME ARGUMENT..: of every step, then of the evaluation, a line each, into the file
losses() {
	to=$dir/$1
	shift
	pass "$dir/p.yaml" "$@" || return
	{
		sed -n 's/.*"optimizer_step":[0-9]*,"loss":\([^,}]*\).*/\1/p' \
			"$dir/spread/events.jsonl"
		number "$dir/spread/results.json" evaluations qat loss
	} >"$to"
	same "losses" "$(wc -l <"$to" | tr -d ' ')" 51
}

# apart FILE: root of the mean square over steps of the distance from the CPU's losses
apart() {
	paste "$dir/cpu" "$1" | awk '{ s += ($1 - $2) ^ 2 } END { printf "%.6g\n", sqrt(s / NR) }'
}

spread() {
	pipeline "$2" >"$dir/p.yaml"
	timeout 100 "$run" --check --force "$dir/p.yaml" --set device.backend=vulkan \
		>"$dir/stdout" 2>"$dir/stderr" || { echo "skipped: $(cat "$dir/stderr")"; exit 77; }
	losses cpu
	for n in -4 -3 -2 -1 1 2 3 4; do
		losses "bit$n" --set model.config.initializer_range="$(awk "BEGIN {
			printf \"%.12f\", 0.02 + $n * 2 ^ -29 }")"
	done
	losses vulkan --set device.backend=vulkan
	all=$(for n in -4 -3 -2 -1 1 2 3 4; do apart "$dir/bit$n"; done | sort -g)
	most=$(echo "$all" | tail -n 1)
	here=$(apart "$dir/vulkan")
	echo "$1: loss $(head -n 1 "$dir/cpu") to $(tail -n 2 "$dir/cpu" | head -n 1); last bits" \
		"move it by" $all", vulkan by $here"
	holds "$1: last bits do something" "$most > 0"
	holds "$1: vulkan within the spread" "$here <= 1.5 * $most"
}
spread llama "$llama"
spread gpt2 "$gpt2"
finish
