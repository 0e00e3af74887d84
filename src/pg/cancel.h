/* cancel.h: a cancel request that is under way. libpq's call blocks until the server closes the
 * socket, which may take for ever, so each request has a thread of its own that is never joined.
 * Connection and thread share the request; the one that lets go last frees it. */
#ifndef MP_CANCEL_H
#define MP_CANCEL_H

#include <stdbool.h>

#include "util/err.h"

struct mp_cancel;
struct pg_conn; /* libpq's PGconn */

int mp_cancel_start(struct mp_cancel **out, struct pg_conn *pg, struct mp_err *err) MP_MUST_CHECK;
bool mp_cancel_over(const struct mp_cancel *cancel);
void mp_cancel_leave(struct mp_cancel *cancel); /* its owner does; NULL is fine */

/* Waits at most that long until all cancel requests of the process have reached the server. Call it
 * before the process ends, which would leave the statements running. */
void mp_cancels_wait(unsigned timeout_ms);

#endif
