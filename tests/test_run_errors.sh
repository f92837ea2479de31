#!/bin/sh
# What a user is told: the place, the thing, the way out; and whether anything had run (exit 1)
# or not (exit 2). A refusal leaves no output behind.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
make_text "$dir/text" 60

cd "$dir" || exit 99
case $run in
/*) ;;
*) echo "top_builddir must be absolute" && exit 99 ;;
esac
fit='data: train, steps: 3, batch: 2, optimizer: {name: adamw, lr: 1e-3}'
{
	begin ok "$(echo "$tied" | tr -d '\n')"
	cat <<-END
	device: {threads: 1}
	schemes:
	  w: {quantizer: int4, group_size: 32}
	  x: {quantizer: int8, granularity: token}
	sites:
	  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: x}]
	steps:
	  - {task: quantize, from: base, sites: deploy, as: ptq}
	  - {task: train, from: base, sites: deploy, as: qat, $fit}
	  - {task: evaluate, of: [base, qat], data: test}
	  - {task: save, from: qat, path: saved}
	END
} | sed 's/^output: .*/output: out/' >ok.yaml

# says CODE PATTERN FILE ARGUMENT..: exit code, one line on standard error
says() {
	checks=$((checks + 1))
	expected=$1 pattern=$2
	shift 2
	timeout 60 "$run" --quiet "$@" >stdout 2>stderr </dev/null
	code=$?
	[ $code -eq "$expected" ] || fail "$*: exit $code, not $expected: $(cat stderr)"
	grep -q -e "$pattern" stderr || fail "$*: no \"$pattern\": $(cat stderr)"
	[ "$(wc -l <stderr)" -eq 1 ] || fail "$*: more than a line: $(cat stderr)"
	[ "$expected" -ne 2 ] || [ ! -e out ] || {
		fail "$*: was refused, but left an output"
		rm -rf out
	}
}

# set PATTERN SETTING..: refused because of it
set_says() {
	pattern=$1
	shift
	for setting; do
		shift
		set -- "$@" --set "$setting"
	done
	says 2 "$pattern" ok.yaml "$@"
}

# edit FROM TO PATTERN: the file with a line changed; the message begins with file:line:column
edit_says() {
	sed "s/$1/$2/" ok.yaml >edited.yaml
	cmp -s ok.yaml edited.yaml && fail "nothing to edit: $1"
	says 2 "^qat-run: edited.yaml:$3" edited.yaml
}

# keys and values, where they stand
edit_says 'group_size' 'groupsize' \
	'11:24: unknown option "groupsize" of quantizer int4: did you mean "group_size"?'
edit_says 'seed: 1' 'sead: 1' '3:1: .*"sead" of the pipeline: did you mean "seed"?'
edit_says 'threads: 1' 'thread: 1' '.*"thread" of backend cpu: did you mean "threads"?'
edit_says 'steps: 3' 'steps: three' '17:.*steps\[1\].steps: "three" is not an integer: write'
edit_says 'steps: 3' 'steps: 0' '17:.*steps\[1\].steps: 0 is out of range: it must be from 1'
edit_says 'lr: 1e-3' 'lr: quick' '17:.*steps\[1\].optimizer.lr: "quick" is not a number: write'
edit_says 'lr: 1e-3' 'lr: 1e-3, betas: [0.9]' '17:.*betas takes two numbers'
edit_says 'name: adamw' 'name: adam' '17:.*unknown optimizer "adam": did you mean "adamw"?'
edit_says 'task: train' 'task: trian' '17:.*unknown task "trian": did you mean "train"?'
edit_says 'of: \[base, qat\]' 'of: [base, qta]' '18:.*unknown state "qta": did you mean "qat"?'
edit_says 'as: qat' 'as: ptq' '17:.*there is a state "ptq" already'
edit_says 'data: test' 'data: tset' '18:.*unknown data set "tset": did you mean "test"?'
edit_says 'sites: deploy' 'sites: deplyo' '16:.*unknown set of sites "deplyo": did you mean'
edit_says 'weight: w,' 'weight: v,' '14:.*unknown scheme "v"'
edit_says '{attn,mlp}' 'atn' '14:.*matches nothing in the model: did you mean "attn"'
edit_says 'quantizer: int4' 'quantizer: int44' '.*unknown quantizer "int44": did you mean "int4"?'
edit_says '"layers' '"}layers' '14:'
edit_says 'qatrun: 1' 'qatrun: 7' '1:9: qatrun: the file is of version 7'

# what only the model tells
edit_says 'group_size: 32' 'group_size: 48' \
	'11:.*attn.q, weight: group_size 48 does not divide its 64 columns: .* 32 and 64'
edit_says 'granularity: token' 'granularity: channel' '12:.*channel is for weights'
edit_says 'train\(.*\)length: 32' 'train\1length: 65' \
	'7:.*length 65 is longer than the model.s context of 64: use a smaller'
edit_says 'test\(.*\)length: 32' 'test\1length: 63000' '8:.*needs 63001: shorten the length'
edit_says 'vocab_size: 256' 'vocab_size: 99' '.*outside the model.s vocabulary of 99'
edit_says 'num_attention_heads: 2' 'num_attention_heads: 5' '5:.*hidden_size 64 is not a multiple'
edit_says 'tokenizer: bytes' 'tokenizer: byte' '5:.*unknown tokenizer "byte": did you mean "bytes"?'
edit_says 'path: saved' 'path: saved, format: gguf' '19:.*gguf can only be read'
edit_says 'path: saved' 'path: saved, format: hf' '19:.*this format does not hold schemes.*leave'
edit_says 'path: saved}' 'path: saved}\n  - {task: save, from: base, path: saved}' \
	'20:.*path "saved": an earlier step saves there'
edit_says 'path: saved' 'path: saved, format: onnx' '19:.*unknown format "onnx"'

# files
set_says 'data.test: .*/nowhere.txt: No such file' 'data.test.files=[/nowhere.txt]'
set_says 'is not a plain file' "data.test.files=[$dir]"
set_says 'does not exist: give a file, a folder, or a hub name' 'model={path: /nowhere}'
set_says 'no format plugin knows this file' "model={path: $dir/text}"
set_says 'model.revision: init: random reads nothing from a hub' 'model.revision=main'
mkdir folder
set_says 'no format plugin knows this folder: a model.s has' "model={path: $dir/folder}"
: >empty
set_says '0 tokens, but one sequence of length 32 needs 33' "data.train.files=[$dir/empty]"

# data that is of no use
printf '{"input_ids": [1]}\n{"input_ids": [2, 3], "labels": [-100, -100]}\n' >unscored.jsonl
for step in 1 2; do
	set_says "steps\[.\]: data test: no label in its 2 sequences is scored" \
		"data.test={dataset: jsonl, files: [$dir/unscored.jsonl], length: 8}" \
		"steps[$step].data=test"
done
set_says 'batch 999, but data train has [0-9]* sequences' 'steps[1].batch=999'
set_says 'steps\[0\]: nothing to measure: no scheme at these sites has a static range' \
	'steps[0]={task: calibrate, from: base, sites: deploy, data: test, as: ptq}'
set_says 'ok.yaml:8:9: data.test: /nowhere.txt: No' 'data.test.files=[/nowhere.txt]'

# --set
set_says 'unknown option "lr" of task train: it has from' 'steps[1].lr=3'
set_says 'the list steps has 4 items: its last is \[3\]' 'steps[9].task=train'
set_says 'not valid YAML' 'steps[1]=[unclosed'
set_says 'not a setting: write it like' 'steps[1].steps'
set_says 'not a setting: write it like' 'steps[x]=1'

# an output that is there
timeout 60 "$run" --quiet ok.yaml >/dev/null || fail "the pipeline of this test does not run"
cp -r out/saved model
says_kept() {
	checks=$((checks + 1))
	timeout 60 "$run" --quiet "$@" >stdout 2>stderr && fail "$*: an output was overwritten"
	grep -q "$pattern" stderr || fail "$*: no \"$pattern\": $(cat stderr)"
}
pattern='out is not empty: --force replaces'
says_kept ok.yaml
timeout 60 "$run" --quiet --force ok.yaml >/dev/null || fail "--force does not replace a run"
pattern='out/saved exists, and is no folder of this format'
says_kept --force ok.yaml --set 'steps[3].from=base' --set 'steps[3].format=hf'
mkdir theirs
: >theirs/thesis
pattern='no run made it'
says_kept --force ok.yaml --set output=theirs
[ -e theirs/thesis ] || fail "--force removed what no run made"
rm -rf out

# model files that are cut off, or do not belong together
sed 's|^model: .*|model: {path: bad, tokenizer: bytes}|' ok.yaml >bad.yaml
bad_says() {
	says 2 "$1" bad.yaml
	rm -rf bad
	cp -r model bad
}
cp -r model bad
size=$(wc -c <model/model.safetensors)
dd if=model/model.safetensors of=bad/model.safetensors bs=$((size - 1)) count=1 2>dd.log
bad_says 'bad.yaml:5:8: .*ends at byte [0-9]* of [0-9]*: the file is cut off'
dd if=model/model.safetensors of=bad/model.safetensors bs=99 count=1 2>dd.log
bad_says 'model.safetensors: the header has .*: it is cut off'
: >bad/model.safetensors
bad_says '0 bytes are too short for a header'
rm bad/config.json
bad_says 'config.json: there is none'
echo '{' >bad/config.json
bad_says 'config.json: '
sed 's/"hidden_size": 64/"hidden_size": 128/' model/config.json >bad/config.json
bad_says 'tensor .* is \[.*\], but config.json asks for'
# (the file has a layer, a matrix for the head, that the config does not have)
sed 's/"tie_word_embeddings": true/"tie_word_embeddings": false/' model/config.json >bad/config.json
bad_says 'tensor lm_head.weight (lm_head.weight) is missing: config.json and'
echo '{' >bad/state.json
bad_says 'state document: line 2'
sed 's/"numerics": 1/"numerics": 9/' model/state.json >bad/state.json
bad_says 'made under numeric contract 9, this program knows 1'

# numbers that are not finite: said while running, with step, state, node and a way out
for sites in none deploy; do
	rm -rf out
	says 1 'step [0-9]* of state qat: .* begins at layers.0.*: a lower learning rate' ok.yaml \
		--set 'steps[1].optimizer.lr=1000' --set 'steps[1].clip=0' \
		--set 'steps[1].steps=60' --set "steps[1].sites=$sites"
	[ -e out/states/qat ] && fail "a state was made of numbers that are not finite"
	grep -q '"as": "ptq"' out/results.json || fail "results.json lost the steps before"
done

# a file with more than its config has
timeout 60 "$run" --quiet ok.yaml --set output=deep --set 'model.config.num_hidden_layers=2' \
	--set 'steps=[{task: save, from: base, path: saved}]' >/dev/null || fail "no deep model"
rm -rf bad out
cp -r deep/saved bad
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' deep/saved/config.json >bad/config.json
says 2 'bad: 9 tensors that the model does not have, layers.1.[a-z0-9., ]* and so on: config' bad.yaml

# a tokenizer that is a pipe, with nobody at its other end
mkfifo pipe
rm -rf out
says 2 'pipe: not a regular file' ok.yaml --set model.tokenizer=./pipe

# a NaN in one parameter: that parameter is named
timeout 60 "$run" --quiet ok.yaml --set output=plain --set 'steps=[{task: save, from: base,
  path: saved}]' >/dev/null || fail "base cannot be saved"
poison() {
	rm -rf bad
	cp -r plain/saved bad
	length=$(od -A n -t d8 -N 8 bad/model.safetensors | tr -d ' ')
	at=$(dd if=bad/model.safetensors bs=1 skip=8 count="$length" 2>dd.log |
		sed "s/.*\"$1\":{[^}]*\"data_offsets\":\[\([0-9]*\),.*/\1/")
	printf '\000\000\300\177' | dd of=bad/model.safetensors bs=1 conv=notrunc \
		seek=$((8 + length + at + 40)) 2>dd.log
}
for parameter in layers.0.mlp.up.weight layers.0.norm1.weight embed.weight; do
	poison $parameter
	rm -rf out
	says 1 "state qat: .* begins at $parameter: nothing was updated yet" bad.yaml \
		--set 'steps[0]={task: tokenize, data: test, path: ids}'
	rm -rf out
	says 1 "of state base is not a finite number: it begins at $parameter\$" bad.yaml \
		--set 'steps[0]={task: evaluate, of: [base], data: test}'
done
# and where no computation meets it, in the row of a token that the data has not
rm -rf bad out
poison embed.weight
says 1 'embed.weight holds nan at \[0, 10\]: a state with values that are not finite' bad.yaml \
	--set 'steps=[{task: save, from: base, path: saved}]'
rm -rf out
says 1 'embed.weight holds nan at \[0, 10\]' bad.yaml \
	--set 'steps=[{task: quantize, from: base, sites: deploy, as: ptq}]'
finish
