#!/bin/sh
# --trace holds every node of a run against the reference, and names one that is wrong;
# --profile measures every kernel and leaves the numbers as they are.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
[ -e "$top_builddir/plugins-built/backend-cpu.so" ] ||
	{ echo "skipped: backend cpu is not built"; exit 77; }
make_text "$dir/text" 30
mkdir "$dir/plugins" && cp -L "$top_builddir/tests/.libs/partial.so" \
	"$dir/plugins/backend-partial.so" && chmod 755 "$dir/plugins/backend-partial.so" || exit 99
QATRUN_PLUGIN_PATH=$dir/plugins:$QATRUN_PLUGIN_PATH

{
	begin trace "$llama"
	cat <<-'END'
	device: {backend: cpu, threads: 1}
	schemes:
	  w: {quantizer: int4, group_size: 32}
	  x: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	steps:
	  - {task: train, from: base, sites: deploy, as: qat, data: train, steps: 2, batch: 2}
	  - {task: evaluate, of: [base, qat], data: test}
	END
} | sed 's/limit: 16/limit: 4/' >"$dir/p.yaml"

# says WHAT PATTERN FILE
says() {
	checks=$((checks + 1))
	grep -q -e "$2" "$dir/$3" && return
	fail "$1: nothing like $2"
	cat "$dir/stdout" "$dir/stderr"
}

loss() {
	number "$dir/trace/results.json" evaluations "$1" loss
}

pass "$dir/p.yaml"
base=$(loss base) qat=$(loss qat)

# All agree, on each device and on two; numbers stay.
for set in precision=f32 precision=bf16; do
	pass "$dir/p.yaml" --trace --set device.$set
	says "trace $set" '^trace: [1-9][0-9]* nodes agree with reference: [1-9]' stdout
done
pass "$dir/p.yaml" --trace
same 'trace, base' "$(loss base)" "$base"
same 'trace, qat' "$(loss qat)" "$qat"
lacks=$((1 << 22 | 1 << 19 | 1 << 3))
pass "$dir/p.yaml" --trace --set device.backend=partial --set device.lacks=$lacks
says 'trace, two devices' '^trace: [1-9][0-9]* nodes agree' stdout

# wrong OP-NUMBER NAME: partial gets it wrong
wrong() {
	checks=$((checks + 1))
	timeout 100 "$run" --quiet --force "$dir/p.yaml" --trace --set device.backend=partial \
		--set device.wrong=$((1 << $1)) >"$dir/stdout" 2>"$dir/stderr" </dev/null
	[ $? -eq 1 ] || fail "$2 is wrong, and nobody says so"
	says "wrong $2" "trace: .*$2.* on partial differs from reference: output 0" stderr
}
wrong 5 quantize
wrong 22 attention
wrong 20 rms_norm_grad
wrong 36 adamw
checks=$((checks + 1))
"$run" --quiet --force "$dir/p.yaml" --trace --set device.backend=reference 2>"$dir/stderr"
[ $? -eq 2 ] || fail 'the reference judges itself'

pass "$dir/p.yaml" --profile
same 'profile, base' "$(loss base)" "$base"
same 'profile, qat' "$(loss qat)" "$qat"
says 'profile' '^profile of steps\[0\] train: [0-9.]* s in kernels$' stdout
says 'profile' '^ .* forward .* qmatmul .* cpu  *[0-9.]* *[0-9.]*  *[0-9]* % [a-z0-9]*$' stdout
says 'profile' '^ *time  *ms  *first ms  *calls' stdout
says 'profile' '^ceilings of cpu: [0-9.]* Gop/s f32, [0-9.]* bf16, [0-9.]* i8; [0-9.]* GB/s$' stdout
says 'profile.json' '"ops":"qmatmul"' trace/profile.json
says 'trace.json' '"name":"layers.1.mlp.down qmatmul".*"ph":"X"' trace/trace.json
command -v python3 >/dev/null && {
	checks=$((checks + 1))
	python3 - "$dir/trace" <<-'END' || fail 'profile.json and trace.json'
	import json, sys
	folder = sys.argv[1]
	events = json.load(open(folder + "/trace.json"))["traceEvents"]
	profile = json.load(open(folder + "/profile.json"))
	kernels, most = profile["kernels"], profile["ceilings"][0]
	assert all(e["dur"] >= 0 and e["ts"] >= 0 and e["ph"] == "X" for e in events) and events
	q = [k for k in kernels if k["ops"] == "qmatmul" and k["task"] == "train"]
	# 2 layers of q, o 64 x 64, k, v 64 x 32, gate, up, down 64 x 96; 2 x 32 tokens, 2 steps
	weights = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
	assert sum(k["operations"] for k in q) == 2 * 64 * weights * 2, q
	assert sum(k["calls"] for k in q) == 14 * 2
	assert most["device"] == "cpu" and all(most[k] > 0 for k in ("f32", "bf16", "bytes")), most
	for k in q if "i8" in most else []:
	    # of two runs, the second
	    at = {"i8": k["operations"] / 2 / most["i8"], "bytes": k["bytes"] / 2 / most["bytes"]}
	    seconds = k["seconds"] - k["first_seconds"]
	    assert 0 < k["first_seconds"] < k["seconds"], k
	    assert k["bound"] == max(at, key=at.get), k
	    assert abs(k["share"] * seconds - max(at.values())) <= 1e-6 * max(at.values()), k
	# a head of 256 x 64, whose logits are made once
	head = [k for k in kernels if k["task"] == "train" and "linear_cross_entropy" in k["ops"]]
	assert sum(k["operations"] for k in head) == 2 * 6 * 64 * 256 * 64, head
	END
}
finish
