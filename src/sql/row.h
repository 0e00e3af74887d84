/* row.h: a row as scripts see it: strict (an unknown column raises), read-only, and perhaps lazy:
 * reading a lazy row first sends all that its transaction has queued, and waits. */
#ifndef MP_ROW_H
#define MP_ROW_H

#include <lua.h>

#include "sql/stmt.h"

/* Pushes a row of a result; takes a reference. [-0, +1] */
void mp_row_push(lua_State *L, struct mp_result *result, int row);
/* Pushes a lazy row that is not bound yet; then bind it, which takes a reference and cannot
 * fail. */
struct mp_row *mp_row_push_lazy(lua_State *L);
void mp_row_bind(struct mp_row *row, struct mp_stmt *stmt);
/* The result behind the (lazy) row at `idx`, borrowed from it. Raises if its statement failed,
 * broke its promise of one row, or was never sent. */
struct mp_result *mp_row_result(lua_State *L, int idx);
/* The number of rows that its statement affected. */
lua_Integer mp_row_affected(lua_State *L, int idx);
/* May a row that was not answered yet be within the value at `idx`? In doubt it may. */
bool mp_row_within(lua_State *L, int idx);
/* Replaces the global tostring by one that waits for a lazy row. */
void mp_row_open(lua_State *L);
/* Pushes the array of all rows. [-0, +1] */
void mp_row_push_all(lua_State *L, struct mp_result *result);

#endif
