# QAT_ISA(NAME, FLAGS) - kernels of backend cpu are compiled once more for NAME where the
# machine is x86-64 and the compiler takes FLAGS. Which one runs is chosen at run time.
AC_DEFUN([QAT_ISA], [
  qat_isa=no
  AS_CASE([$host_cpu], [x86_64|amd64], [QAT_CC_ACCEPTS([$2], [qat_isa=yes])])
  AS_IF([test $qat_isa = yes], [
    AC_DEFINE([QAT_HAVE_ISA_]m4_toupper([$1]), [1], [Kernels are compiled for $1])
    AS_VAR_APPEND([qat_isas], [" $1"])])
  AC_SUBST([QAT_ISA_]m4_toupper([$1])[_CFLAGS], ["$2"])
  AM_CONDITIONAL([HAVE_ISA_]m4_toupper([$1]), [test $qat_isa = yes])
])

AC_DEFUN([QAT_ISAS], [
  qat_isas=
  m4_define([qat_avx512], [-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni]dnl
[ -mavx512bf16 -mprefer-vector-width=512])
  QAT_ISA([avx2], [-mavx2 -mfma -mf16c])
  QAT_ISA([avx512], qat_avx512)
  QAT_ISA([amx], qat_avx512[ -mamx-tile -mamx-int8 -mamx-bf16])
])
