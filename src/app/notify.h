/* notify.h: what a process says to the supervisor that started it: systemd's protocol of
 * sd_notify(3), a datagram of VARIABLE=VALUE lines to a unix socket. */
#ifndef MP_NOTIFY_H
#define MP_NOTIFY_H

#include "util/err.h"

/* Sends `text` to the socket `address`: a path, or @NAME for an abstract one. Never waits.
 * -MP_EINVAL: no such address can exist; -MP_EIO: nobody listens there, or its queue is full. */
int mp_notify(const char *address, const char *text, struct mp_err *err) MP_MUST_CHECK;

#endif
