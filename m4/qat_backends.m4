# A backend is a folder backends/<name> that holds a backend.m4. autoreconf looks for
# them; nothing else lists them. backend.m4 sets
#   qat_backend  yes to build it, no to leave it out
#   qat_reason   why it is left out, or what it is built without; for the summary
m4_define([QAT_BACKEND_NAMES],
  m4_esyscmd_s([ls backends/*/backend.m4 | cut -d/ -f2 | tr "\n" " "]))

# QAT_BACKENDS - ask each backend whether it is built, and make its Makefile.
AC_DEFUN([QAT_BACKENDS], [
  QAT_BACKENDS_BUILT= QAT_BACKENDS_ALL= qat_backend_summary=
  m4_foreach_w([backend], m4_defn([QAT_BACKEND_NAMES]), [QAT_BACKEND_ASK(backend)])
  AC_SUBST([QAT_BACKENDS_BUILT])
  AC_SUBST([QAT_BACKENDS_ALL])
])

m4_define([QAT_BACKEND_ASK], [
  AC_CONFIG_FILES([backends/$1/Makefile])
  qat_backend=yes qat_reason=
  m4_include([backends/]$1[/backend.m4])
  AS_VAR_APPEND([QAT_BACKENDS_ALL], [" $1"])
  AS_IF([test $qat_backend = yes],
    [AS_VAR_APPEND([QAT_BACKENDS_BUILT], [" $1"])
     AS_VAR_APPEND([qat_backend_summary], [" $1${qat_reason:+ ($qat_reason)}"])],
    [AS_VAR_APPEND([qat_backend_summary], [" (no $1: ${qat_reason:-its backend.m4 said no})"])])
])
