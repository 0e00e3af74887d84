/* stand_in.c: another database for operations, for specs (moonpool.test). */
#include <lauxlib.h>

#include "db/source.h"

struct stand_in {
  struct mp_source *other; /* NULL: operations are on their own database */
  struct mp_pool *own_pool;
};

/* The database behind one of its functions (db.query). */
static struct mp_source *source_behind(lua_State *L, int idx) {
  luaL_checktype(L, idx, LUA_TFUNCTION);
  struct mp_source *source = lua_getupvalue(L, idx, 1) ? lua_touserdata(L, -1) : NULL;
  if (!source || !source->pool) luaL_error(L, "not a function of an open database");
  lua_pop(L, 1);
  return source;
}

/* use(own, other): operations and what is behind `own` (a function of moonpool.db) work on the
 * database behind `other`; use(own): on their own again. */
static int use(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  struct stand_in *in = lua_touserdata(L, lua_upvalueindex(1));
  struct mp_source *own = source_behind(L, 1);
  if (in->other) {
    host->pool = own->pool = in->own_pool;
    in->other->users--;
    in->other = NULL;
  }
  if (lua_isnoneornil(L, 2)) return 0;
  struct mp_source *other = source_behind(L, 2);
  in->own_pool = host->pool;
  in->other = other;
  other->users++; /* not closed meanwhile */
  host->pool = own->pool = other->pool;
  return 0;
}

void mp_db_stand_in_open(lua_State *L) {
  struct stand_in *in = lua_newuserdatauv(L, sizeof *in, 0);
  *in = (struct stand_in){0};
  lua_pushcclosure(L, use, 1);
  lua_setfield(L, -2, "use_database");
}
