/* hub_env.c - where the hub and its cache are, and which names are fit for a path. */
#include "hub.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKEN_MAX = 4096, NAME_MAX_ = 96, FILE_MAX = 200, REVISION_MAX = 200 };

int hub_text(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(out, fmt, ap);
	va_end(ap);
	if (n >= 0)
		return QAT_OK;
	*out = NULL;
	return qat_fail(QAT_ENOMEM, "out of memory");
}

void hub_log(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	qat_host_->log(level, fmt, ap);
	va_end(ap);
}

/* ---- names ---- */

int hub_ends_with(const char *name, const char *end)
{
	const size_t n = strlen(name), m = strlen(end);

	return n > m && !strcmp(name + n - m, end);
}

/* Letters, digits, '.', '_' and '-'; no "--", which stands for '/' in the cache. */
int hub_name_valid(const char *name)
{
	const char *slash = strchr(name, '/');

	if (!slash || slash == name || !slash[1] || strchr(slash + 1, '/') ||
	    strlen(name) > NAME_MAX_ || strstr(name, "--") || strstr(name, "..") ||
	    hub_ends_with(name, ".git"))
		return 0;
	for (const char *p = name; *p; p++) {
		const int edge = p == name || !p[1] || p == slash + 1 || p + 1 == slash;

		if (p != slash && !isalnum((unsigned char)*p) &&
		    (edge ? *p != '_' : !strchr("._-", *p)))
			return 0;
	}
	return 1;
}

/* As git has names of branches and tags, of ASCII alone. */
int hub_revision_valid(const char *revision)
{
	if (!*revision || *revision == '-' || strlen(revision) > REVISION_MAX ||
	    strstr(revision, "..") || strstr(revision, "//") || strstr(revision, "@{") ||
	    revision[strlen(revision) - 1] == '/')
		return 0;
	for (const char *p = revision; *p; p++) {
		const int first = p == revision || p[-1] == '/';

		if (*p <= ' ' || *p > '~' || strchr("~^:?*[\\", *p) ||
		    (first && (*p == '.' || *p == '/')))
			return 0;
	}
	return 1;
}

int hub_file_valid(const char *name)
{
	if (!*name || *name == '.' || *name == '-' || strlen(name) > FILE_MAX)
		return 0;
	for (const char *p = name; *p; p++)
		if (*p < ' ' || *p > '~' || strchr("/\\", *p))
			return 0;
	return 1;
}

static int is_hex(const char *text, size_t n)
{
	return strspn(text, "0123456789abcdef") == n && !text[n];
}

int hub_commit_valid(const char *text)
{
	return is_hex(text, HUB_COMMIT);
}

int hub_etag_valid(const char *text)
{
	return is_hex(text, HUB_COMMIT) || is_hex(text, HUB_ETAG_MAX);
}

/* ---- environment ---- */

/* An empty variable counts as unset. */
static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static int is_true(const char *name)
{
	static const char *const yes[] = { "1", "on", "yes", "true" };
	const char *value = variable(name);

	for (size_t i = 0; value && i < sizeof yes / sizeof *yes; i++)
		if (!strcasecmp(value, yes[i]))
			return 1;
	return 0;
}

/* "~/x" is under the user's home; what is relative, under the working directory. */
static int absolute(char **out, const char *path)
{
	const char *home = variable("HOME");
	char *here;
	int rc;

	if (*path == '/')
		return hub_text(out, "%s", path);
	if (*path == '~' && (!path[1] || path[1] == '/')) {
		if (!home)
			return qat_fail(QAT_EINVAL, "%s: HOME is not set: set HF_HOME to an "
					"absolute path", path);
		return hub_text(out, "%s%s", home, path + 1);
	}
	here = getcwd(NULL, 0);
	if (!here)
		return qat_fail(QAT_EIO, "working directory: %s", strerror(errno));
	rc = hub_text(out, "%s/%s", here, path);
	free(here);
	return rc;
}

static int read_home(char **out)
{
	const char *home = variable("HF_HOME"), *xdg = variable("XDG_CACHE_HOME");
	char *path = NULL;
	int rc;

	if (home)
		return absolute(out, home);
	rc = hub_text(&path, "%s/huggingface", xdg ? xdg : "~/.cache");
	if (!rc)
		rc = absolute(out, path);
	free(path);
	return rc;
}

static int read_cache(char **out, const char *home)
{
	const char *cache = variable("HF_HUB_CACHE");

	if (!cache)
		cache = variable("HUGGINGFACE_HUB_CACHE");
	return cache ? absolute(out, cache) : hub_text(out, "%s/hub", home);
}

/* A token becomes a line of a request: no spaces in it, nothing that ends the line. */
static int set_token(char **out, const char *text, const char *where)
{
	size_t n;

	text += strspn(text, " \t\r\n");
	n = strcspn(text, " \t\r\n");
	if (!n)
		return QAT_OK;
	if (text[n + strspn(text + n, " \t\r\n")])
		return qat_fail(QAT_EINVAL, "%s: a token has no spaces in it", where);
	for (size_t i = 0; i < n; i++)
		if (text[i] < '!' || text[i] > '~')
			return qat_fail(QAT_EINVAL, "%s: a token is made of ASCII letters", where);
	return hub_text(out, "%.*s", (int)n, text);
}

static int read_token_file(char **out, const char *path)
{
	char text[TOKEN_MAX];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return QAT_OK;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = '\0';
	return set_token(out, text, path);
}

static int read_token(char **out, const char *home)
{
	const char *token = variable("HF_TOKEN"), *file = variable("HF_TOKEN_PATH");
	char *path = NULL;
	int rc;

	if (!token)
		token = variable("HUGGING_FACE_HUB_TOKEN");
	if (token)
		return strlen(token) < TOKEN_MAX ? set_token(out, token, "HF_TOKEN")
			: qat_fail(QAT_EINVAL, "HF_TOKEN: too long for a token");
	if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
		return QAT_OK;
	rc = file ? absolute(&path, file) : hub_text(&path, "%s/token", home);
	if (!rc)
		rc = read_token_file(out, path);
	free(path);
	return rc;
}

static int read_endpoint(char **out)
{
	const char *text = variable("HF_ENDPOINT");
	size_t n;

	if (!text)
		text = "https://huggingface.co";
	if (strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0)
		return qat_fail(QAT_EINVAL, "HF_ENDPOINT: \"%.200s\" is no address: it begins "
				"with https:// or http://", text);
	n = strlen(text);
	while (n && text[n - 1] == '/')
		n--;
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return qat_fail(QAT_EINVAL, "HF_ENDPOINT: no address");
	return hub_text(out, "%.*s", (int)n, text);
}

/* Who vouches for a hub, where the system's list is not what is wanted: the variables that
 * the hub's own clients and libcurl's program know. Whether there is such a file matters only
 * where something is asked of a hub. */
static int read_trusted(hub_env *out)
{
	static const char *const names[] = {
		"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *path = variable(names[i]);

		if (!path)
			continue;
		out->trusted_by = names[i];
		return hub_text(&out->trusted, "%s", path);
	}
	return QAT_OK;
}

int hub_env_read(hub_env *out)
{
	const char *timeout = variable("HF_HUB_DOWNLOAD_TIMEOUT");
	char *home = NULL;
	int rc;

	*out = (hub_env){ .timeout = timeout ? strtol(timeout, NULL, 10) : 0 };
	if (out->timeout < 1 || out->timeout > 3600)
		out->timeout = 10;
	out->offline = is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE");
	rc = read_home(&home);
	if (!rc)
		rc = read_cache(&out->cache, home);
	if (!rc)
		rc = read_token(&out->token, home);
	if (!rc)
		rc = read_endpoint(&out->endpoint);
	if (!rc)
		rc = read_trusted(out);
	free(home);
	if (rc)
		hub_env_free(out);
	return rc;
}

void hub_env_free(hub_env *e)
{
	free(e->endpoint);
	free(e->cache);
	free(e->token);
	free(e->trusted);
	*e = (hub_env){ 0 };
}
