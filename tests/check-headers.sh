#!/bin/sh
# Every public header stands alone, has no hidden padding, and compiles as C++ too.
: "${top_srcdir:=.}" "${CC:=cc}" "${CXX:=c++}"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
include="-I$top_srcdir/core/include"

command -v "$CXX" >/dev/null || echo "no C++ compiler: compiled as C only"
failed=0
for h in "$top_srcdir"/core/include/qatrun/*.h; do
	echo "#include <qatrun/${h##*/}>" >"$dir/c.c"
	cp "$dir/c.c" "$dir/cxx.cc"
	$CC -std=c11 -Wall -Wextra -Wpedantic -Wpadded -Werror $include \
		-fsyntax-only "$dir/c.c" || failed=1
	if command -v "$CXX" >/dev/null; then
		$CXX -std=c++11 -Wall -Werror $include -fsyntax-only "$dir/cxx.cc" || failed=1
	fi
done
exit $failed
