#!/bin/sh
# run.sh CORPUS HARNESSES - every harness under clang's fuzzer, one after the other:
# FUZZ_SECONDS each (default 60), or FUZZ_RUNS executions. FUZZERS: some of them, by name.
# Inputs that break one stay in the working folder as crash-<name>-*, timeout-, oom-.
corpus=$1 harnesses=$2
if [ -n "$FUZZ_RUNS" ]; then
	limit=-runs=$FUZZ_RUNS
else
	limit=-max_total_time=${FUZZ_SECONDS:-60}
fi
# The leak checker needs ptrace, which some containers forbid; harnesses end too soon to
# leave much behind, so it is asked once.
leaks=1
"$harnesses/fuzz_elf" -runs=1 >/dev/null 2>&1 || leaks=0
found=
for folder in "$corpus"/*; do
	name=${folder##*/}
	case " ${FUZZERS:-$name} " in
	*" $name "*) ;;
	*) continue ;;
	esac
	[ -x "$harnesses/fuzz_$name" ] || { echo "fuzz: $name is not built"; continue; }
	mkdir -p "work/$name"
	echo "fuzz: $name"
	ASAN_OPTIONS=detect_leaks=$leaks:${ASAN_OPTIONS:-} UBSAN_OPTIONS=print_stacktrace=1 \
		nice -n 19 "$harnesses/fuzz_$name" "$limit" -timeout=10 -rss_limit_mb=2048 \
		-max_len=8192 -detect_leaks=$leaks -artifact_prefix="$name-" -print_final_stats=1 \
		"work/$name" "$folder" >"$name.log" 2>&1 || found="$found $name"
	grep -E 'stat::number_of_executed_units|^SUMMARY|does not hold' "$name.log"
done
[ -z "$found" ] || echo "fuzz: findings in:$found (see their .log)"
[ -z "$found" ]
