# Needs Vulkan's headers and glslc when it is built, and libvulkan.so.1 and a driver only
# when it runs.
AC_ARG_VAR([GLSLC], [compiler of GLSL shaders, for backend vulkan])
AC_CHECK_PROG([GLSLC], [glslc], [glslc], [no])
AC_CHECK_HEADER([vulkan/vulkan_core.h], [qat_vulkan_headers=yes], [qat_vulkan_headers=no])
AS_IF([test "$GLSLC" = no],
	[qat_backend=no qat_reason="no glslc (Debian: glslc)"],
	[test $qat_vulkan_headers = no],
	[qat_backend=no qat_reason="no Vulkan headers (Debian: libvulkan-dev)"])
