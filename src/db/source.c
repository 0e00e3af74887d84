/* source.c: a database, or one kept connection of it, behind the functions of moonpool.db. */
#include "db/source.h"

#include <lauxlib.h>

#include "script/luaerr.h"
#include "script/scope.h"
#include "txn/txn.h"

struct mp_source *mp_source_of(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

void mp_source_check_task(lua_State *L, const char *what) {
  const struct mp_task *task = mp_task_of(L);
  if (mp_task_beside(task) && mp_scope_tenant(mp_task_scope(task)) && !mp_txn_of(L))
    mp_luaerr_misuse(L, what, "not in a task that an operation with a tenant started: use its tx");
}

struct mp_source *mp_source_usable(lua_State *L, const char *what) {
  struct mp_source *source = mp_source_of(L);
  if (!source->pool) mp_luaerr_misuse(L, what, "this database was closed");
  if (source->copier) mp_luaerr_misuse(L, what, "a COPY is under way on this connection");
  mp_wait_check(L, what); /* before anything is allocated */
  if (mp_txn_of(L))
    mp_luaerr_misuse(
        L, what,
        "not inside a transaction: its statements go through tx, on the connection it has");
  mp_source_check_task(L, what);
  return source;
}

struct mp_text *mp_source_text(lua_State *L, const struct mp_source *source, int idx,
                               const char *what) {
  struct mp_text *text = mp_text_get(L, idx, what);
  if (text && text->refused[0] && !source->own && mp_task_scope(mp_task_of(L)))
    mp_luaerr_misuse(L, what, "the SQL text %s", text->refused);
  return text;
}

void mp_source_end_lease(struct mp_source *source) {
  if (!source->kept) return;
  source->kept = false;
  if (source->on_end) source->on_end(source);
  source->parent->users--;
  source->pool = NULL;
  if (source->lease.pool)
    mp_pool_release(&source->lease, source->dirty); /* unless it was given up */
}

void mp_source_close_pool(struct mp_source *source) {
  mp_types_forget(source->host, source->pool);
  source->host->shared->close_pool(source->host, source->pool);
}

static int source_gc(lua_State *L) {
  struct mp_source *source = lua_touserdata(L, 1);
  mp_source_end_lease(source);
  if (source->own_pool && source->pool) mp_source_close_pool(source);
  source->pool = NULL;
  return 0;
}

/* The task of a lease was ended: the connection goes back at once, not at the next collection. */
static int source_close(lua_State *L) {
  mp_source_end_lease(lua_touserdata(L, 1));
  return 0;
}

struct mp_source *mp_source_push(lua_State *L, struct mp_host *host, struct mp_pool *pool) {
  struct mp_source *source = lua_newuserdatauv(L, sizeof *source, 1);
  *source =
      (struct mp_source){.host = host, .pool = pool, .timeout_ms = host->shared->query_timeout_ms};
  mp_list_init(&source->reads);
  if (luaL_newmetatable(L, "moonpool.database")) {
    lua_pushcfunction(L, source_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, source_close);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  return source;
}
