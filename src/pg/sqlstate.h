/* sqlstate.h: what a SQLSTATE means for the host. Pure. The codes: PostgreSQL manual, appendix
 * A. */
#ifndef MP_SQLSTATE_H
#define MP_SQLSTATE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "util/err.h"

/* The transaction was surely rolled back and the same work may succeed in a new one. */
bool mp_sqlstate_retryable(const char *sqlstate);

/* The parser's message without what it is "at or near to", if that is a value. The text may become
 * longer by MP_HIDDEN_LEN. */
enum { MP_HIDDEN_LEN = 16 };
void mp_hide_near_value(char *msg);

/* Fills the error from a failed result: SQLSTATE, flags, and the primary message with the values
 * taken out that class 22 ("data exception") repeats. */
void mp_err_from_result(struct mp_err *err, const PGresult *pg);

#endif
