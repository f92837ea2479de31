#!/bin/sh
# Sudden death: the run is killed at random moments and resumed, again and again; what it
# leaves in the end is what an uninterrupted run leaves, byte for byte.
#   KILLS=200     how often (10)
#   SEED=7        of the moments (by the clock; it is printed)
#   PIPELINE=f    another pipeline than the tests' small one, without `output` in it
#   KEEP=folder   where its runs lie (a temporary folder)
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
KILLS=${KILLS:-10}
SEED=${SEED:-$(date +%s)}
runs=${KEEP:-$dir}
mkdir -p "$runs"
file=$PIPELINE
if [ -z "$file" ]; then
	make_text "$dir/text"
	file=$dir/p.yaml
	pipeline whole >"$file"
fi

now() { date +%s.%N; }
began=$(now)
"$run" --quiet --force --set "output=$runs/whole" "$file" >"$dir/stdout" 2>"$dir/stderr" || {
	cat "$dir/stderr"
	exit 99
}
seconds=$(awk "BEGIN { print $(now) - $began }")
echo "uninterrupted: $seconds s; $KILLS kills, SEED=$SEED"

# One number in 0 .. 1 a line. Squared: half of the moments lie in the first quarter, so
# that a run is killed several times before it is done.
awk -v n=$((KILLS * 20 + 100)) -v seed="$SEED" \
	'BEGIN { srand(seed); while (n--) { x = rand(); print x * x } }' >"$dir/moments"
kills=0 laps=0 torn=0
exec 3<"$dir/moments"
rm -rf "$runs/killed"
while [ "$kills" -lt "$KILLS" ] && read -r moment <&3; do
	start --resume --set "output=$runs/killed" "$file"
	sleep "$(awk "BEGIN { print $moment * $seconds }")"
	kill -KILL "$pid" 2>/dev/null
	ended 2>/dev/null
	grep -q 'torn checkpoint' "$dir/stderr" && torn=$((torn + 1))
	case $code in
	137)
		kills=$((kills + 1)) ;;
	0)
		laps=$((laps + 1))
		equal "after $kills kills" "$runs/whole" "$runs/killed" || break
		rm -rf "$runs/killed" ;;
	*)
		fail "resumed after $kills kills: exit $code: $(cat "$dir/stderr")"
		break ;;
	esac
done
if [ "$failed" -eq 0 ]; then
	resumes "$runs/killed" "$file"
	equal "after the last of $kills kills" "$runs/whole" "$runs/killed"
	left=$(find "$runs/killed" -name '*.tmp-*' -o -name '*.new' -o -name '*.old' -o -name lock)
	[ -z "$left" ] || fail "left behind: $left"
	checks=$((checks + 1))
	[ "$kills" -ge "$KILLS" ] || fail "only $kills kills"
fi
echo "$kills kills in $((laps + 1)) runs, $torn torn checkpoints skipped"
finish
