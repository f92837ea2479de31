#!/bin/sh
# A loss of power: what a run does to files is recorded, and at no moment may that which
# --resume goes by be on the disk before what it speaks of. Each fsync is then taken out of
# the record, which must show.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
grep -q -e '-fsanitize' "$top_builddir/Makefile" &&
	{ echo "skipped: a sanitizer must be loaded first"; exit 77; }
preload=$(cd "$top_builddir/tests" && pwd)/.libs/record_calls.so
[ -e "$preload" ] || { echo "skipped: no $preload"; exit 77; }
check=${top_srcdir:-..}/tests/check_power.awk
make_text "$dir/text" 100
pipeline whole | sed 's/steps: 24/steps: 6/; s/every: 5/every: 2/; s/steps: 30/steps: 6/
	s/every: 4/every: 2/; s/every: 6/every: 3/; s/keep: 2/keep: 1/' >"$dir/p.yaml"

# recorded FILE ARGUMENT..
recorded() {
	record=$1
	shift
	LD_PRELOAD=$preload RECORD_CALLS=$record "$run" --quiet "$dir/p.yaml" "$@" \
		>"$dir/stdout" 2>"$dir/stderr" </dev/null
}

# holds_out WHAT FILE: at every line
holds_out() {
	checks=$((checks + 1))
	awk -f "$check" "$2" >"$dir/wrong" || fail "$1: $(cat "$dir/wrong")"
}

# needed FILE: every sync in it. Those of one folder between two names that count go
# together: any of them will do. That of a draft's folder says nothing: it is not yet there.
needed() {
	awk -F '\t' '
	$1 == "sync" && last !~ /\.new$/ { lines[$2 " " names] = lines[$2 " " names] " " NR }
	$1 == "rename" { last = $3 }
	$1 == "rename" && $3 !~ /\.tmp-|\.new(\/|$)/ { names++ }
	$1 != "rename" { last = "" }
	END { for (i in lines) print lines[i] }' "$1" >"$dir/syncs"
	checks=$((checks + 1))
	while read -r lines; do
		awk -v without="$lines" -f "$check" "$1" >"$dir/wrong" &&
			fail "nothing is wrong without$(for line in $lines; do
				sed -n "${line}p" "$1"; done)"
	done <"$dir/syncs"
}

recorded "$dir/record" --set "output=$dir/runs/whole" || { cat "$dir/stderr"; exit 99; }
for name in pipeline.yaml checkpoints/grown/2 checkpoints/qat/3 checkpoints/qat/best.json \
	states/qat finished.json results.json; do
	checks=$((checks + 1))
	grep -q "^rename	.*	$dir/runs/whole/$name\$" "$dir/record" ||
		fail "no $name is recorded"
done
holds_out "a run" "$dir/record"
needed "$dir/record"
echo "$(grep -c '^sync' "$dir/record") syncs, $(wc -l <"$dir/syncs") taken out, each or those of one folder"

# One that is interrupted, and goes on.
LD_PRELOAD=$preload RECORD_CALLS=$dir/stopped "$run" --quiet "$dir/p.yaml" \
	--set "output=$dir/runs/part" >"$dir/stdout" 2>"$dir/stderr" </dev/null &
pid=$!
until_step "$dir/runs/part" 1 3 && kill -TERM "$pid"
ended
same "interrupted" "$code" 130
holds_out "an interruption" "$dir/stopped"
recorded "$dir/rest" --resume --set "output=$dir/runs/part" || fail "$(cat "$dir/stderr")"
holds_out "the rest" "$dir/rest"
finish
