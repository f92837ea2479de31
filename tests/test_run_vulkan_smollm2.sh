#!/bin/sh
# A real model on backend vulkan: SMOLLM2 (a file or folder) and what `quantize` makes of it are
# evaluated on a few sequences of DATA/wikitext-2/test.txt, there and on backend cpu. Losses
# must agree within three standard errors of their difference, paired over sequences; of the
# float model, which flips no codes, each token's to 0.01.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
[ -n "$SMOLLM2" ] && [ -n "$DATA" ] ||
	{ echo "skipped: SMOLLM2 and DATA are not set: a model, and a folder with wikitext-2/test.txt"
	  exit 77; }
for backend in vulkan cpu; do
	[ -e "$top_builddir/plugins-built/backend-$backend.so" ] ||
		{ echo "skipped: backend $backend is not built"; exit 77; }
done
command -v python3 >/dev/null || { echo "skipped: no python3 to compare with"; exit 77; }
soft=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
if [ -z "$VK_ICD_FILENAMES$VK_DRIVER_FILES" ] && [ -e $soft ]; then
	VK_ICD_FILENAMES=$soft
	export VK_ICD_FILENAMES
fi

# Groups of 32 for weights, a scale a token for inputs: every group sum is the integer kernel's.
cat >"$dir/p.yaml" <<END
qatrun: 1
name: smollm2
output: $dir/out
model: {path: "$SMOLLM2"}
device: {backend: cpu, fallback: error}
data:
  test: {dataset: text, files: ["$DATA/wikitext-2/test.txt"], length: ${LENGTH:-64}, limit: ${SEQUENCES:-8}}
schemes:
  w4: {quantizer: int4, group_size: 32}
  a8: {quantizer: int8, granularity: token}
sites:
  deploy: [{match: "layers.*.{attn,mlp}", weight: w4, input: a8}]
steps:
  - {task: quantize, from: base, sites: deploy, as: ptq}
  - {task: evaluate, of: base, data: test, dump: {path: base.safetensors, what: [nll]}}
  - {task: evaluate, of: ptq, data: test, dump: {path: ptq.safetensors, what: [nll]}}
END

for backend in cpu vulkan; do
	checks=$((checks + 1))
	"$run" --quiet --force "$dir/p.yaml" --set device.backend=$backend \
		--set output="$dir/$backend" </dev/null >"$dir/stdout" 2>"$dir/stderr" ||
		{ fail "$backend: $(cat "$dir/stderr")"; finish; }
done

checks=$((checks + 1))
python3 - "$dir" <<'END' || fail 'the losses of the two backends'
import json, math, struct, sys
folder = sys.argv[1]

def read(backend, state):
    with open(f"{folder}/{backend}/{state}.safetensors", "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        n, length = head["nll"]["shape"]
        data = f.read()[head["nll"]["data_offsets"][0]:]
        values = struct.unpack(f"<{n * length}f", data[:4 * n * length])
    return [values[i * length:(i + 1) * length] for i in range(n)]

bad = 0
for state in ("base", "ptq"):
    a, b = read("cpu", state), read("vulkan", state)
    d = [(sum(y) - sum(x)) / len(x) for x, y in zip(a, b)]
    mean = sum(d) / len(d)
    error = math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d))
    token = max(abs(x - y) for p, q in zip(a, b) for x, y in zip(p, q))
    loss = sum(map(sum, a)) / sum(map(len, a))
    bound = max(3 * error, 1e-5)    # of float models all differences are last bits
    print(f"{state}: {len(a)} x {len(a[0])} tokens, loss {loss:.6f} on cpu, {loss + mean:.6f} on "
          f"vulkan: {mean:+.2g}, paired standard error {error:.2g}; a token at most {token:.2g} off")
    bad |= not abs(mean) <= bound or (state == "base" and not token <= 0.01)
sys.exit(bad)
END
finish
