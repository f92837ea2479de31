#!/bin/sh
# One small run of every task under valgrind, on the reference backend: no read of what was
# not written, nothing lost.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
command -v valgrind >/dev/null || { echo "skipped: there is no valgrind"; exit 77; }
grep -q -e '-fsanitize' "$top_builddir/Makefile" &&
	{ echo "skipped: valgrind cannot run what sanitizers instrument"; exit 77; }
make_text "$dir/text" 30

{
	begin memory "$tied"
	cat <<-'END'
	device: {backend: reference, threads: 1}
	schemes:
	  w: {quantizer: int3, group_size: 32, symmetric: false}
	  x: {quantizer: int8, granularity: tensor, dynamic: false}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	settings:
	  - &fit {data: train, steps: 2, batch: 1, accumulate: 2, evaluate: {data: test, every: 1}}
	steps:
	  - {task: calibrate, from: base, sites: deploy, data: test, as: ranged}
	  - {task: train, from: base, as: control, <<: *fit}
	  - {task: quantize, from: ranged, sites: deploy, as: ptq}
	  - {task: train, from: ranged, sites: deploy, as: qat, <<: *fit}
	  - {task: evaluate, of: [base, ptq, qat], data: test}
	  - {task: evaluate, of: [qat], data: test,
	     dump: {path: d.safetensors, what: [tokens, logits, nll]}}
	  - {task: gradients, of: ranged, sites: deploy, data: test, batch: 1, path: g.safetensors}
	  - {task: tokenize, data: test, path: t.safetensors}
	  - {task: generate, of: [base, qat], prompts: ["7 and 9", 5], max_new_tokens: 3,
	     temperature: 0.9, top_k: 40, top_p: 0.95, dump: {path: i.safetensors}}
	  - {task: compare, of: [qat], ptq: ptq, control: control, data: test}
	  - {task: save, from: qat, path: saved}
	END
} | sed 's/length: 32/length: 8/; s/limit: 16/limit: 3/' >"$dir/p.yaml"

# memory PIPELINE CODE: the program of the build tree, whether or not libtool wraps it
memory() {
	checks=$((checks + 1))
	LD_LIBRARY_PATH=$top_builddir/core/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
		timeout 280 valgrind -q --error-exitcode=99 --leak-check=full \
		--show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
		"$program" --quiet "$1" >"$dir/stdout" 2>"$dir/stderr"
	code=$?
	[ $code -eq "$2" ] && return
	fail "$1: exit $code, not $2"
	cat "$dir/stderr"
}
program=$top_builddir/core/.libs/qat-run
[ -x "$program" ] || program=$run

memory "$dir/p.yaml" 0
# and where it is refused, or fails half-way
sed 's/group_size: 32/group_size: 31/; s/^output: .*/&-bad/' "$dir/p.yaml" >"$dir/refused.yaml"
memory "$dir/refused.yaml" 2
# (a file is where save wants to make its folder)
sed 's/path: saved/path: d.safetensors/; s/^output: .*/&-half/' "$dir/p.yaml" >"$dir/fails.yaml"
memory "$dir/fails.yaml" 1
# and on two devices: QUANTIZE, OBSERVE, ADD and ROPE are lacking in the first
mkdir "$dir/plugins" && cp -L "$top_builddir/tests/.libs/partial.so" \
	"$dir/plugins/backend-partial.so" && chmod 755 "$dir/plugins/backend-partial.so" || exit 99
QATRUN_PLUGIN_PATH=$dir/plugins:$QATRUN_PLUGIN_PATH QATRUN_CPU_DENSE=own
export QATRUN_CPU_DENSE
sed 's/backend: reference/backend: partial, fallback: allow, lacks: 2098720/; s/^output: .*/&-two/' \
	"$dir/p.yaml" >"$dir/two.yaml"
[ ! -e "$top_builddir/plugins-built/backend-cpu.so" ] || memory "$dir/two.yaml" 0
finish
