/* step_internal.h - shared by the files of step.h. */
#ifndef QAT_STEP_INTERNAL_H
#define QAT_STEP_INTERNAL_H

#include "step.h"

/* As qat_session_api says of path_check, save, dump. */
int qat_step_path_check(qat_step *s, const char *path);
int qat_step_save_check(qat_step *s, const char *state, const char *path, const char *format);
int qat_step_save(qat_step *s, const char *state, const char *path, const char *format);
int qat_step_dump(qat_step *s, const char *path, const qat_tensor *const *tensors,
		  int64_t count);

/* As its data_*. */
int qat_step_data_open(qat_step *s, qat_data **out, const char *name, const char *state);
void qat_step_data_close(qat_data *d);
int64_t qat_step_data_count(const qat_data *d);
int64_t qat_step_data_length(const qat_data *d);
int qat_step_data_get(const qat_data *d, int64_t i, int32_t *tokens, int32_t *labels);

/* As its encode, decode, special_tokens, context: step_text.c. */
int qat_step_encode(qat_step *s, int32_t **out, int64_t *count, const char *text, int64_t bytes);
int qat_step_decode(qat_step *s, char **out, int64_t *bytes, const int32_t *ids, int64_t count,
		    int special);
int64_t qat_step_special_tokens(qat_step *s, int which, int32_t *out, int64_t room);
int64_t qat_step_context(qat_step *s);

#endif
