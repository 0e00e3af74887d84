/* cache.h: what lua/moonpool/cache.lua is made of: the host's cache (util/cache.h), in which a
 * value is JSON text, so that it belongs to no Lua state. Inside of an operation a key is one of
 * its tenant. */
#ifndef MP_BIND_CACHE_H
#define MP_BIND_CACHE_H

#include <lua.h>

/* Adds cache_get, cache_set, cache_delete, cache_clear, cache_scope and cache_stats to the table on
 * top. [-0, +0] */
void mp_cache_open(lua_State *L);

#endif
