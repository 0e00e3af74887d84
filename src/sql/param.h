/* param.h: from Lua values to PostgreSQL's text format. */
#ifndef MP_PARAM_H
#define MP_PARAM_H

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>

#include "pg/result.h"
#include "util/buf.h"

/* Appends the text form of the value at `idx` as a parameter of what `type` says (type 0: not known
 * yet). Returns false, appending nothing, for SQL NULL (nil, json.null). Raises naming `what` and
 * `name`. `*needs_type` is set, and nothing appended, if the form depends on the type, which is not
 * known: a string is a JSON string to json, bytes to bytea and itself to all else; 4.0 is 4 to an
 * integer; a table is json or an array. */
bool mp_param_add(lua_State *L, int idx, struct mp_column type, const char *name,
                  struct mp_buf *out, bool *needs_type, const char *what);

#endif
