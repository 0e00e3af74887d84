/* require.h: what lua/moonpool/script/require.lua needs of the host. */
#ifndef MP_REQUIRE_H
#define MP_REQUIRE_H

#include <lua.h>

/* Installs the global functions require, load, loadfile and dofile of require.lua. [-0, +0] */
void mp_require_open(lua_State *L, const char *lua_dir);

#endif
