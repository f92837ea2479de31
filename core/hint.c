/* hint.c - edit distance between names. */
#include "hint.h"

#include <string.h>

enum { LONGEST = 64 };	/* longer words are not typing errors of a name */

static int folded(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A' + 'a';
	return c == '-' ? '_' : (unsigned char)c;
}

static int least(int a, int b)
{
	return a < b ? a : b;
}

/* Damerau-Levenshtein distance, optimal string alignment:
 *   d[i][j] = min(d[i-1][j] + 1, d[i][j-1] + 1, d[i-1][j-1] + (a_i != b_j),
 *                 d[i-2][j-2] + 1 where a_i a_i-1 = b_j-1 b_j) */
static int distance(const char *a, int n, const char *b, int m)
{
	int rows[3][LONGEST + 1];
	int *before = rows[0], *last = rows[1], *now = rows[2], *spare;

	for (int j = 0; j <= m; j++)
		last[j] = j;
	for (int i = 1; i <= n; i++) {
		now[0] = i;
		for (int j = 1; j <= m; j++) {
			int x = folded(a[i - 1]), y = folded(b[j - 1]);

			now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == folded(b[j - 2]) && folded(a[i - 2]) == y)
				now[j] = least(now[j], before[j - 2] + 1);
		}
		spare = before;
		before = last;
		last = now;
		now = spare;
	}
	return last[m];
}

static int starts_with(const char *name, const char *word)
{
	while (*word && folded(*word) == folded(*name)) {
		word++;
		name++;
	}
	return !*word;
}

const char *qat_hint_nearest_of(const char *word, qat_hint_name *name, const void *context)
{
	const char *best = NULL, *prefixed = NULL, *s;
	size_t n = strlen(word), m;
	int best_distance = LONGEST, prefixes = 0;

	if (!n || n > LONGEST)
		return NULL;
	for (int64_t i = 0; (s = name(context, i)); i++) {
		m = strlen(s);
		if (!m || m > LONGEST)
			continue;
		int d = distance(word, (int)n, s, (int)m);
		int longer = (int)(n > m ? n : m), allowed = longer < 6 ? 1 : longer / 3;

		if (d <= allowed && d < longer && d < best_distance) {
			best = s;
			best_distance = d;
		}
		if (n >= 3 && starts_with(s, word)) {
			prefixed = s;
			prefixes++;
		}
	}
	if (!best && prefixes == 1)
		best = prefixed;
	return best;
}

struct array {
	const char *const *names;
	int64_t count;
};

static const char *array_name(const void *context, int64_t i)
{
	const struct array *a = context;

	return i < a->count ? a->names[i] : NULL;
}

const char *qat_hint_nearest(const char *word, const char *const *names, int64_t count)
{
	struct array a = { names, count };

	return qat_hint_nearest_of(word, array_name, &a);
}
