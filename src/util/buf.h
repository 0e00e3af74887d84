/* buf.h: a growable byte buffer with a limit. Growing can fail; a failed append leaves the contents
 * as they were and sets `failed`, so that a run of appends needs one check at its end. */
#ifndef MP_BUF_H
#define MP_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "util/attr.h"

struct mp_buf {
  char *data;
  size_t len, cap;
  size_t max;  /* 0: no limit */
  bool failed; /* an append did not fit or memory was short */
};

void mp_buf_init(struct mp_buf *buf, size_t max);
void mp_buf_fini(struct mp_buf *buf);
void mp_buf_clear(struct mp_buf *buf); /* keeps the memory */
/* Room for `n` more bytes (and a terminator) at the end; NULL if it failed. */
char *mp_buf_reserve(struct mp_buf *buf, size_t n);
void mp_buf_add(struct mp_buf *buf, const void *bytes, size_t n);
void mp_buf_adds(struct mp_buf *buf, const char *text);
void mp_buf_addc(struct mp_buf *buf, char c);
/* The integer in decimal; much cheaper than the format. */
void mp_buf_addi(struct mp_buf *buf, long long value);
void mp_buf_addf(struct mp_buf *buf, const char *fmt, ...) MP_PRINTF(2, 3);
/* Writes `value` in decimal (no terminator) into at least 20 bytes; returns the length. */
size_t mp_format_int(char *out, long long value);
/* Copies what fits, terminated; much cheaper than snprintf with %s. */
void mp_copy_text(char *out, size_t size, const char *text);
/* Terminated text; "" when empty. Borrowed until the next change. */
const char *mp_buf_text(struct mp_buf *buf);

#endif
