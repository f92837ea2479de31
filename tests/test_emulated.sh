#!/bin/sh
# Backend cpu with its kernels for AMX, on a processor that does such instructions or has them
# emulated (emulate_tiles.c): the contract of ops, the shell's tests, and whole runs beside those
# of AVX-512, with one thread and with three.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
plugin=$top_builddir/tests/.libs/emulated-cpu.so
[ -e "$plugin" ] || { echo "skipped: kernels for AMX are not built"; exit 77; }
mkdir "$dir/plugins" && chmod go-w "$dir/plugins" &&
	cp -L "$plugin" "$dir/plugins/backend-cpu.so" &&
	chmod go-w "$dir/plugins/backend-cpu.so" || exit 99
QATRUN_PLUGIN_PATH=$dir/plugins:$QATRUN_PLUGIN_PATH QATRUN_CPU_ISA=amx
export QATRUN_PLUGIN_PATH QATRUN_CPU_ISA
make_text "$dir/text" 60

pipeline() {
	{
		begin run "$gpt2"
		cat <<-END
		device: {precision: bf16, threads: $1}
		schemes:
		  w: {quantizer: int4, group_size: 32}
		  w8: {quantizer: int8, granularity: channel}
		  x: {quantizer: int8, granularity: token}
		sites:
		  groups: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
		  alone: [{match: "layers.*.{attn,mlp}", weight: w}]
		  rows: [{match: "layers.*.{attn,mlp}", weight: w8, input: x}]
		steps:
		  - {task: train, from: base, as: plain, data: train, steps: 3, batch: 2}
		  - {task: train, from: base, sites: groups, as: groups, data: train, steps: 3, batch: 2}
		  - {task: train, from: base, sites: alone, as: alone, data: train, steps: 3, batch: 2}
		  - {task: train, from: base, sites: rows, as: rows, data: train, steps: 3, batch: 2,
		     gradient_bits: 8}
		  - {task: evaluate, of: [plain, groups, alone, rows], data: test}
		END
	} | sed 's/limit: 16/limit: 4/' >"$dir/p.yaml"
}

# run_as NAME ISA THREADS
run_as() {
	QATRUN_CPU_ISA=$2
	pipeline $3
	pass "$dir/p.yaml" && mv "$dir/run" "$dir/$1"
}

pipeline 1
timeout 100 "$run" --check --force "$dir/p.yaml" >"$dir/stdout" 2>"$dir/stderr" ||
	! grep 'no kernels for QATRUN_CPU_ISA' "$dir/stderr" || { echo skipped; exit 77; }
run_as one amx 1
run_as three amx 3
run_as pairs avx512 2
for state in plain groups alone rows; do
	amx=$(number "$dir/one/results.json" evaluations $state loss)
	checks=$((checks + 1))
	cmp -s "$dir/one/states/$state/model.safetensors" \
		"$dir/three/states/$state/model.safetensors" || fail "$state: three threads"
	near "$state: loss" "$amx" "$(number "$dir/pairs/results.json" evaluations $state loss)" 0.01
done

# one case in four of a contract; all with TEST_STRIDE=1
QATRUN_CPU_ISA=amx TEST_STRIDE=${TEST_STRIDE:-4}
export TEST_STRIDE
for test in contract_ops contract_graphs test_cpu_ops test_cpu_rows test_cpu_backend; do
	[ -x "$top_builddir/tests/$test" ] || continue
	checks=$((checks + 1))
	"$top_builddir/tests/$test" >"$dir/log" 2>&1 || { fail "$test"; tail -20 "$dir/log"; }
done
finish
