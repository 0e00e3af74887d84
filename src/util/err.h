/* err.h: the one error value of all layers. No allocation, so "out of memory" can be told too.
 *
 * The caller gives the place, as the last argument; it is untouched on success. Functions return 0
 * or the negative code. In callbacks the error is borrowed: copy it to keep it. */
#ifndef MP_ERR_H
#define MP_ERR_H

#include <stdbool.h>

#include "util/attr.h"

/*      code          name in Lua errors    HTTP status   default text */
#define MP_ERR_MAP(X)                                                            \
  X(MP_EINVAL, "INVALID_ARGUMENT", 400, "invalid argument")                      \
  X(MP_ENOMEM, "OUT_OF_MEMORY", 500, "out of memory")                            \
  X(MP_ENODB, "NO_DATABASE", 503, "the database cannot be reached")              \
  X(MP_ECONN, "CONNECTION_LOST", 503, "the database connection was lost")        \
  X(MP_ESQL, "DATABASE_ERROR", 500, "the database reported an error")            \
  X(MP_ETIMEOUT, "DEADLINE_EXCEEDED", 504, "the deadline passed")                \
  X(MP_EBUSY, "BUSY", 503, "too busy")                                           \
  X(MP_ECLOSED, "CLOSED", 503, "closed")                                         \
  X(MP_ECANCELED, "CANCELED", 499, "canceled")                                   \
  X(MP_EUNKNOWN, "OUTCOME_UNKNOWN", 500, "the outcome of the commit is unknown") \
  X(MP_ESCRIPT, "SCRIPT_ERROR", 500, "error in a script")                        \
  X(MP_ESCRIPT_TIMEOUT, "SCRIPT_TIMEOUT", 500, "a script used up its CPU time")  \
  X(MP_EIO, "IO_ERROR", 500, "input or output failed")                           \
  X(MP_EINTERNAL, "INTERNAL_ERROR", 500, "fault of the host")

enum mp_code {
  MP_OK = 0,
#define X(code, name, status, text) code,
  MP_ERR_MAP(X)
#undef X
};

enum {
  MP_ERRF_RETRYABLE = 1u << 0,       /* the same work may succeed in a new transaction */
  MP_ERRF_CONN_DEAD = 1u << 1,       /* the connection must not go back to the pool */
  MP_ERRF_OUTCOME_UNKNOWN = 1u << 2, /* COMMIT was sent and its answer never came */
};

struct mp_err {
  enum mp_code code;
  int sys;          /* negative errno as libuv gives it, or 0 */
  unsigned flags;   /* MP_ERRF_* */
  char sqlstate[6]; /* "" unless the server sent one */
  char msg[490];
  /* "", or what stands for a message that a script or a function of the database made, and that may hold
   * any value: where it comes from. See mp_err_shown. */
  char shown[112];
};

/* Sets the error (flags, sys and SQLSTATE are cleared) and returns -code. `err` may be NULL. */
int mp_err_set(struct mp_err *err, enum mp_code code, const char *fmt, ...) MP_PRINTF(3, 4);
/* Puts "context: " in front of the message; returns -code, for `return mp_err_wrap(...)`. */
int mp_err_wrap(struct mp_err *err, const char *fmt, ...) MP_PRINTF(2, 3);

/* The message as it may stand on pages and in what the recorder keeps. */
const char *mp_err_shown(const struct mp_err *err);

const char *mp_code_name(enum mp_code code); /* "BUSY": static storage */
const char *mp_code_text(enum mp_code code);
int mp_code_status(enum mp_code code); /* the HTTP status that answers it */

#endif
