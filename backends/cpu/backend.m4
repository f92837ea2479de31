# Plain C with kernels for the instruction sets of x86-64. oneDNN and OpenMP make it
# faster; it does without.
AS_IF([test $qat_dnnl = no], [qat_reason="without oneDNN"])
