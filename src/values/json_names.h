/* json_names.h: what the parts of "moonpool.json" share among themselves. */
#ifndef MP_JSON_NAMES_H
#define MP_JSON_NAMES_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* The mark of the table at `idx` (enum mp_json_mark), or -1. */
int mp_json_mark_of(lua_State *L, int idx);

/* As mp_json_camel(), but 0 if the name is no identifier in snake_case. Needs `len` bytes at
 * most. */
size_t mp_json_try_camel(const char *name, size_t len, char *out);

/* Has the table at `idx` the snake_case form of this camelCase key as another key? */
bool mp_json_name_clashes(lua_State *L, int idx, const char *key, size_t len);

#endif
