/* injected.h: the errors that C tests of transactions inject. */
#ifndef INJECTED_H
#define INJECTED_H

#include <string.h>

#include "util/attr.h"
#include "util/err.h"

static struct mp_err error_of(enum mp_code code, const char *sqlstate, unsigned flags) {
  struct mp_err err = {.code = MP_OK};
  mp_err_set(&err, code, "injected %s", sqlstate);
  memcpy(err.sqlstate, sqlstate, strlen(sqlstate) + 1);
  err.flags = flags;
  return err;
}
static struct mp_err serialization(void) { return error_of(MP_ESQL, "40001", MP_ERRF_RETRYABLE); }
static struct mp_err duplicate(void) { return error_of(MP_ESQL, "23505", 0); }
static struct mp_err connection(void) {
  return error_of(MP_ECONN, "", MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD);
}

#endif
