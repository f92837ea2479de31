# QAT_COMPONENT(NAME, STATE, ROLE) - a row of configure's closing table; STATE is yes or
# no, ROLE says what is there with it, and what is missing without.
AC_DEFUN([QAT_COMPONENT], [
  qat_row=`printf '  %-10s %-10s %s' "$1" "$2" "$3"`
  AS_VAR_APPEND([qat_table], ["$qat_row
"])])

# QAT_LIBRARIES - required: libyaml, jansson, libm, libdl, threads. Optional: the rest;
# what lacks its component is not built, and the table says so.
AC_DEFUN([QAT_LIBRARIES], [
  qat_table=
  PKG_CHECK_MODULES([YAML], [yaml-0.1], [],
    [AC_MSG_ERROR([libyaml is needed to read pipelines (Debian: libyaml-dev)])])
  PKG_CHECK_MODULES([JANSSON], [jansson >= 2.10], [],
    [AC_MSG_ERROR([jansson is needed to read models' files (Debian: libjansson-dev)])])
  AC_SEARCH_LIBS([sqrt], [m], [], [AC_MSG_ERROR([no libm])])
  AC_SEARCH_LIBS([dlopen], [dl], [], [AC_MSG_ERROR([no dlopen])])
  AC_SEARCH_LIBS([pthread_create], [pthread], [], [AC_MSG_ERROR([no POSIX threads])])
  QAT_COMPONENT([libyaml], [yes], [reads pipelines])
  QAT_COMPONENT([jansson], [yes], [reads the JSON of models and formats])

  PKG_CHECK_MODULES([PCRE2], [libpcre2-8], [qat_pcre2=yes], [qat_pcre2=no])
  AM_CONDITIONAL([HAVE_PCRE2], [test $qat_pcre2 = yes])
  QAT_COMPONENT([pcre2], [$qat_pcre2], [tokenizers are built with it, none without])

  PKG_CHECK_MODULES([UTF8PROC], [libutf8proc], [qat_utf8proc=yes], [qat_utf8proc=no])
  AS_IF([test $qat_utf8proc = yes], [UTF8PROC_CFLAGS="$UTF8PROC_CFLAGS -DHAVE_UTF8PROC"])
  QAT_COMPONENT([utf8proc], [$qat_utf8proc], [NFC in tokenizers; only below U+0300 without])

  PKG_CHECK_MODULES([CURL], [libcurl >= 7.66], [qat_curl=yes], [qat_curl=no])
  AM_CONDITIONAL([HAVE_CURL], [test $qat_curl = yes])
  QAT_COMPONENT([libcurl], [$qat_curl], [downloads models from the hub; local files only without])

  # Debian's package has no .pc file.
  DNNL_LIBS=
  AC_CHECK_HEADER([dnnl.h],
    [AC_CHECK_LIB([dnnl], [dnnl_version], [qat_dnnl=yes DNNL_LIBS=-ldnnl], [qat_dnnl=no])],
    [qat_dnnl=no])
  # oneDNN brings gcc's OpenMP along, whose barriers the sanitizer of threads cannot see.
  AS_IF([test "x$qat_see_threads" = xyes], [qat_dnnl=no DNNL_LIBS=])
  AS_IF([test $qat_dnnl = yes], [AC_DEFINE([QAT_HAVE_DNNL], [1], [oneDNN is there])])
  AC_SUBST([DNNL_LIBS])
  AM_CONDITIONAL([HAVE_DNNL], [test $qat_dnnl = yes])
  QAT_COMPONENT([oneDNN], [$qat_dnnl], [matmuls of backend cpu; its own kernels without])

  AC_OPENMP
  AS_CASE([$ac_cv_prog_c_openmp], [unsupported|''], [qat_openmp=no], [qat_openmp=yes])
  AS_IF([test "x$enable_openmp" = xno], [qat_openmp=no])
  QAT_COMPONENT([OpenMP], [$qat_openmp], [threads of backend cpu; one thread without])

  PKG_CHECK_MODULES([CHECK], [check >= 0.10], [qat_check=yes], [qat_check=no])
  AM_CONDITIONAL([HAVE_CHECK], [test $qat_check = yes])
  QAT_COMPONENT([check], [$qat_check], [tests in C are built with it; make check fails without])
])

# QAT_SUMMARY - what was found and what will be built.
AC_DEFUN([QAT_SUMMARY], [
  AS_ECHO(["
$PACKAGE_STRING, to be installed under $prefix

  component  found      role
$qat_table
  backends  $qat_backend_summary
  kernels    baseline$qat_isas
  CFLAGS     $CFLAGS
  sanitizers $enable_sanitizers"])
])
