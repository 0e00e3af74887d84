#include "util/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct {
  const char *name, *text;
} codes[] = {
    [MP_OK] = {"OK", "success"},
#define X(code, name, text) [code] = {name, text},
    MP_ERR_MAP(X)
#undef X
};
/* clang-format on */

/* A text that was cut must not end in the middle of a UTF-8 character. */
static void trim_partial(char *text) {
  size_t len = strlen(text), at = len;
  while (at && ((unsigned char)text[at - 1] & 0xc0) == 0x80) at--;
  if (!at) return;
  unsigned char lead = (unsigned char)text[at - 1];
  size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  if (len - at + 1 < need) text[at - 1] = '\0';
}

int mp_err_set(struct mp_err *err, enum mp_code code, const char *fmt, ...) {
  if (err) {
    char msg[sizeof err->msg]; /* the arguments may point into err itself */
    va_list args;
    va_start(args, fmt);
    vsnprintf(msg, sizeof msg, fmt, args);
    va_end(args);
    trim_partial(msg);
    *err = (struct mp_err){.code = code};
    memcpy(err->msg, msg, sizeof msg);
  }
  return -(int)code;
}

int mp_err_wrap(struct mp_err *err, const char *fmt, ...) {
  char context[160], msg[sizeof err->msg];
  va_list args;
  va_start(args, fmt);
  vsnprintf(context, sizeof context, fmt, args);
  va_end(args);
  memcpy(msg, err->msg, sizeof msg);
  size_t used = strlen(context);
  snprintf(err->msg, sizeof err->msg, "%s: %.*s", context, (int)(sizeof msg - used - 3), msg);
  trim_partial(err->msg);
  return -(int)err->code;
}

const char *mp_err_shown(const struct mp_err *err) { return err->shown[0] ? err->shown : err->msg; }

const char *mp_code_name(enum mp_code code) { return codes[code].name; }
const char *mp_code_text(enum mp_code code) { return codes[code].text; }
int mp_code_status(enum mp_code code) {
  const struct mp_code_info *info = mp_code_find(codes[code].name);
  return info ? info->status : 500;
}

/* Each error of the server has a name. The loss of a connection has one only if the server said
 * why. */
static const struct mp_code_info *of_server(const struct mp_err *err) {
  if (!err->sqlstate[0] || (err->code != MP_ESQL && err->code != MP_ECONN)) return NULL;
  return mp_code_of_sqlstate(err->sqlstate);
}

const char *mp_err_name(const struct mp_err *err) {
  if (err->name[0]) return err->name;
  const struct mp_code_info *info = of_server(err);
  return info ? info->name : codes[err->code].name;
}

int mp_err_status(const struct mp_err *err) {
  if (err->status) return err->status;
  const struct mp_code_info *info = mp_code_find(mp_err_name(err));
  int status = info ? info->status : 500;
  /* For example a plan that had to be replanned too often: the same work may succeed. */
  return status == 500 && err->flags & MP_ERRF_RETRYABLE ? 503 : status;
}

enum mp_blame mp_err_blame(const struct mp_err *err) {
  enum mp_blame blame = mp_blame_of(mp_err_name(err), mp_err_status(err));
  return blame == MP_BLAME_OPERATOR && err->flags & MP_ERRF_RETRYABLE ? MP_BLAME_TRANSIENT : blame;
}
