/* param.h: from Lua values to PostgreSQL's text format. */
#ifndef MP_PARAM_H
#define MP_PARAM_H

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>

#include "pg/result.h"
#include "util/buf.h"

/* Appends the text form of the value at `idx` for a parameter of this type (0: not known yet).
 * Returns false and appends nothing for SQL NULL (nil, json.null). Errors name `what` and `name`.
 * If the form depends on an unknown type, sets `*needs_type` and appends nothing: a string is a
 * JSON string for json, bytes for bytea and itself for other types; 4.0 is 4 for an integer; a
 * table is json or an array. */
bool mp_param_add(lua_State *L, int idx, struct mp_column type, const char *name,
                  struct mp_buf *out, bool *needs_type, const char *what);

#endif
