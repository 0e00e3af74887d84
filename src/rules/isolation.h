/* isolation.h: the isolation levels of a transaction, and their names. */
#ifndef MP_ISOLATION_H
#define MP_ISOLATION_H

#include <stdbool.h>

enum mp_isolation { MP_READ_COMMITTED, MP_REPEATABLE_READ, MP_SERIALIZABLE };

/* "serializable" -> MP_SERIALIZABLE; NULL is the default. False: no such level. */
bool mp_isolation_parse(const char *text, enum mp_isolation *out);
const char *mp_isolation_name(enum mp_isolation level);

#endif
