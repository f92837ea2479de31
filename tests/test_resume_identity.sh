#!/bin/sh
# What decides the bits is a part of a step: --resume refuses another library of products,
# another choice of kernels, other kernels behind a device that lacks ops, another model or
# data file, each by name, with exit code 2, and goes on once it is as it was.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
[ -e "$top_builddir/plugins-built/backend-cpu.so" ] ||
	{ echo "skipped: backend cpu is not built"; exit 77; }
make_text "$dir/text" 30
mkdir "$dir/plugins" && cp -L "$top_builddir/tests/.libs/partial.so" \
	"$dir/plugins/backend-partial.so" && chmod 755 "$dir/plugins/backend-partial.so" || exit 99
QATRUN_PLUGIN_PATH=$dir/plugins:$QATRUN_PLUGIN_PATH

# another NAME BACKEND MODEL [BATCH]: one step of training, stopped on its way
another() {
	{
		begin "$1" "$3"
		cat <<-END
		device: {backend: $2, threads: 1}
		steps:
		  - {task: train, from: base, as: grown, data: train, steps: 40, batch: ${4:-4}}
		END
	} >"$dir/$1.yaml"
	start "$dir/$1.yaml"
	until_step "$dir/$1" 0 3 && kill -TERM "$pid"
	ended
	[ $code -eq 130 ] || fail "$1: exit $code: $(cat "$dir/stderr")"
}

# refused NAME PATTERN ARGUMENT..
refused() {
	checks=$((checks + 1))
	name=$1 pattern=$2
	shift 2
	before=$(cd "$dir/$name" && find . -type f ! -name lock | LC_ALL=C sort | xargs cksum)
	timeout 100 "$run" --quiet --resume "$dir/$name.yaml" "$@" >"$dir/stdout" 2>"$dir/stderr" \
		</dev/null
	code=$?
	[ $code -eq 2 ] || fail "$name $*: exit $code"
	grep -q "steps\[0\] (train, grown): $pattern: put it back, or remove " "$dir/stderr" ||
		fail "$name $*: no \"$pattern\": $(cat "$dir/stderr")"
	[ "$(wc -l <"$dir/stderr")" -eq 1 ] || fail "$name $*: more than a line: $(cat "$dir/stderr")"
	[ "$(cd "$dir/$name" && find . -type f ! -name lock | LC_ALL=C sort | xargs cksum)" = \
		"$before" ] || fail "$name $*: something changed"
}

# said KEY: of the machine, in results.json of the run alone
said() { sed -n 's/.*"'"$1"'": "\(.*\)",*/\1/p' "$dir/alone/results.json"; }

# float products: by default, all of one kind, all of the other
another alone cpu "$tied"
kernels=$(said kernels)
same "it says whose they are" "$(expr "$kernels" : '.*float products')" \
	"$(expr "$kernels" : '.*products')"
for choice in own onednn; do
	QATRUN_CPU_DENSE=$choice
	export QATRUN_CPU_DENSE
	pass "$dir/alone.yaml" --set "output=$dir/$choice"
	now=$(sed -n 's/.*"kernels": "\(.*\)",*/\1/p' "$dir/$choice/results.json")
	if [ "$now" != "$kernels" ]; then
		refused alone "kernels was $kernels, is now $now"
	else
		echo "QATRUN_CPU_DENSE=$choice is the default here: $now"
	fi
done
unset QATRUN_CPU_DENSE

# the version of oneDNN: where it is not in use by itself, it is asked for
other=$(cd "$top_builddir/tests" && pwd)/.libs/other_onednn.so
case $kernels in
*oneDNN*)
	with=default ;;
*)
	QATRUN_CPU_DENSE=onednn
	export QATRUN_CPU_DENSE
	pass "$dir/alone.yaml" --set "output=$dir/asked"
	grep -q 'all float products by oneDNN' "$dir/asked/results.json" && with=asked || with= ;;
esac
if grep -q -e '-fsanitize' "$top_builddir/Makefile" || [ ! -e "$other" ]; then
	echo "nothing can be preloaded here: another version of oneDNN is not tested"
elif [ -z "$with" ]; then
	echo "built without oneDNN: another version of it is not tested"
else
	another versioned cpu "$tied"
	was=$(sed -n 's/.*"kernels": ".*\(oneDNN [^ ]*\) .*",*/\1/p' "$dir/versioned/results.json")
	LD_PRELOAD=$other
	export LD_PRELOAD
	refused versioned "kernels was .* by $was on .*, is now .* by oneDNN 9.8.7-01234567 on .*"
	unset LD_PRELOAD
	resumes "$dir/versioned" "$dir/versioned.yaml"
fi
unset QATRUN_CPU_DENSE

# The fallback's, where it has work to do and where it has none.
isa=$(said isa)
rope=$(sed -n 's/^	QAT_OP_ROPE = \([0-9]*\),.*/\1/p' \
	"${top_srcdir:-..}/core/include/qatrun/graph.h")
another partly "partial, fallback: allow, lacks: $((1 << rope))" "$tied" 1
another hardly partial "$tied" 1
for name in partly hardly; do
	if [ "$isa" != baseline ]; then
		QATRUN_CPU_ISA=baseline
		export QATRUN_CPU_ISA
		refused $name "instruction set of the fallback was $isa, is now baseline"
		unset QATRUN_CPU_ISA
	fi
	for choice in own onednn; do
		now=$(sed -n 's/.*"kernels": "\(.*\)",*/\1/p' "$dir/$choice/results.json")
		[ "$now" = "$kernels" ] && continue
		QATRUN_CPU_DENSE=$choice
		export QATRUN_CPU_DENSE
		refused $name "kernels of the fallback was $kernels, is now $now"
		unset QATRUN_CPU_DENSE
	done
done
refused partly "device.backend.lacks was $((1 << rope)), is now 0" --set device.lacks=0
refused partly 'device.backend was partial, is now cpu' --set 'device={backend: cpu, threads: 1}'
resumes "$dir/partly" "$dir/partly.yaml" --set device.fallback=warn

# A model in a file, which then is another; a text that is edited, to the same length.
pass "$dir/alone.yaml" --set "output=$dir/made"
cp -r "$dir/made/states/grown" "$dir/model"
another filed cpu "{path: $dir/model, tokenizer: bytes}"
cp "$dir/model/model.safetensors" "$dir/kept"
printf '\001' | dd of="$dir/model/model.safetensors" bs=1 seek=60000 conv=notrunc 2>/dev/null
refused filed 'content of the model was [0-9a-f]*, is now [0-9a-f]*'
cp "$dir/kept" "$dir/model/model.safetensors"
cp "$dir/text" "$dir/kept"
sed 's/which is more/which is less/' "$dir/kept" >"$dir/text"
refused filed 'content of data.train was [0-9a-f]*, is now [0-9a-f]*'
cp "$dir/kept" "$dir/text"
refused filed 'optimizer.lr was 0.001, is now 0.01' \
	--set 'steps[0].optimizer={name: adamw, lr: 1e-2}'
mv "$dir/text" "$dir/moved"
mv "$dir/model" "$dir/elsewhere"
resumes "$dir/filed" "$dir/filed.yaml" --set "model.path=$dir/elsewhere" \
	--set "data.train.files=[$dir/moved]" --set "data.test.files=[$dir/moved]"
finish
