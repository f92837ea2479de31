/* state_internal.h - shared by the files of state.h. */
#ifndef QAT_STATE_INTERNAL_H
#define QAT_STATE_INTERNAL_H

#include "state.h"

/* Writes docs[CONFIG] from the model's options: for a model that came from no file. */
int qat_config_text(qat_state *s);

/* Refuses a file with tensors that no parameter reads: it belongs to another config. */
int qat_state_check_unused(const qat_state *s);

#endif
