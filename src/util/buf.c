#include "util/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mp_buf_init(struct mp_buf *buf, size_t max) { *buf = (struct mp_buf){.max = max}; }

void mp_buf_fini(struct mp_buf *buf) {
  free(buf->data);
  *buf = (struct mp_buf){.max = buf->max};
}

void mp_buf_clear(struct mp_buf *buf) {
  buf->len = 0;
  buf->failed = false;
}

char *mp_buf_reserve(struct mp_buf *buf, size_t n) {
  if (buf->failed) return NULL;
  if (n >= (size_t)-1 - buf->len || (buf->max && buf->len + n > buf->max)) goto fail;
  size_t need = buf->len + n + 1;
  if (need > buf->cap) {
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < need) cap += cap / 2 + 64;
    char *data = realloc(buf->data, cap);
    if (!data) goto fail;
    buf->data = data;
    buf->cap = cap;
  }
  return buf->data + buf->len;
fail:
  buf->failed = true;
  return NULL;
}

void mp_buf_add(struct mp_buf *buf, const void *bytes, size_t n) {
  if (!n) return; /* memcpy must not be given NULL, even for 0 bytes */
  char *at = mp_buf_reserve(buf, n);
  if (!at) return;
  memcpy(at, bytes, n);
  buf->len += n;
}

void mp_buf_adds(struct mp_buf *buf, const char *text) { mp_buf_add(buf, text, strlen(text)); }

void mp_buf_addc(struct mp_buf *buf, char c) {
  char *at = mp_buf_reserve(buf, 1);
  if (!at) return;
  *at = c;
  buf->len++;
}

size_t mp_format_int(char *out, long long value) {
  char digits[20];
  size_t n = 0, len = 0;
  unsigned long long rest = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;
  do digits[n++] = (char)('0' + rest % 10);
  while (rest /= 10);
  if (value < 0) out[len++] = '-';
  while (n) out[len++] = digits[--n];
  return len;
}

void mp_buf_addi(struct mp_buf *buf, long long value) {
  char *at = mp_buf_reserve(buf, 20);
  if (at) buf->len += mp_format_int(at, value);
}

void mp_buf_addf(struct mp_buf *buf, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int n = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  char *at = n < 0 ? NULL : mp_buf_reserve(buf, (size_t)n);
  if (!at) {
    buf->failed = true;
    return;
  }
  va_start(args, fmt);
  vsnprintf(at, (size_t)n + 1, fmt, args);
  va_end(args);
  buf->len += (size_t)n;
}

const char *mp_buf_text(struct mp_buf *buf) {
  if (!buf->data) return "";
  buf->data[buf->len] = '\0';
  return buf->data;
}

void mp_copy_text(char *out, size_t size, const char *text) {
  /* Not strnlen: libpg_query brings a slow one of its own, which would be taken. */
  const char *end = memchr(text, '\0', size - 1);
  size_t len = end ? (size_t)(end - text) : size - 1;
  memcpy(out, text, len);
  out[len] = '\0';
}
