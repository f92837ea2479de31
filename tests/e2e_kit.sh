# e2e_kit.sh - what the tests of whole runs share; sourced. They leave $dir when they end,
# and $failed says how many checks did not hold.
top_builddir=${top_builddir:-..}
run=$top_builddir/core/qat-run
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM
failed=0
checks=0

# Two threads on a loaded machine spend their time waiting for each other: sleep instead.
GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
export GOMP_SPINCOUNT

# The leak checker dies where OpenMP's threads come and go; test_run_valgrind.sh looks for
# leaks instead.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS

fail() {
	echo "FAIL: $*"
	failed=$((failed + 1))
}

finish() {
	[ "$failed" -eq 0 ] && [ "$checks" -gt 0 ] && echo "$checks checks hold"
	[ "$failed" -eq 0 ] || echo "$failed of $checks checks do not hold"
	[ "$failed" -eq 0 ] && [ "$checks" -gt 0 ]
	exit
}

# pass PIPELINE ARGUMENT..: runs it; it must succeed. Output is left in stdout, stderr.
pass() {
	checks=$((checks + 1))
	timeout 100 "$run" --quiet --force "$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null
	code=$?
	[ $code -eq 0 ] && return
	fail "$*: exit $code"
	cat "$dir/stderr"
	return 1
}

# number FILE LIST NAME KEY: from results.json, one object of a list: the state or the
# step's `as`, else its task, is NAME. As it is written, so that strings can be compared.
number() {
	awk -v list="$2" -v name="$3" -v key="$4" '
	function value(line) {
		sub(/^ *"[^"]*": /, "", line)
		sub(/,$/, "", line)
		gsub(/^"|"$/, "", line)
		return line
	}
	function key_of(line) {
		sub(/^ *"/, "", line)
		sub(/".*/, "", line)
		return line
	}
	/^  "/ { inside = key_of($0) == list; next }
	!inside { next }
	/^    [^ }].*\{$/ { who = key_of($0); found = "" }
	/^    \{$/ { who = ""; found = "" }
	/^      "/ {
		k = key_of($0)
		if (list != "states" && (k == "state" || k == "as") && value($0) != "null")
			who = value($0)
		if (k == "task")
			task = value($0)
		if (k == key)
			found = value($0)
	}
	/^    \}/ {
		if (found != "" && (who == name || (who == "" && task == name))) {
			print found
			exit
		}
	}' "$1"
}

# same WHAT A B: equal as text, and there.
same() {
	checks=$((checks + 1))
	[ -n "$2" ] && [ "$2" = "$3" ] || fail "$1: \"$2\" is not \"$3\""
}

# holds WHAT EXPRESSION: true to awk. Numbers that are not there or not finite fail.
holds() {
	checks=$((checks + 1))
	case " $2 " in
	*null*|*nan*|*inf*) fail "$1: $2"; return ;;
	esac
	awk "BEGIN { exit !($2) }" 2>/dev/null || fail "$1: $2"
}

# near WHAT A B TOLERANCE
near() {
	holds "$1" "($2) - ($3) <= ($4) && ($3) - ($2) <= ($4)"
}

# A text that a small model can learn something of, the same everywhere.
make_text() {
	awk 'BEGIN {
		for (i = 0; i < '"${2:-400}"'; i++) {
			a = (i * 37 + 11) % 89
			b = (i * i + 5 * i) % 61
			printf "%d and %d make %d, ", a, b, a + b
			printf (i % 7 ? "which is more than %d.\n" : "and %d is left.\n"), b
		}
	}' >"$1"
}

# The models of these tests, as the value of `model:`.
llama='{family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256,
  hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4,
  num_key_value_heads: 2, max_position_embeddings: 64, tie_word_embeddings: false}}'
tied='{family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256,
  hidden_size: 64, intermediate_size: 96, num_hidden_layers: 1, num_attention_heads: 2,
  num_key_value_heads: 1, max_position_embeddings: 64, tie_word_embeddings: true}}'
gpt2='{family: gpt2, init: random, tokenizer: bytes, config: {vocab_size: 256, n_embd: 64,
  n_layer: 1, n_head: 4, n_positions: 64}}'

# begin NAME MODEL: the parts that pipelines of these tests begin with, on standard output.
begin() {
	cat <<-END
	qatrun: 1
	name: $1
	seed: 1
	output: $dir/$1
	model: $2
	data:
	  train: {dataset: text, files: [$dir/text], length: 32}
	  test: {dataset: text, files: [$dir/text], length: 32, limit: 16}
	END
}
