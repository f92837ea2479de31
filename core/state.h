/* state.h - a model at a point: parameters, the schemes on its sites, its contract.
 *
 * A state is held by reference: a file or folder that is mapped when it is opened, or a
 * seed from which random parameters follow. Parameters are named as in the store
 * (<site>.weight); each is held as floats, or as codes and scales under a scheme.
 */
#ifndef QAT_STATE_H
#define QAT_STATE_H

#include <qatrun/format.h>
#include <qatrun/model.h>
#include <qatrun/scheme.h>

#include "arena.h"

/* A scheme at a port of a site. */
typedef struct qat_placed {
	const char *site;
	int32_t port;			/* QAT_PORT_* */
	const qat_scheme_set *set;
} qat_placed;

typedef struct qat_param_state {
	qat_param info;			/* strings live in the state's arena */
	const qat_scheme *codes;	/* held as codes under this scheme, NULL: floats */
	qat_tensor at;			/* in the file; data NULL: read() or random */
	qat_tensor scale, zero;		/* with codes: as stored */
	qat_tensor second;		/* scales of the second level, where there are two */
	int64_t index;
} qat_param_state;

typedef struct qat_state {
	const char *name, *parent;
	const char *path;		/* NULL: random */
	qat_arena *arena;
	const qat_format *format;
	const char *format_name;
	void *file;
	const char *family;
	qat_instance model;
	qat_model_info info;
	qat_text docs[QAT_DOCS];
	const char *tokenizer;		/* a tokenizer plugin that needs no file, NULL */
	const char *tokenizer_error;	/* why docs[TOKENIZER] is not there, NULL */
	qat_param_state *params;
	int64_t n_params, room_params;
	const qat_placed *placed;	/* schemes that it was trained or quantized with */
	int64_t n_placed;
	int64_t tokens_trained;
	uint32_t precision;		/* that it was made with, 0: unknown */
	uint64_t seed;			/* random */
} qat_state;

/* Open a file or folder by whichever format takes it. */
int qat_state_open(qat_state **out, const char *name, const char *path);
/* Random parameters: normal by counter-based randomness from the seed. The instance is
 * of the family, with its config; it must outlive the state. */
int qat_state_random(qat_state **out, const char *name, const qat_instance *family,
		     uint64_t seed);
void qat_state_free(qat_state *s);

/* The parameter of that name, NULL if there is none. */
const qat_param_state *qat_state_param(const qat_state *s, const char *name);
int64_t qat_param_elements(const qat_param *p);

/* 1 if the format asks for the content of tensors when it writes them (qat_checkpoint). */
int qat_format_lends(const qat_format *f);
/* What was read of its file may leave memory. The functions that follow end with it. */
void qat_state_let_go(const qat_state *s);

/* The whole parameter as f32, decoded where it is held as codes. */
int qat_state_read(const qat_state *s, const qat_param_state *p, float *out);
/* Codes, one byte each [rows, cols]; scales as f32; zero points as the scheme says. */
int qat_state_codes(const qat_state *s, const qat_param_state *p, uint8_t *out);
int qat_state_scale(const qat_state *s, const qat_param_state *p, float *out);
int qat_state_zero(const qat_state *s, const qat_param_state *p, void *out);

/* A static range's tensor, "<site>.input.scale" and the like, of `bytes` bytes: borrowed.
 * QAT_ENOTFOUND, with a message, if the state was not calibrated there. */
int qat_state_range(const qat_state *s, const char *name, int64_t bytes, const void **out);
/* Names of all of them: for each placed scheme with a static range, its scale and zero
 * point that the state holds. *out is arena memory. */
int qat_state_ranges(qat_tensor **out, int64_t *count, const qat_state *s, qat_arena *arena);

/* Names of the sites of a model: what patterns match. *count of them; arena memory. */
int qat_state_sites(const char *const **names, int64_t *count, const qat_state *s,
		    qat_arena *arena);

/* ---- codes as stored: bits of a row follow each other from the least significant bit
 * of the first byte; a row is padded to a whole byte. Signed codes are stored with
 * their two's complement bits. ---- */
int64_t qat_packed_row(int32_t bits, int64_t cols);
void qat_pack_row(uint8_t *out, const uint8_t *codes, int32_t bits, int64_t cols);
void qat_unpack_row(uint8_t *out, const uint8_t *packed, const qat_scheme *s, int64_t cols);

/* 1 if codes made under one scheme are codes under the other. */
int qat_scheme_same(const qat_scheme *a, const qat_scheme *b);
int64_t qat_scheme_blocks(const qat_scheme *s, int64_t rows, int64_t cols);
uint32_t qat_code_dtype(const qat_scheme *s);
uint32_t qat_zero_dtype(const qat_scheme *s);
/* How many scales of the second level, 0: the scheme has one level. */
int64_t qat_scheme_seconds(const qat_scheme *s, int64_t rows);

/* Scales between f32 in memory and their stored format; n of them. */
void qat_scales_store(void *out, const float *scale, uint32_t format, int64_t n);
void qat_scales_load(float *out, const void *stored, uint32_t format, int64_t n);
/* In memory a scale is fl(b S); stored are b and S. Scales of blocks [rows, per_row of
 * them] with `seconds` scales S, one for rows / seconds: divided by S, which gives b but
 * for the last bits, that storing b rounds away; and multiplied by it. */
void qat_scales_split(float *scale, const float *second, int64_t seconds, int64_t n);
void qat_scales_join(float *scale, const float *second, int64_t seconds, int64_t n);

/* ---- the state document: what a checkpoint says beyond its tensors ---- */
typedef struct qat_state_doc {
	const char *family, *name, *parent;
	const char *tokenizer;		/* a plugin that needs no file; else NULL */
	uint32_t precision;
	int64_t tokens_trained;
	const qat_placed *placed;
	int64_t n_placed;
	const char *const *coded;		/* names of parameters held as codes */
	const qat_scheme *const *coded_scheme;
	int64_t n_coded;
} qat_state_doc;

/* malloc'd JSON text. */
int qat_state_doc_write(char **out, const qat_state_doc *d);
/* Everything in *out lives in the arena. `where` stands in messages. */
int qat_state_doc_read(qat_state_doc *out, const char *text, int64_t length, const char *where,
		       qat_arena *arena);

#endif
