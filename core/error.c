/* error.c - the message of the last failure, and the log on standard error. */
#include "error.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

static _Thread_local char message[QAT_MESSAGE_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int shown = QAT_LOG_INFO;
static void (*hook)(void);

/* Ends a text that was cut with "...", on the border of a UTF-8 character. */
static void mark_cut(char *text, size_t size)
{
	size_t end = size - 4;

	while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
		end--;
	memcpy(text + end, "...", 4);
}

int qat_vfail(int code, const char *fmt, va_list ap)
{
	char text[QAT_MESSAGE_MAX];	/* apart: an argument may be the message itself */
	int n = vsnprintf(text, sizeof text, fmt, ap);

	if (n < 0)
		snprintf(text, sizeof text, "%s", fmt);
	else if ((size_t)n >= sizeof text)
		mark_cut(text, sizeof text);
	qat_utf8_plain(text);		/* names in it may come from any file */
	memcpy(message, text, sizeof message);
	return code;
}

int qat_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	qat_vfail(code, fmt, ap);
	va_end(ap);
	return code;
}

const char *qat_error(void)
{
	return message;
}

void qat_vlog(int level, const char *fmt, va_list ap)
{
	pthread_mutex_lock(&lock);
	if (level <= shown) {
		if (hook)
			hook();
		vfprintf(stderr, fmt, ap);
		fputc('\n', stderr);
		fflush(stderr);
	}
	pthread_mutex_unlock(&lock);
}

void qat_log(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	qat_vlog(level, fmt, ap);
	va_end(ap);
}

int qat_log_level(int level)
{
	int before;

	pthread_mutex_lock(&lock);
	before = shown;
	shown = level;
	pthread_mutex_unlock(&lock);
	return before;
}

void qat_log_hook(void (*before)(void))
{
	pthread_mutex_lock(&lock);
	hook = before;
	pthread_mutex_unlock(&lock);
}
