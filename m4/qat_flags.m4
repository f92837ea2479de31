# QAT_CC_ACCEPTS(FLAGS, IF-YES, IF-NO) - does the C compiler take FLAGS, all of them?
AC_DEFUN([QAT_CC_ACCEPTS], [
  AC_MSG_CHECKING([whether $CC accepts $1])
  qat_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS -Werror $1"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])], [qat_accepts=yes], [qat_accepts=no])
  CFLAGS=$qat_save_CFLAGS
  AC_MSG_RESULT([$qat_accepts])
  AS_IF([test $qat_accepts = yes], [$2], [$3])
])

# QAT_LD_ACCEPTS(FLAGS, IF-YES, IF-NO) - does the linker make a shared object with FLAGS?
AC_DEFUN([QAT_LD_ACCEPTS], [
  AC_MSG_CHECKING([whether the linker accepts $1])
  qat_save_LDFLAGS=$LDFLAGS; qat_save_CFLAGS=$CFLAGS
  LDFLAGS="$LDFLAGS -shared $1"; CFLAGS="$CFLAGS -fPIC"
  AC_LINK_IFELSE([AC_LANG_SOURCE([int qat_answer(void) { return 42; }])],
    [qat_accepts=yes], [qat_accepts=no])
  LDFLAGS=$qat_save_LDFLAGS; CFLAGS=$qat_save_CFLAGS
  AC_MSG_RESULT([$qat_accepts])
  AS_IF([test $qat_accepts = yes], [$2], [$3])
])

# QAT_FLAGS - what every file is compiled with, into QAT_CFLAGS. The compiler must
# be C11 and must not fuse a*b+c on its own: numbers would depend on the machine.
AC_DEFUN([QAT_FLAGS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat warnings as errors])],
    [], [enable_werror=no])
  QAT_CFLAGS=
  m4_foreach_w([flag], [-std=c11 -ffp-contract=off],
    [QAT_CC_ACCEPTS(flag, [QAT_CFLAGS="$QAT_CFLAGS flag"],
      [AC_MSG_ERROR([$CC does not take ]flag[, which the arithmetic needs])])])
  m4_foreach_w([flag], [-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wvla],
    [QAT_CC_ACCEPTS(flag, [QAT_CFLAGS="$QAT_CFLAGS flag"])])
  # What the optimizer only guesses, and guesses otherwise at another level, is no error.
  AS_IF([test "x$enable_werror" = xyes], [
    QAT_CFLAGS="$QAT_CFLAGS -Werror"
    m4_foreach_w([flag], [-Wno-error=maybe-uninitialized -Wno-error=format-truncation],
      [QAT_CC_ACCEPTS(flag, [QAT_CFLAGS="$QAT_CFLAGS flag"])])])
  AC_SUBST([QAT_CFLAGS])

  QAT_HIDDEN=
  QAT_CC_ACCEPTS([-fvisibility=hidden], [QAT_HIDDEN=-fvisibility=hidden])
  AC_SUBST([QAT_HIDDEN])
])

# QAT_SEE_THREADS - the sanitizer of threads knows the barriers of clang's OpenMP, by archer,
# and takes those of gcc's for races.
AC_DEFUN([QAT_SEE_THREADS], [
  qat_see_threads=yes
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#ifndef __clang__
#error "not clang"
#endif]], [])], [],
    [AC_MSG_ERROR([--enable-sanitizers=thread needs clang and its OpenMP (Debian: apt-get install clang libomp-dev): configure with CC=clang])])
])

# QAT_SANITIZERS - --enable-sanitizers=address,undefined or =thread.
AC_DEFUN([QAT_SANITIZERS], [
  AC_ARG_ENABLE([sanitizers],
    [AS_HELP_STRING([--enable-sanitizers=LIST], [build with -fsanitize=LIST: address,undefined or thread])],
    [], [enable_sanitizers=no])
  AS_CASE([$enable_sanitizers],
    [yes], [enable_sanitizers=address,undefined])
  AS_IF([test "x$enable_sanitizers" != xno], [
    qat_san="-fsanitize=$enable_sanitizers -fno-omit-frame-pointer"
    AS_CASE([",$enable_sanitizers,"], [*,undefined,*], [qat_san="$qat_san -fno-sanitize-recover=undefined"])
    QAT_CC_ACCEPTS([$qat_san], [],
      [AC_MSG_ERROR([$CC does not take $qat_san])])
    CFLAGS="$CFLAGS $qat_san"
    AS_CASE([",$enable_sanitizers,"], [*,thread,*], [QAT_SEE_THREADS])
  ])

  # Harnesses for clang's fuzzer: all that they link is instrumented.
  AC_ARG_ENABLE([fuzzing],
    [AS_HELP_STRING([--enable-fuzzing], [build tests/fuzz for libFuzzer; needs CC=clang])],
    [], [enable_fuzzing=no])
  FUZZ_FLAGS=
  AS_IF([test "x$enable_fuzzing" != xno], [
    FUZZ_FLAGS=-fsanitize=fuzzer
    qat_fuzz="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
    QAT_CC_ACCEPTS([$qat_fuzz -fno-omit-frame-pointer],
      [CFLAGS="-g -O1 $qat_fuzz -fno-omit-frame-pointer"],
      [AC_MSG_ERROR([$CC has no fuzzer: install clang (Debian: apt-get install clang) and configure with CC=clang])])
    enable_sanitizers=fuzzing
  ])
  AC_SUBST([FUZZ_FLAGS])
  AM_CONDITIONAL([FUZZING], [test "x$enable_fuzzing" != xno])

  # Plugins are complete on their own. A sanitizer's symbols come with the program.
  QAT_LD_DEFS=
  AS_IF([test "x$enable_sanitizers" = xno],
    [QAT_LD_ACCEPTS([-Wl,-z,defs], [QAT_LD_DEFS=-Wl,-z,defs])])
  AC_SUBST([QAT_LD_DEFS])
  AC_SUBST([QAT_SANITIZERS], [$enable_sanitizers])
  QAT_LD_ACCEPTS([-Wl,--version-script=$srcdir/core/libqatrun.map], [qat_map=yes], [qat_map=no])
  AM_CONDITIONAL([HAVE_VERSION_SCRIPT], [test $qat_map = yes])
])
