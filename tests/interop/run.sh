#!/bin/sh
# Holds qat-run against transformers and tokenizers, with the models and dumps that the
# scripts of this folder make. What is not in REF yet is made first.
#
#   PYTHON   of an environment as README.md says
#   REF      folder of models and references
#   DATA     folder with tinyshakespeare.txt and wikitext-2/{valid,test}.txt
#   SMOLLM2  SmolLM2-135M-Instruct.Q4_1.gguf; unset: without it
#   QAT_RUN  default: qat-run; with QATRUN_PLUGIN_PATH where it is not installed
#   THREADS  default: 2
#
# Exit 1 where they differ.
set -u
: "${PYTHON:?}" "${REF:?}" "${DATA:?}"
QAT_RUN=${QAT_RUN:-qat-run}
THREADS=${THREADS:-2}
here=$(cd "$(dirname "$0")" && pwd) || exit 99
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM
PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
export PYTHONDONTWRITEBYTECODE HF_HUB_OFFLINE
failed=0

py() {
	script=$1
	shift
	"$PYTHON" "$here/$script" "$@" 2>"$work/stderr" || {
		grep -v -e '^W[0-9]' "$work/stderr" >&2
		return 1
	}
}

# reference FILE SCRIPT ARGUMENT..: made unless it is there
reference() {
	target=$REF/$1
	shift
	[ -e "$target" ] || py "$@" --out "$target" >/dev/null || exit 99
}

# ours NAME MODEL DATA STEP: a run of one step, in f32
ours() {
	cat >"$work/$1.yaml" <<-END
	qatrun: 1
	name: $1
	output: $work/$1
	model: {path: "$2"}
	device: {precision: f32, threads: $THREADS}
	data: {text: {dataset: text, $3}}
	steps:
	  - {$4}
	END
	"$QAT_RUN" --quiet "$work/$1.yaml" >/dev/null || {
		echo "$1: FAIL: qat-run"
		failed=$((failed + 1))
		return 1
	}
}

# verdict NAME OURS REFERENCE [OPTION..]: the worst of each measure, or what failed
verdict() {
	name=$1
	shift
	if py compare.py "$@" >"$work/said"; then
		awk -v name="$name" '{
			what = $1 ~ /^(tokens|logits|nll):$/ ? $0 : ""
			sub(/ \(.*/, "", what)
			if (what)
				line = line (line ? "; " : "") what
			else if (match($0, /relative error [^ ]+/)) {
				e = substr($0, RSTART + 15, RLENGTH - 15) + 0
				if (e > worst)
					worst = e
				n++
			}
		} END {
			if (n)
				line = n " gradients: relative error at most " worst
			print name ": " line ": ok"
		}' "$work/said"
	else
		echo "$name: FAIL"
		grep FAIL "$work/said" || cat "$work/stderr"
		failed=$((failed + 1))
	fi
}

# ids NAME MODEL TEXT: every id of a text
ids() {
	reference "$1.safetensors" tokens.py "$2" --text "$3"
	ours "$1" "$2" "files: [\"$3\"], length: 1" \
		"task: tokenize, data: text, path: dump.safetensors" || return
	verdict "$1: all ids" "$work/$1/dump.safetensors" "$REF/$1.safetensors" --ids
	rm -rf "${work:?}/$1"
}

# said NAME MODEL TEXT LENGTH LIMIT WHAT REFERENCE OPTION..
said() {
	name=$1 model=$2 text=$3 length=$4 limit=$5 what=$6 file=$7
	shift 7
	reference "$file" reference.py "$model" --text "$text" --length "$length" \
		--limit "$limit" "$@"
	ours "$name" "$model" "files: [\"$text\"], length: $length, limit: $limit" "task: evaluate,
	    of: [base], data: text, dump: {path: dump.safetensors, what: [$what]}" || return
	verdict "$name" "$work/$name/dump.safetensors" "$REF/$file"
	rm -rf "${work:?}/$name"
}

# gradients NAME MODEL TEXT LENGTH LIMIT DUMP
gradients() {
	reference "$1.grad.safetensors" gradients.py "$2" --tokens "$REF/$6"
	ours "$1-gradients" "$2" "files: [\"$3\"], length: $4, limit: $5" \
		"task: gradients, of: base, data: text, batch: 4, path: g.safetensors" || return
	py names.py "$work/$1-gradients/g.safetensors" "$REF/$1.grad.safetensors" \
		--out "$work/g.safetensors" &&
		verdict "$1" "$work/g.safetensors" "$REF/$1.grad.safetensors"
	rm -rf "${work:?}/$1-gradients"
}

# continued NAME MODEL: greedy continuations, id by id
continued() {
	ours "$1" "$2" "files: [\"$shakespeare\"], length: 8, limit: 1" "task: generate, of: [base],
	    prompts: [\"First Citizen:\", \"The king\"], max_new_tokens: 24,
	    dump: {path: ids.safetensors}" || return
	if py generate.py "$2" "$work/$1" >"$work/said"; then
		echo "$1: $(wc -l <"$work/said") greedy continuations: ok"
	else
		echo "$1: FAIL"
		cat "$work/said" "$work/stderr"
		failed=$((failed + 1))
	fi
	rm -rf "${work:?}/$1"
}

shakespeare=$DATA/tinyshakespeare.txt
[ -d "$REF/models" ] || py make_models.py "$REF/models" --text "$shakespeare" || exit 99
for m in gpt2 gpt2-hub llama llama-sharded llama-tied; do
	said $m "$REF/models/$m" "$shakespeare" 32 8 "tokens, logits, nll" $m.dump.safetensors
	gradients $m "$REF/models/$m" "$shakespeare" 32 8 $m.dump.safetensors
	continued $m.continued "$REF/models/$m"
	ids $m.edges "$REF/models/$m" "$REF/models/edges.txt"
	ids $m.tinyshakespeare "$REF/models/$m" "$shakespeare"
	for part in valid test; do
		ids $m.wikitext-2-$part "$REF/models/$m" "$DATA/wikitext-2/$part.txt"
	done
done

if [ -n "${SMOLLM2:-}" ]; then
	ids smollm2.edges "$SMOLLM2" "$REF/models/edges.txt"
	continued smollm2.continued "$SMOLLM2"
	ids smollm2.tinyshakespeare "$SMOLLM2" "$shakespeare"
	ids smollm2.valid "$SMOLLM2" "$DATA/wikitext-2/valid.txt"
	ids smollm2.test "$SMOLLM2" "$DATA/wikitext-2/test.txt"
	said smollm2-2x512 "$SMOLLM2" "$DATA/wikitext-2/test.txt" 512 2 "tokens, logits, nll" \
		smollm2.2x512.dump.safetensors
	said smollm2-60x512 "$SMOLLM2" "$DATA/wikitext-2/test.txt" 512 60 "tokens, nll" \
		smollm2.60x512.nll.safetensors --no-logits
else
	echo "SMOLLM2 is not set: without it"
fi
[ $failed -eq 0 ] || echo "$failed comparisons do not hold"
[ $failed -eq 0 ]
