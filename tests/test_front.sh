#!/bin/sh
# qat-train and qat-compare: what they refuse, the pipeline that they print, and that it and
# they say the same.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
case $top_builddir in
/*) ;;
*) echo "top_builddir must be absolute" && exit 99 ;;
esac
train=$top_builddir/fronts/qat-train
compare=$top_builddir/fronts/qat-compare
cd "$dir" || exit 99
make_text text 200
awk 'BEGIN { for (i = 0; i < 90; i++) printf "{\"text\": \"%d and %d\"}\n", i, 7 * i }' >lines.jsonl

# a model, grown a little
{
	begin grow "$tied"
	cat <<-'END'
	steps:
	  - {task: train, from: base, as: grown, data: train, steps: 20, batch: 4,
	     optimizer: {name: adamw, lr: 3e-3}}
	  - {task: save, from: grown, path: saved}
	END
} >grow.yaml
pass grow.yaml || finish
mv grow/saved small.Q4_1.gguf

# says CODE PATTERN PROGRAM ARGUMENT..: exit code, one line on standard error
says() {
	checks=$((checks + 1))
	expected=$1 pattern=$2
	shift 2
	timeout 60 "$@" >stdout 2>stderr </dev/null
	code=$?
	[ $code -eq "$expected" ] || fail "$*: exit $code, not $expected: $(cat stderr)"
	grep -q -e "$pattern" stderr || fail "$*: no \"$pattern\": $(cat stderr)"
	[ "$(wc -l <stderr)" -eq 1 ] || fail "$*: more than a line: $(cat stderr)"
	[ ! -e runs ] || { fail "$*: left an output"; rm -rf runs; }
}
model=small.Q4_1.gguf
says 2 '^qat-train: which model? qat-train --help' "$train"
says 2 '^qat-train: --data FILE is needed: text or JSON' "$train" $model --scheme int4
says 2 '^qat-train: --scheme NAME is needed: ' "$train" $model --data text
says 2 'unknown option --stesp: did you mean --steps?' "$train" $model --stesp 3
says 2 'unknown option --chekc: did you mean --check?' "$train" $model --chekc
says 2 'unknown option --group-sze=1: did you mean --group-size?' "$train" --group-sze=1
says 2 'unknown option --zzzzzzz: qat-compare --help lists' "$compare" --zzzzzzz
says 2 'unknown option --plugins' "$compare" --plugins
says 2 '^qat-train: --steps needs a value: qat-train --help' "$train" $model --steps
says 2 '"b" is one word too many: qat-train --help' "$train" $model b
says 2 'write a scheme, or a scheme and its' "$train" $model --data text --scheme int4:
says 2 '^qat-compare: --schemes "": write' "$compare" $model --data text --schemes mxfp4,
says 2 'mxfp4 is there twice' "$compare" $model --data text --schemes mxfp4,mxfp4
says 2 'none is no scheme' "$compare" $model --data text --schemes int4,none
says 2 'gradient_bits: no site has a weight with one scale for a row' "$train" $model --data text --scheme int4:32 \
	--length 32 --gradient-bits 8
says 2 'no weight has a scheme' "$train" $model --data text --scheme none --group-size 8
says 2 'says 32 already' "$train" $model --data text --scheme int4:32 --group-size 8
says 2 'text is text and lines.jsonl is jsonl' "$train" $model --data text \
	--data lines.jsonl --scheme int4
says 2 'schemes.w.quantizer: unknown quantizer "int44": did you mean "int4"' \
	"$train" $model --data text --scheme int44
says 2 'pipeline (--print shows it):[0-9]*:[0-9]*: steps\[0\].steps: "x" is not an integer' \
	"$train" $model --data text --scheme int4 --steps x
says 2 'no-such' "$train" no-such --data text --scheme int4

# help tells every option, defaults too
for program in "$train" "$compare"; do
	checks=$((checks + 1))
	"$program" --help >stdout || fail "$program --help"
	for word in "^usage: ${program##*/} MODEL" '^  --steps N .*(100)' '^  --check ' \
		'^  --print ' '^Exit: 0'; do
		grep -q -e "$word" stdout || fail "$program --help: no \"$word\""
	done
done

# prints LINE PROGRAM ARGUMENT..: it is in the pipeline, word for word
prints() {
	checks=$((checks + 1))
	line=$1
	shift
	"$@" --print >stdout 2>stderr || fail "$* --print: $(cat stderr)"
	grep -qxF -e "$line" stdout || fail "$*: no \"$line\": $(cat stdout)"
	"$run" --check --quiet stdout >checked 2>stderr || fail "$*: --check: $(cat stderr)"
}
here=$(pwd -P)
set -- "$train" $model --data text --length 32
prints 'name: small.Q4_1-int4-32' "$@" --scheme int4:32
prints 'name: small.Q4_1-tuned' "$@" --scheme none
prints 'name: a-b' "$@" --scheme int4 --name a-b
prints "model: {path: $here/$model}" "$@" --scheme int4
prints '  w: {quantizer: int4, group_size: 8}' "$@" --scheme int4 --group-size 8
prints '  deploy: [{match: "layers.*.{attn,mlp}", weight: w, input: a}]' "$@" \
	--scheme int4 --activations int8
prints '  deploy: [{match: layers.0, input: a}]' "$@" --scheme none --activations int8 \
	--sites layers.0
prints 'device: {backend: reference, precision: bf16, threads: 1, memory_limit: 1GiB}' "$@" \
	--scheme int4 --backend reference --precision bf16 --threads 1 --memory-limit 1GiB
prints "  train: {dataset: jsonl, files: [$here/lines.jsonl], length: 16}" \
	"$train" $model --data lines.jsonl --scheme int4 --length 16
prints "  test: {dataset: text, files: [$here/text, $here/text], length: 32, limit: 3}" "$@" \
	--scheme int4 --test text --test text --limit 3
prints '  - {task: train, from: base, sites: deploy, as: qat, data: train, steps: 100, batch: 4, accumulate: 1, clip: 1, gradient_bits: 8,' \
	"$@" --scheme int8 --activations int8 --gradient-bits 8
prints '     optimizer: {name: adamw, lr: 2e-5, weight_decay: 0, moments: 8bit}, schedule: {name: cosine, warmup: 0}}' \
	"$@" --scheme int4 --moments 8bit
prints '    limit: 5' "$@" --scheme int4 --set data.train.limit=5

# a name that YAML would take for something else
odd='a "b": ${HOME} \, {x} #y'
cp text "$odd"
prints "  train: {dataset: text, files: [\"$here/a \\\"b\\\": \$\${HOME} \\\\, {x} #y\"], length: 32}" \
	"$train" $model --scheme int4 --data "$odd" --length 32

# what is printed, run, says the same as the front itself
again() {
	program=$1 name=$2
	shift 2
	checks=$((checks + 1))
	timeout 100 "$program" "$@" --quiet --output "$name" >stdout 2>stderr ||
		fail "$program: $(cat stderr)"
	[ ! -s stderr ] || fail "$program: --quiet says: $(cat stderr)"
	"$program" "$@" --print --output "$name-again" >"$name.yaml" && pass "$name.yaml"
	r=$name/results.json
	numbers='loss|perplexity|loss_delta|recovered|bytes|effective_bits|tokens_trained'
	same "$name again" "$(grep -E "\"($numbers)\":" "$r")" \
		"$(grep -E "\"($numbers)\":" "$name-again/results.json")"
}
fit='--length 32 --limit 8 --steps 6 --batch 2 --lr 1e-3 --threads 1'
again "$train" trained $model --data text --test text --scheme int4:32 --activations int8 $fit
holds "training helps" "$(number "$r" evaluations qat loss) < \
	$(number "$r" evaluations base loss)"
same "tokens" "$(number "$r" states qat tokens_trained)" $((20 * 4 * 32 + 6 * 2 * 32))
checks=$((checks + 1))
grep -q 'layers.0.attn.q.weight.codes' trained/model/model.safetensors || fail "no codes"

# the model that was saved is a model
pass trained.yaml --set model.path="$here/trained/model" --set output=third \
	--set 'steps=[{task: evaluate, of: [base], data: test}]' &&
	same "the saved model" "$(number third/results.json evaluations base loss)" \
		"$(number trained/results.json evaluations qat loss)"

again "$compare" compared $model --data text --train text --schemes int2:32,mxfp4 $fit \
	--set seed=5
same "the seed" "$(sed -n 's/^  "seed": \([0-9]*\).*/\1/p' "$r")" 5
for state in base control ptq-int2-32 control-ptq-int2-32 qat-int2-32 ptq-mxfp4 \
	control-ptq-mxfp4 qat-mxfp4; do
	holds "loss of $state" "$(number "$r" evaluations $state loss) > 0"
done
for state in qat-int2-32 qat-mxfp4; do
	holds "recovered by $state" "$(number "$r" comparisons $state recovered) < 2"
done
same "one table" "$(grep -c '^state.*token_accuracy' stdout)" 1

# without --train nothing is trained
again "$compare" rounded $model --data text --schemes int2:32 --length 32 --limit 8 --threads 1
same "steps" "$(grep -c '"task":' "$r")" 2
finish
