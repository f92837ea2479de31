#!/bin/sh
# What a run on backend vulkan says where the driver fails or the device lacks something: one
# line, and never a result. A libvulkan.so.1 of the test's own (fake_vulkan.c) stands before the
# real one and makes it so.
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
mkdir "$XDG_CACHE_HOME" "$dir/fake" "$dir/broken"
export XDG_CACHE_HOME LP_NUM_THREADS
make_text "$dir/text" 30
{
	begin faults "$tied"
	cat <<-'END'
	device: {backend: vulkan}
	schemes:
	  w: {quantizer: int4, group_size: 32, symmetric: false}
	  x: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	steps:
	  - {task: train, from: base, sites: deploy, as: qat, data: train, steps: 2, batch: 2}
	  - {task: evaluate, of: [base, qat], data: test}
	END
} | sed 's/length: 32/length: 16/; s/limit: 16/limit: 4/' >"$dir/p.yaml"

timeout 100 "$run" --check --force "$dir/p.yaml" >"$dir/stdout" 2>"$dir/stderr" ||
	{ echo "skipped: $(cat "$dir/stderr")"; exit 77; }
REAL=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
	sed -n 's/.*libvulkan\.so\.1 .*x86-64.* => //p; s/.*libvulkan\.so\.1 .*AArch64.* => //p' |
	head -n 1)
export REAL
[ -e "$REAL" ] || { echo "skipped: ldconfig knows no libvulkan.so.1"; exit 77; }
${CC:-cc} -D_GNU_SOURCE -shared -fPIC -o "$dir/fake/libvulkan.so.1" \
	"$top_srcdir/tests/fake_vulkan.c" -ldl 2>"$dir/stderr" ||
	{ echo "skipped: cannot build fake_vulkan.c: $(head -n 1 "$dir/stderr")"; exit 77; }

losses() {
	number "$dir/faults/results.json" evaluations base loss
	number "$dir/faults/results.json" evaluations qat loss
}

# The fake changes nothing by itself, and counts.
pass "$dir/p.yaml" || finish
want=$(losses)
LD_LIBRARY_PATH=$dir/fake
export LD_LIBRARY_PATH
FAKE_CALLS=$dir/calls pass "$dir/p.yaml" || finish
same 'through the fake' "$(losses)" "$want"

# Without integer dot products: other kernels, the same bits.
FAKE_LACKS=dot pass "$dir/p.yaml"
same 'without integer dot products' "$(losses)" "$want"

# one WHAT EXIT PATTERN ARGUMENT..: that exit status, one line
one() {
	what=$1 code=$2 pattern=$3
	shift 3
	rm -f "$dir/faults/results.json"
	timeout 100 "$run" --quiet --force "$dir/p.yaml" "$@" >"$dir/stdout" 2>"$dir/stderr" \
		</dev/null
	same "$what, exit" $? "$code"
	same "$what, lines" "$(wc -l <"$dir/stderr" | tr -d ' ')" 1
	checks=$((checks + 1))
	grep -q -e "$pattern" "$dir/stderr" ||
		{ fail "$what: nothing like $pattern"; cat "$dir/stderr"; }
	checks=$((checks + 1))
	[ ! -e "$dir/faults/results.json" ] ||
		[ -z "$(number "$dir/faults/results.json" evaluations qat loss)" ] ||
		fail "$what: has results"
}

# fails CALL CODE PART PATTERN: after so many tenths of what a run calls
fails() {
	from=$(awk -v name="vk$1" -v part="$3" '$1 == name { print int($2 * part / 10) + 1 }' \
		"$dir/calls")
	FAKE_FAIL="vk$1:$from:$2" one "vk$1 $2" 1 "$4"
}
lost='the device was lost: it hung, was reset or was removed'
fails QueueSubmit -4 5 "vulkan: .*: $lost"
fails QueueWaitIdle -4 5 "vulkan: .*: wait: $lost"
fails QueueSubmit -2 5 'vulkan: .*: out of device memory'
fails CreateComputePipelines -1 5 'vulkan: .*: [a-z_]*: out of host memory'
fails AllocateDescriptorSets -1000069000 5 'vulkan: .*: descriptor sets: out of pool memory'
fails BeginCommandBuffer -1 5 'vulkan: .*: out of host memory'

# starts CALL CODE PATTERN: with the first call
starts() {
	FAKE_FAIL="vk$1:1:$2" one "vk$1 $2" 2 "$3"
}
starts CreateInstance -3 'vulkan: no device: the driver could not be initialized'
starts CreateInstance -9 'vulkan: no device: no driver is installed'
starts EnumeratePhysicalDevices -3 'vulkan: no device: no driver here has one of Vulkan 1.2'
starts CreateDevice -3 'vulkan: .*: open: the driver could not be initialized'
starts AllocateMemory -2 'vulkan: .* has no memory for [0-9]* MiB: a smaller batch, or length'
starts CreateBuffer -2 'vulkan: .* has no memory for [0-9]* MiB: a smaller batch, or length'

# needs WHAT PATTERN: the device has not
needs() {
	FAKE_LACKS=$1 one "no $1" 2 "$2"
}
needs storage8 'vulkan: .* lacks 8 and 16 bit access to storage buffers'
needs storage16 'vulkan: .* lacks 8 and 16 bit access to storage buffers'
needs buffers 'vulkan: .* lacks 16 storage buffers in a shader'
needs push 'vulkan: .* lacks 128 bytes of push constants'
needs groups 'vulkan: .* lacks work groups of 256'
needs queue 'vulkan: .* has no queue for compute shaders'
needs version 'vulkan: no device: no driver here has one of Vulkan 1.2'
needs function 'vulkan: the driver has no vkGetPhysicalDeviceMemoryProperties'

# What only some ops need: these go to the CPU, with the reason, or the pipeline is refused.
FAKE_LACKS=float64 pass "$dir/p.yaml" --set device.fallback=allow
FAKE_LACKS=float64 one 'no doubles' 2 'the device has no doubles' --set device.fallback=error
FAKE_LACKS=float64 timeout 100 "$run" --explain --force "$dir/p.yaml" \
	--set device.fallback=allow >"$dir/stdout" 2>"$dir/stderr"
checks=$((checks + 1))
grep -q 'sum_squares.* cpu .*the device has no doubles' "$dir/stdout" ||
	fail '--explain does not say why sum_squares is on cpu'
FAKE_LACKS=range one 'small buffers' 2 'kernels see at most 0 MiB of one' \
	--set device.fallback=error

# No library, or none that can be loaded.
: >"$dir/broken/libvulkan.so.1"
LD_LIBRARY_PATH=$dir/broken one 'no library' 2 'vulkan: no libvulkan.so.1 on this machine'
finish
