/* yaml_write.c - a tree as YAML text, by libyaml's emitter. */
#include "yaml_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "error.h"

/* Emits an event that was made, or reports that it could not be. */
static int emit(yaml_emitter_t *to, yaml_event_t *e, int made)
{
	if (made && yaml_emitter_emit(to, e))
		return QAT_OK;
	if (!made || to->error == YAML_MEMORY_ERROR)
		return qat_fail(QAT_ENOMEM, "cannot write YAML: out of memory");
	if (to->error == YAML_WRITER_ERROR)
		return qat_fail(QAT_EIO, "cannot write YAML: %s", strerror(errno));
	return qat_fail(QAT_EINVAL, "cannot write YAML: %s", to->problem ? to->problem : "?");
}

/* True for a text that every reader takes as it stands, in any place. The rest is put
 * in double quotes, which can say anything. */
static int plain(const char *s)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789_./+-";
	const char *word = s + (*s == '-');	/* "-1", but "- x" and "---" begin something */

	if (qat_yaml_null_text(s) || !*word || *word == '-' || !strcmp(s, "..."))
		return 0;
	return !s[strspn(s, safe)];
}

static int write_text(yaml_emitter_t *to, const char *text, int quoted)
{
	yaml_event_t e;
	yaml_scalar_style_t style = quoted || !plain(text) ? YAML_DOUBLE_QUOTED_SCALAR_STYLE :
		YAML_PLAIN_SCALAR_STYLE;

	if (!qat_yaml_utf8(text))
		return qat_fail(QAT_EINVAL, "cannot write YAML: a string is not UTF-8");
	return emit(to, &e, yaml_scalar_event_initialize(&e, NULL, NULL,
		    (const yaml_char_t *)text, (int)strlen(text), 1, 1, style));
}

/* A value, with each "${" written "$${", as a value is expanded when it is read. */
static int write_value(yaml_emitter_t *to, const qat_yaml_node *node)
{
	const char *s = qat_yaml_text(node);
	char *copy, *p;
	int rc;

	if (!strstr(s, "${"))
		return write_text(to, s, node->quoted);
	copy = malloc(2 * strlen(s) + 1);
	if (!copy)
		return qat_fail(QAT_ENOMEM, "cannot write YAML: out of memory");
	for (p = copy; *s; *p++ = *s++) {
		if (s[0] == '$' && s[1] == '{')
			*p++ = '$';
	}
	*p = '\0';
	rc = write_text(to, copy, 1);
	free(copy);
	return rc;
}

static int write_node(yaml_emitter_t *to, const qat_yaml_node *node);

static int write_seq(yaml_emitter_t *to, const qat_yaml_node *node)
{
	yaml_event_t e;
	int rc = emit(to, &e, yaml_sequence_start_event_initialize(&e, NULL, NULL, 1,
						YAML_BLOCK_SEQUENCE_STYLE));

	for (int64_t i = 0; !rc && i < node->count; i++)
		rc = write_node(to, node->items[i]);
	return rc ? rc : emit(to, &e, yaml_sequence_end_event_initialize(&e));
}

static int write_map(yaml_emitter_t *to, const qat_yaml_node *node)
{
	yaml_event_t e;
	int rc = emit(to, &e, yaml_mapping_start_event_initialize(&e, NULL, NULL, 1,
						YAML_BLOCK_MAPPING_STYLE));

	for (int64_t i = 0; !rc && i < node->count; i++) {
		rc = write_text(to, node->keys[i]->text, 0);
		if (!rc)
			rc = write_node(to, node->items[i]);
	}
	return rc ? rc : emit(to, &e, yaml_mapping_end_event_initialize(&e));
}

static int write_null(yaml_emitter_t *to, const qat_yaml_node *node)
{
	static const char text[] = "null";
	yaml_event_t e;

	(void)node;
	return emit(to, &e, yaml_scalar_event_initialize(&e, NULL, NULL,
		    (const yaml_char_t *)text, (int)strlen(text), 1, 0, YAML_PLAIN_SCALAR_STYLE));
}

static int write_node(yaml_emitter_t *to, const qat_yaml_node *node)
{
	static int (*const write[])(yaml_emitter_t *, const qat_yaml_node *) = {
		[QAT_YAML_NULL] = write_null, [QAT_YAML_SCALAR] = write_value,
		[QAT_YAML_SEQ] = write_seq, [QAT_YAML_MAP] = write_map,
	};

	return write[node->type](to, node);
}

static int write_stream(yaml_emitter_t *to, const qat_yaml_node *root)
{
	yaml_event_t e;
	int rc = emit(to, &e, yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING));

	if (!rc)
		rc = emit(to, &e, yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1));
	if (!rc)
		rc = write_node(to, root);
	if (!rc)
		rc = emit(to, &e, yaml_document_end_event_initialize(&e, 1));
	if (!rc)
		rc = emit(to, &e, yaml_stream_end_event_initialize(&e));
	return rc;
}

int qat_yaml_write(FILE *file, const qat_yaml_node *root)
{
	yaml_emitter_t to;
	int rc;

	if (!yaml_emitter_initialize(&to))
		return qat_fail(QAT_ENOMEM, "cannot write YAML: out of memory");
	yaml_emitter_set_output_file(&to, file);
	yaml_emitter_set_unicode(&to, 1);
	yaml_emitter_set_width(&to, -1);	/* no folding */
	rc = write_stream(&to, root);
	yaml_emitter_delete(&to);
	if (!rc && (fflush(file) || ferror(file)))
		rc = qat_fail(QAT_EIO, "cannot write YAML: %s", strerror(errno));
	return rc;
}
