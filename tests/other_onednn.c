/* other_onednn.c - preloaded by test_resume_identity.sh: oneDNN says that it is another
 * version. Its headers need not be there: versions have begun like this since 1.0.
 */
struct version {
	int major, minor, patch;
	const char *hash;
	unsigned runtimes[8];
};

__attribute__((visibility("default"))) const struct version *dnnl_version(void);

const struct version *dnnl_version(void)
{
	static const struct version other = { 9, 8, 7, "0123456789abcdef", { 0 } };

	return &other;
}
