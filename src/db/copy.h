/* copy.h: COPY on a kept connection (db.lease), for lua/moonpool/db/copy.lua. While it lasts the
 * connection takes nothing else.
 *   copy_start(sql)    waits for the server: "in" or "out"; nil if it was over at once
 *   copy_columns(sql)  what a query of the table's columns tells of their types, before COPY
 *   copy_row(row, columns) an array of values as a line of COPY's text format
 *   copy_put(bytes)    waits until they are sent; false: it is over, copy_end tells why
 *   copy_get()         bytes of whole rows; nil at the end, and the number of rows
 *   copy_end([reason]) the number of rows; with a reason the server undoes it and that is the error
 */
#ifndef MP_BIND_COPY_H
#define MP_BIND_COPY_H

#include <lua.h>

#include "db/source.h"

int mp_copy_start(lua_State *L);
int mp_copy_columns(lua_State *L);
int mp_copy_row(lua_State *L);
int mp_copy_put(lua_State *L);
int mp_copy_get(lua_State *L);
int mp_copy_end(lua_State *L);

#endif
