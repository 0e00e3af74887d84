/* err.h: the one error value of all layers. No allocation, so "out of memory" can be told too.
 *
 * The caller passes the struct as the last argument; it is untouched on success. Functions return 0
 * or the negative code. In callbacks the error is borrowed: copy it to keep it. */
#ifndef MP_ERR_H
#define MP_ERR_H

#include <stdbool.h>

#include "util/attr.h"
#include "util/codes.h"

/*      code          name in Lua errors    default text. What each means: util/codes.c */
#define MP_ERR_MAP(X)                                                       \
  X(MP_EINVAL, "INVALID_ARGUMENT", "invalid argument")                      \
  X(MP_ENOMEM, "OUT_OF_MEMORY", "out of memory")                            \
  X(MP_ENODB, "NO_DATABASE", "the database cannot be reached")              \
  X(MP_ECONN, "CONNECTION_LOST", "the database connection was lost")        \
  X(MP_ESQL, "DATABASE_ERROR", "the database reported an error")            \
  X(MP_ETIMEOUT, "DEADLINE_EXCEEDED", "the deadline passed")                \
  X(MP_EBUSY, "BUSY", "too busy")                                           \
  X(MP_ECLOSED, "CLOSED", "closed")                                         \
  X(MP_ECANCELED, "CANCELED", "canceled")                                   \
  X(MP_EUNKNOWN, "OUTCOME_UNKNOWN", "the outcome of the commit is unknown") \
  X(MP_ESCRIPT, "SCRIPT_ERROR", "error in a script")                        \
  X(MP_ESCRIPT_TIMEOUT, "SCRIPT_TIMEOUT", "a script used up its CPU time")  \
  X(MP_EIO, "IO_ERROR", "input or output failed")                           \
  X(MP_EINTERNAL, "INTERNAL_ERROR", "fault of the host")

enum mp_code {
  MP_OK = 0,
#define X(code, name, text) code,
  MP_ERR_MAP(X)
#undef X
};

enum {
  MP_ERRF_RETRYABLE = 1u << 0,       /* the same work may succeed in a new transaction */
  MP_ERRF_CONN_DEAD = 1u << 1,       /* the connection must not go back to the pool */
  MP_ERRF_OUTCOME_UNKNOWN = 1u << 2, /* COMMIT was sent and its answer never came */
  MP_ERRF_STALE =
      1u << 3, /* with RETRYABLE: a prepared statement was out of date; it is prepared again */
};

struct mp_err {
  enum mp_code code;
  /* "", or the name that says more than the code: of codes.h, or a script's own. Its status: 0
   * unless it is another than its name's. See mp_err_name. */
  char name[64];
  int status;
  int sys;          /* negative errno as libuv gives it, or 0 */
  unsigned flags;   /* MP_ERRF_* */
  char sqlstate[6]; /* "" unless the server sent one */
  char msg[490];
  /* "", or a replacement for a message that a script or a database function made and that may
   * contain any value: it tells only where the message comes from. See mp_err_shown. */
  char shown[112];
};

/* Sets the error (flags, sys and SQLSTATE are cleared) and returns -code. `err` may be NULL. */
int mp_err_set(struct mp_err *err, enum mp_code code, const char *fmt, ...) MP_PRINTF(3, 4);
/* Puts "context: " in front of the message; returns -code, for `return mp_err_wrap(...)`. */
int mp_err_wrap(struct mp_err *err, const char *fmt, ...) MP_PRINTF(2, 3);

/* The message that pages and the recorder may show: without values. */
const char *mp_err_shown(const struct mp_err *err);

/* The one code of this failure, the same for scripts, callers, pages, the log and metrics: its own
 * name, else the name of its SQLSTATE, else that of its code. */
const char *mp_err_name(const struct mp_err *err);
int mp_err_status(const struct mp_err *err); /* the HTTP status that answers it */
enum mp_blame mp_err_blame(const struct mp_err *err);

const char *mp_code_name(enum mp_code code); /* "BUSY": static storage */
const char *mp_code_text(enum mp_code code);
int mp_code_status(enum mp_code code); /* the HTTP status that answers it */

#endif
