/* cache.h: the C side of moonpool.cache: the host's cache (util/cache.h). Values are JSON text, so
 * that all Lua states can share them. Inside an operation a key belongs to the operation's tenant.
 */
#ifndef MP_BIND_CACHE_H
#define MP_BIND_CACHE_H

#include <lua.h>

/* Adds cache_get, cache_set, cache_delete, cache_clear, cache_scope and cache_stats to the table on
 * top. [-0, +0] */
void mp_cache_open(lua_State *L);

#endif
