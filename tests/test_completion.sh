#!/bin/sh
# What bash offers after some words of a command line. Without bash: skipped.
top_srcdir=${top_srcdir:-..}
top_builddir=${top_builddir:-..}
command -v bash >/dev/null || { echo "no bash: its completion is not tested" && exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
case $top_srcdir in
/*) completion=$top_srcdir/completions/qat-run ;;
*) completion=$PWD/$top_srcdir/completions/qat-run ;;
esac
PATH=$(cd "$top_builddir/core" && pwd):$(cd "$top_builddir/fronts" && pwd):$PATH
export PATH completion
mkdir "$dir/runs" "$dir/plugins" || exit 99
for name in quantizer-int task-train; do
	for folder in $(echo "$QATRUN_PLUGIN_PATH" | tr : ' '); do
		[ ! -e "$folder/$name.so" ] || cp -L "$folder/$name.so" "$dir/plugins/" || exit 99
	done
done
QATRUN_PLUGIN_PATH=$dir/plugins
cd "$dir" || exit 99
cat >p.yaml <<'END'
qatrun: 1
model: {path: x}
data:
  train: {dataset: text}
  test:
    dataset: text
steps:
  - {task: train}
END
touch "a b.yml" other.txt

cat >complete.bash <<'END'
set -u
source "$completion"
failed=0
# offers WORDS EXPECTED..: the last of WORDS, cut at "|", is the one at hand. EXPECTED all
# are offered, and where -x comes before them nothing else.
offers() {
	local only=0 line want
	[ "$1" != -x ] || { only=1; shift; }
	line=$1
	shift
	IFS='|' read -ra COMP_WORDS <<<"$line"
	[[ $line != *'|' ]] || COMP_WORDS+=("")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	_qatrun "${COMP_WORDS[0]}"
	for want; do
		printf '%s\n' "${COMPREPLY[@]-}" | grep -qxF -e "$want" ||
			{ echo "FAIL: $line: no $want among: ${COMPREPLY[*]-}"; failed=1; }
	done
	if [ $only = 1 ] && [ ${#COMPREPLY[@]} -ne $# ]; then
		echo "FAIL: $line: ${#COMPREPLY[@]}, not $#: ${COMPREPLY[*]-}"
		failed=1
	fi
}
offers 'qat-run|--' --check --explain --set --force --quiet --color --plugins --help --version
offers -x 'qat-run|--chec' --check
offers -x 'qat-run|' p.yaml "a b.yml" plugins runs
offers -x 'qat-run|p' p.yaml plugins
offers -x 'qat-run|--color|=|al' always
offers -x 'qat-run|--color|=' auto always never
offers -x 'qat-run|--color|n' never
offers -x 'qat-run|--help|' int pipeline train
offers -x 'qat-run|--help|tr' train
offers -x 'qat-run|p.yaml|--set|data' data data.train data.test
offers -x 'qat-run|p.yaml|--set|data.te' data.test
offers -x 'qat-run|p.yaml|--set|name|=|x'
offers -x 'qat-run|--zzz'
offers 'qat-train|--' --data --scheme --steps --check --set --print
offers -x 'qat-train|m|--schem' --scheme
offers -x 'qat-train|m|--scheme|i' int
offers -x 'qat-train|m|--schedule|l' linear
offers -x 'qat-train|m|--data|o' other.txt
offers -x 'qat-compare|m|--schem' --schemes
offers -x 'qat-compare|oth' other.txt
exit $failed
END
bash --norc complete.bash || exit 1
echo "bash completes as it should"
