#!/bin/sh
# What qat-run says and how it ends: usage, help, plugins, refusals before anything runs.
top_builddir=${top_builddir:-..}
run=$top_builddir/core/qat-run
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
failed=0

# expect CODE PATTERN STREAM command...: the exit code, and a line that matches.
expect() {
	code=$1 pattern=$2 stream=$3
	shift 3
	"$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null
	got=$?
	if [ $got -ne "$code" ]; then
		echo "FAIL: $*: exit $got, not $code"
		cat "$dir/stderr"
		failed=1
	elif ! grep -q -e "$pattern" "$dir/$stream"; then
		echo "FAIL: $*: no \"$pattern\" on $stream:"
		cat "$dir/$stream"
		failed=1
	fi
}

# nothing else may be on the other stream
silent() {
	if [ -s "$dir/$1" ]; then
		echo "FAIL: $2: this should not be on $1:"
		cat "$dir/$1"
		failed=1
	fi
}

mkdir "$dir/plugins" || exit 99
cp -L "$top_builddir/tests/.libs/every.so" "$dir/plugins/quantizer-grid.so" || exit 99
chmod 755 "$dir/plugins/quantizer-grid.so"
for link in task-change task-look dataset-lines model-tiny backend-paper optimizer-walk; do
	ln -s quantizer-grid.so "$dir/plugins/$link.so"
done
ln -s quantizer-grid.so "$dir/plugins/task-wrong.so"
QATRUN_PLUGIN_PATH=$dir/plugins
export QATRUN_PLUGIN_PATH

cat >"$dir/p.yaml" <<'END'
qatrun: 1
name: toy
model: {family: tiny, init: random, config: {hidden_size: 128}}
schemes:
  w4: {quantizer: grid, groupsize: 32}
steps:
  - {task: change, from: base, as: next}
END

expect 0 '^usage: qat-run' stdout "$run" --help
silent stderr --help
expect 0 '^qatrun [0-9]' stdout "$run" --version
expect 0 'QATRUN_PLUGIN_PATH: plugins: left out, as it is not absolute' stderr \
	env QATRUN_PLUGIN_PATH="plugins:$dir/plugins" "$run" --plugins
expect 2 'which pipeline' stderr "$run"
silent stdout "no arguments"
expect 2 '^qat-run: unknown option --chek: did you mean --check?$' stderr "$run" --chek x.yaml
expect 2 'unknown option --zzzzzzz: qat-run --help lists them' stderr "$run" --zzzzzzz
expect 2 'unknown option --che' stderr "$run" --che x.yaml
expect 2 'goes on with what is there, --force removes it' stderr "$run" --resume --force x.yaml
expect 2 'unknown option -x' stderr "$run" -x
expect 2 '--set needs a value' stderr "$run" x.yaml --set
expect 2 '--check takes no value' stderr "$run" --check=1 x.yaml
expect 2 'one word too many' stderr "$run" a.yaml b.yaml
expect 2 'one word too many' stderr "$run" --version b
expect 2 'write auto, always or never' stderr "$run" --color=red a.yaml
expect 2 'no-such.yaml: .*No such file' stderr "$run" no-such.yaml
expect 2 'no-such.yaml' stderr "$run" -- no-such.yaml

expect 0 '^quantizer grid: a grid$' stdout "$run" --help grid
expect 0 '^  group_size  integer, 1 to 65536' stdout "$run" --help grid
expect 0 '^  optimizer  .* walk ' stdout "$run" change --help
expect 0 '^  precision  .*f32 | bf16' stdout "$run" --help pipeline
expect 2 'no plugin is named "gird": did you mean "grid"?' stderr "$run" --help gird
expect 2 'qat-run --plugins lists them' stderr "$run" --help zzzzzzzz

expect 0 "^accepted  $dir/plugins/quantizer-grid.so: " stdout "$run" --plugins
expect 0 "^refused   $dir/plugins/task-wrong.so: offers no task named wrong\$" stdout \
	"$run" --plugins

expect 2 "^qat-run: $dir/p.yaml:5:25: unknown option \"groupsize\" of quantizer grid: did you\
 mean \"group_size\"?\$" stderr "$run" "$dir/p.yaml"
silent stdout "a refused pipeline"
expect 2 'unknown option "groupsize"' stderr "$run" --check --quiet "$dir/p.yaml"
expect 2 '^qat-run: --set .*: schemes.w4.bits: 9 is out of range' stderr \
	"$run" "$dir/p.yaml" --set 'schemes.w4={quantizer: grid, bits: 9}'
expect 2 '\[31m' stderr "$run" --color=always no-such.yaml
expect 2 '^qat-run: ' stderr "$run" --color=never no-such.yaml

# a full disk is not success
if [ -w /dev/full ]; then
	if "$run" --help >/dev/full 2>"$dir/stderr"; then
		echo "FAIL: --help on a full disk"
		failed=1
	fi
	grep -q 'standard output' "$dir/stderr" || { echo "FAIL: says nothing of it"; failed=1; }
fi

# bare help opens no plugin: a folder that cannot be read does not matter
expect 0 '^usage' stdout env QATRUN_PLUGIN_PATH=/nowhere "$run" --help

[ $failed -eq 0 ] && echo "qat-run says what it should"
# Threads sleep at once where other programs have the processors, unless the user says how.
waiting() {
	"$@" OMP_DISPLAY_ENV=verbose QATRUN_PLUGIN_PATH="$top_builddir/plugins-built" \
		"$run" --check "$dir/small.yaml" 2>&1 | sed -n "s/.*GOMP_SPINCOUNT = '\\(.*\\)'.*/\\1/p"
}
cat >"$dir/small.yaml" <<END
qatrun: 1
name: small
output: $dir/out
model: {family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256, hidden_size: 32,
  intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2,
  max_position_embeddings: 32}}
data: {train: {dataset: text, files: [$dir/small.yaml], length: 16}}
steps: [{task: train, from: base, as: out, data: train, steps: 1, optimizer: {name: adamw}}]
END
busy=
online=$(getconf _NPROCESSORS_ONLN)
for i in $(seq "$online"); do
	(while :; do :; done) &
	busy="$busy $!"
done
sleep 1
said=$(waiting env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY)
told=$(waiting env -u OMP_WAIT_POLICY GOMP_SPINCOUNT=77)
runnable=$(sed 's/\([^ ]* \)\{3\}\([0-9]*\).*/\2/' /proc/loadavg)
kill $busy
if [ -z "$told" ]; then
	echo "skipped: this OpenMP does not tell how long threads wait"
elif [ "${runnable:-0}" -lt "$online" ]; then
	echo "skipped: /proc/loadavg does not tell what runs here"
elif [ "$said" != 100 ] || [ "$told" != 77 ]; then
	echo "FAIL: beside busy processors threads spin for $said, not 100; $told, not 77 as told"
	failed=1
fi
exit $failed
