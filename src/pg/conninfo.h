/* conninfo.h: a connection string with what it leaves open: its service's entry of the service
 * file, the environment and libpq's defaults, in this order. */
#ifndef MP_CONNINFO_H
#define MP_CONNINFO_H

#include <libpq-fe.h>

#include "util/err.h"

/* Nothing is looked up or connected. Free with PQconninfoFree. NULL: MP_EINVAL, never with a piece
 * of the string, which may hold a password. */
PQconninfoOption *mp_conninfo_read(const char *url, struct mp_err *err);

/* Only whether it can be read. */
int mp_conninfo_check(const char *url, struct mp_err *err);

/* The value of a keyword, or NULL where there is none. */
const char *mp_conninfo_get(const PQconninfoOption *options, const char *keyword);

#endif
