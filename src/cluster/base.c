/* base.c: texts that must fit, errors with errno, a clock: what all files of this room need. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cluster/cluster_priv.h"

int mp_cluster_fmt(char *out, size_t size, struct mp_err *err, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int n = vsnprintf(out, size, fmt, args);
  va_end(args);
  if (n >= 0 && (size_t)n < size) return 0;
  return mp_err_set(err, MP_EINVAL, "the path %.100s... is too long", out);
}

int mp_cluster_fail(struct mp_err *err, int sys, const char *fmt, ...) {
  char text[sizeof err->msg];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  int code = mp_err_set(err, MP_ENODB, "%s: %s", text, strerror(sys));
  if (err) err->sys = -sys;
  return code;
}

/* FNV-1a. */
uint64_t mp_cluster_hash(uint64_t seed, const void *bytes, size_t n) {
  uint64_t h = seed ? seed : UINT64_C(14695981039346656037);
  for (const unsigned char *p = bytes; n > 0; n--) h = (h ^ *p++) * UINT64_C(1099511628211);
  return h;
}

int64_t mp_cluster_now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void mp_cluster_nap_ms(int ms) {
  struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000L};
  nanosleep(&ts, NULL);
}
