/* shape.h: what a statement gives to the script that waits for it. Each is a continuation: the
 * (lazy) row of the statement is on top, and its statement has ended. A failed one raises. */
#ifndef MP_SHAPE_H
#define MP_SHAPE_H

#include <lua.h>

int mp_shape_rows(lua_State *L, int status, lua_KContext ctx);  /* an array of all rows */
int mp_shape_first(lua_State *L, int status, lua_KContext ctx); /* the first row, or nil */
int mp_shape_one(lua_State *L, int status, lua_KContext ctx);   /* the row that is promised */
/* The first column of the first row, or nil. A long json value is read in pieces. */
int mp_shape_value(lua_State *L, int status, lua_KContext ctx);
int mp_shape_count(lua_State *L, int status, lua_KContext ctx); /* how many rows were affected */
int mp_shape_none(lua_State *L, int status, lua_KContext ctx);  /* nothing */

#endif
