/* cancel.h: a request to cancel, on its way. libpq's call waits until the server closes, which may
 * be for ever: so it has a thread of its own, for which nobody waits, and whoever goes first leaves
 * it to the other. */
#ifndef MP_CANCEL_H
#define MP_CANCEL_H

#include <stdbool.h>

#include "util/err.h"

struct mp_cancel;
struct pg_conn; /* libpq's PGconn */

int mp_cancel_start(struct mp_cancel **out, struct pg_conn *pg, struct mp_err *err) MP_MUST_CHECK;
bool mp_cancel_over(const struct mp_cancel *cancel);
void mp_cancel_leave(struct mp_cancel *cancel); /* its owner does; NULL is fine */

/* Waits until all requests of the process have reached the server, at most so long: for the
 * process's end, which would leave their statements running. */
void mp_cancels_wait(unsigned timeout_ms);

#endif
