/* insert.h: the texts of inserts that the host writes. */
#ifndef MP_INSERT_H
#define MP_INSERT_H

#include "sql/text.h"

/* The cached text of `insert into table (columns of the table at `idx`, sorted) values ($...)
 * returning *`. Borrowed. Raises. */
struct mp_text *mp_insert_text(lua_State *L, const char *table, int idx, const char *what);

#endif
