/* value.h: from PostgreSQL's text format to Lua values. The way back: param.h. */
#ifndef MP_VALUE_H
#define MP_VALUE_H

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>

#include "pg/oids.h"
#include "pg/result.h"
#include "util/buf.h"

/* Pushes column `col` of row `row`: NULL as nil, int2/4/8 as integer, float as number, numeric as
 * decimal, json(b) and arrays as tables, timestamps as ISO 8601, bytea as its bytes, all else as
 * text. Raises an error that names the column for what Lua cannot hold (NaN as numeric, an integer
 * array of more than one dimension is nested tables). [-0, +1] */
void mp_value_push(lua_State *L, const struct mp_result *result, int row, int col);
/* The same for a C function that scripts call, which goes on with k, the value on top: a long json
 * value is read in pieces, with other tasks in between. Something on the stack keeps the result. */
int mp_value_read(lua_State *L, const struct mp_result *result, int row, int col, lua_KContext ctx,
                  lua_KFunction k);
/* Appends the column as a JSON value, in the border's spelling. */
void mp_value_json(lua_State *L, const struct mp_result *result, int row, int col,
                   struct mp_buf *out, unsigned flags);

#endif
