/* utf8.h - what is a character, and what a terminal may be shown. */
#ifndef QAT_UTF8_H
#define QAT_UTF8_H

#include <stddef.h>

/* The length of the UTF-8 character at `s`, 0 if it is none: overlong forms, surrogates
 * and what lies past U+10FFFF are none. */
size_t qat_utf8_length(const char *s, size_t left);

/* For a character: C0 but tab and line ends, DEL, C1 but the next-line character. */
int qat_utf8_control(const char *s);

/* Puts '?' in the place of control characters, line ends and tabs among them, and of bytes
 * that are no UTF-8, so that one line stays one line and nothing steers a terminal. */
void qat_utf8_plain(char *text);

#endif
