#!/bin/sh
# Where a checkpoint cannot be written: a full disk, a limit on files, a folder that is
# read-only or that vanishes. The last good one stays, one line says why, and with the
# cause gone the run goes on to the same end. Disks are mounted in a namespace of the test's
# own; where that is not permitted, these parts are skipped, and say so.
if [ "$1" != inside ] && unshare -m true 2>/dev/null; then
	exec unshare -m "${SHELL:-/bin/sh}" "$0" inside
fi
. "${top_srcdir:-..}/tests/e2e_kit.sh"
. "${top_srcdir:-..}/tests/resume_kit.sh"
make_text "$dir/text"
pipeline whole >"$dir/p.yaml"
pass "$dir/p.yaml" || finish

# fails WHAT FOLDER PATTERN: the run that was started ended with 1 and said so in a line
fails() {
	ended
	checks=$((checks + 1))
	[ $code -eq 1 ] || fail "$1: exit $code: $(cat "$dir/stderr")"
	grep -q "$3" "$dir/stderr" || fail "$1: no \"$3\": $(cat "$dir/stderr")"
	[ "$(wc -l <"$dir/stderr")" -eq 1 ] || fail "$1: more than a line: $(cat "$dir/stderr")"
}

# goes_on WHAT FOLDER: from a checkpoint that is whole, to the same end
goes_on() {
	checks=$((checks + 1))
	[ -e "$2/checkpoints/$3/checkpoint.json" ] || fail "$1: the last good one is gone"
	start --resume "$dir/p.yaml" --set "output=$2"
	ended
	[ $code -eq 0 ] || fail "$1: resumed: exit $code: $(cat "$dir/stderr")"
	grep -q torn "$dir/stderr" && fail "$1: $(cat "$dir/stderr")"
	equal "$1" "$dir/whole" "$2"
}

mkdir "$dir/disk"
if mount -t tmpfs -o size=1700k none "$dir/disk" 2>/dev/null; then
	# of its 1.1 MB checkpoints one fits, beside the last
	start "$dir/p.yaml" --set "output=$dir/disk/full" --set 'steps[0].checkpoint.keep=1'
	fails "a full disk" "$dir/disk/full" \
		'checkpoint of optimizer step 10: .*No space left on device'
	mount -o remount,size=100m "$dir/disk"
	goes_on "a full disk" "$dir/disk/full" grown/5

	start "$dir/p.yaml" --set "output=$dir/disk/ro"
	until_step "$dir/disk/ro" 1 9
	kill -STOP "$pid"
	mkdir "$dir/bound"
	mount --bind "$dir/disk/ro/checkpoints" "$dir/disk/ro/checkpoints"
	mount -o remount,ro,bind "$dir/disk/ro/checkpoints"
	last=qat/$(ls "$dir/disk/ro/checkpoints/qat" | grep -v '[^0-9]' | sort -n | tail -1)
	kill -CONT "$pid"
	fails "a read-only folder" "$dir/disk/ro" \
		'checkpoint of optimizer step [0-9]*: .*Read-only file system'
	umount "$dir/disk/ro/checkpoints"
	goes_on "a read-only folder" "$dir/disk/ro" "$last"
	umount "$dir/disk"

	# without checkpoints: at a state, at results.json, at what is saved
	sed 's/checkpoint: {every: [0-9]*, keep: 2}/checkpoint: {every: 0}/' "$dir/p.yaml" \
		>"$dir/q.yaml"
	pass "$dir/q.yaml" --set "output=$dir/plain"
	for size in 300 400 500 900; do
		mount -t tmpfs -o size=${size}k none "$dir/disk"
		start "$dir/q.yaml" --set "output=$dir/disk/full"
		fails "a disk of $size KiB" "$dir/disk/full" 'No space left on device'
		mount -o remount,size=100m "$dir/disk"
		start --resume "$dir/q.yaml" --set "output=$dir/disk/full"
		ended
		same "a disk of $size KiB, resumed" "$code" 0
		equal "a disk of $size KiB" "$dir/plain" "$dir/disk/full"
		umount "$dir/disk"
	done
else
	echo "no file system can be mounted here: a full disk and a read-only one are not tested"
fi

# A limit on the size of files, which a checkpoint is past and a state is not. In KiB or in
# blocks of 512 bytes, as the shell has it.
unit=1024
(ulimit -f 1 && head -c 1024 /dev/zero >"$dir/unit") 2>/dev/null || unit=512
(
	ulimit -f $((600 * 1024 / unit))
	exec "$run" --quiet "$dir/p.yaml" --set "output=$dir/limit"
) >"$dir/stdout" 2>"$dir/stderr" </dev/null &
pid=$!
fails "a limit on files" "$dir/limit" 'checkpoint of optimizer step 5: .*File too large'
resumes "$dir/limit" "$dir/p.yaml" && equal "a limit on files" "$dir/whole" "$dir/limit"

# All vanishes, then the checkpoints alone.
start "$dir/p.yaml" --set "output=$dir/gone"
until_step "$dir/gone" 1 6
kill -STOP "$pid"
mv "$dir/gone" "$dir/moved"
kill -CONT "$pid"
fails "a folder that vanished" "$dir/gone" \
	'checkpoint of optimizer step [0-9]*: .*/gone/.*No such file or directory'
[ ! -e "$dir/gone" ] || fail "a folder that vanished was made again"
last=qat/$(ls "$dir/moved/checkpoints/qat" | grep -v '[^0-9]' | sort -n | tail -1)
goes_on "a folder that vanished" "$dir/moved" "$last"

# Another takes its place: nothing is written there.
start "$dir/p.yaml" --set "output=$dir/home"
until_step "$dir/home" 1 6
kill -STOP "$pid"
mv "$dir/home" "$dir/away"
mkdir "$dir/home" "$dir/home/states" "$dir/home/checkpoints" "$dir/home/checkpoints/qat"
kill -CONT "$pid"
fails "another folder" "$dir/home" 'checkpoint of optimizer step [0-9]*: .*/home[:/]'
[ -z "$(find "$dir/home" -type f)" ] ||
	fail "another folder: $(find "$dir/home" -type f)"
last=qat/$(ls "$dir/away/checkpoints/qat" | grep -v '[^0-9]' | sort -n | tail -1)
goes_on "another folder" "$dir/away" "$last"

start "$dir/p.yaml" --set "output=$dir/part"
until_step "$dir/part" 1 6
rm -rf "$dir/part/checkpoints" 2>/dev/null	# while more may be made
ended
checks=$((checks + 1))
case $code in
0)	;;
1)	grep -q 'checkpoint of optimizer step [0-9]*: ' "$dir/stderr" ||
		fail "checkpoints vanished: $(cat "$dir/stderr")" ;;
*)	fail "checkpoints vanished: exit $code: $(cat "$dir/stderr")" ;;
esac
resumes "$dir/part" "$dir/p.yaml" &&
	cmp -s "$dir/whole/states/qat/model.safetensors" "$dir/part/states/qat/model.safetensors" ||
	fail "checkpoints vanished: another state"
finish
