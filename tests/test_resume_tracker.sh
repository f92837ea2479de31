#!/bin/sh
# Trackers of a run that is stopped or killed, and goes on: TensorBoard's files have every
# point of an uninterrupted run once, with the same values, whatever was held back when the
# run ended and whatever was told after the checkpoint.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
[ -e "$top_builddir/plugins-built/tracker-tensorboard.so" ] ||
	{ echo "skipped: the tracker is not built"; exit 77; }
read=${top_srcdir:-..}/tests/read_board.awk
make_text "$dir/text"
# held back for ever, unless asked for
pipeline whole | sed '/^device:/a trackers: [{name: tensorboard, flush: 1000000}]' >"$dir/p.yaml"

# points FOLDER: "state tag step value", sorted, as a reader has them: a START drops what
# came before of its step and beyond. Without values where they are times or memory.
points() {
	(
		cd "$1/tensorboard" && for state in *; do
			[ -d "$state" ] || continue
			for file in "$state"/*; do
				od -An -v -tu1 "$file" | LC_ALL=C awk -f "$read"
			done | awk -v state="$state" '
			$1 == "START" {
				k = 0
				for (i = 1; i <= n; i++)
					if (step[i] < $2) {
						line[++k] = line[i]
						step[k] = step[i]
					}
				n = k
				next
			}
			{
				line[++n] = state " " ($1 ~ /memory|per_second/ ? $1 " " $2 : $0)
				step[n] = $2
			}
			END { for (i = 1; i <= n; i++) print line[i] }'
		done
	) | LC_ALL=C sort
}

# tables FOLDER: rows of qat in the tables, of two steps
tables() { cat "$1"/tensorboard/events.out.* 2>/dev/null | grep -ac '^| qat | test |'; }

# told WHAT FOLDER
told() {
	checks=$((checks + 1))
	points "$2" >"$dir/now"
	cmp -s "$dir/points" "$dir/now" ||
		fail "$1: other points: $(diff "$dir/points" "$dir/now" | head -5)"
	same "$1: tables" "$(tables "$2")" 2
	[ ! -s "$dir/stderr" ] || fail "$1: $(cat "$dir/stderr")"
	equal "$1" "$dir/whole" "$2"
}

pass "$dir/p.yaml" || finish
points "$dir/whole" >"$dir/points"
same "points of training" "$(grep -c '^qat train/loss ' "$dir/points")" 30
same "of evaluations" "$(grep -c '^qat evaluation/loss ' "$dir/points")" 5
same "of results" "$(grep -c ' evaluate/test/loss ' "$dir/points")" 4
same "torn" "$(grep -c TORN "$dir/points")" 0
told "uninterrupted" "$dir/whole"

# killed at some moments, always with points held back
for at in '0 4' '0 7' '1 3' '1 7' '1 12' '1 13'; do
	set -- $at
	rm -rf "$dir/killed" "$dir/late"
	start "$dir/p.yaml" --set "output=$dir/killed"
	until_step "$dir/killed" "$1" "$2" && kill -KILL "$pid"
	ended 2>/dev/null
	resumes "$dir/killed" "$dir/p.yaml" && told "killed at $at" "$dir/killed"
done

# stopped, killed, stopped
rm -rf "$dir/killed"
start "$dir/p.yaml" --set "output=$dir/killed"
until_step "$dir/killed" 0 12 && kill -TERM "$pid"
ended
same "stopped" "$code" 130
start --resume "$dir/p.yaml" --set "output=$dir/killed"
until_step "$dir/killed" 1 10 && kill -KILL "$pid"
ended 2>/dev/null
start --resume "$dir/p.yaml" --set "output=$dir/killed"
until_step "$dir/killed" 1 19 && kill -INT "$pid"
ended
same "stopped again" "$code" 130
resumes "$dir/killed" "$dir/p.yaml" && told "three times" "$dir/killed"

# after the last step: nothing is told again, the tables are there once
resumes "$dir/killed" "$dir/p.yaml" && told "with nothing to do" "$dir/killed"

# in the steps after training, which must not take back what training told
for step in 2 3; do
	rm -rf "$dir/killed" "$dir/late"
	start "$dir/p.yaml" --set "output=$dir/late"
	while kill -0 "$pid" 2>/dev/null && ! grep -q "\"step\":$step," \
		"$dir/late/events.jsonl" 2>/dev/null; do :; done
	kill -KILL "$pid" 2>/dev/null
	ended 2>/dev/null
	same "killed in step $step" "$code" 137
	resumes "$dir/late" "$dir/p.yaml" && told "killed in step $step" "$dir/late"
done

# evaluating while training, asked to stop: the evaluation is made up for
start "$dir/p.yaml" --set "output=$dir/judging"
until_step "$dir/judging" 1 12 && kill -TERM "$pid"
ended
same "stopped at an evaluation" "$code" 130
cp -r "$dir/judging" "$dir/again"
resumes "$dir/judging" "$dir/p.yaml" && told "stopped at an evaluation" "$dir/judging"
# twice from the same checkpoint
start --resume "$dir/p.yaml" --set "output=$dir/again"
until_step "$dir/again" 1 14 && kill -KILL "$pid"
ended 2>/dev/null
resumes "$dir/again" "$dir/p.yaml" && told "and killed after that" "$dir/again"
finish
