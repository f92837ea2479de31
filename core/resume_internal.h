/* resume_internal.h - shared by the files of resume.h. */
#ifndef QAT_RESUME_INTERNAL_H
#define QAT_RESUME_INTERNAL_H

#include <jansson.h>
#include <sys/types.h>

#include "identity.h"
#include "resume.h"

struct qat_resume {
	qat_step *step;
	qat_identity *identity;
	int going_on;
	dev_t device;			/* of the output: that it still is the one of that name */
	ino_t inode;
	json_t *record;			/* finished.json */
	int64_t finished;		/* steps */
	int64_t first;			/* step that this process began with */
	int points;			/* 1: there are checkpoints of steps to come */
	char *chosen;			/* folder of the checkpoint to go on from, NULL */
	json_t *point;			/* its checkpoint.json */
};

/* malloc'd; NULL after a message. */
char *qat_resume_path(const qat_resume *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* "steps[1] (train, qat)" into `room` bytes. */
void qat_resume_step_name(char *out, size_t room, const char *task, const char *as, int64_t i);

/* Visits each name in a folder; one that is not there is empty. */
typedef int qat_entry_visit(void *context, const char *folder, const char *name);
int qat_resume_each(const char *folder, qat_entry_visit *visit, void *context);

/* Refuses checkpoints of a step that would not be made now. */
int qat_points_check(qat_resume *r, int64_t step);
/* Sets r->chosen and r->point. */
int qat_points_choose(qat_resume *r, int64_t step);
/* Removes the checkpoints of a finished step but the best. */
int qat_points_drop(qat_resume *r, int64_t step);

#endif
