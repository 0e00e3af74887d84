/* db.c: the Lua module "moonpool.db": single statements on pooled connections, each its own
 * transaction; db.lease, db.open. Every function is a closure over the database that it speaks
 * to. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "db/copy.h"
#include "db/listen.h"
#include "db/source.h"
#include "pool/pool.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "sql/insert.h"
#include "sql/row.h"
#include "sql/shape.h"
#include "txn/txn.h"

enum { OWN_TIMEOUT_MS = 2000 }; /* for what the host itself asks */

/* ---- statements ---- */

static int again(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  mp_row_result(L, -1); /* a text that cannot be described fails here */
  lua_pop(L, 1);
  return ((lua_CFunction)ctx)(L);
}

static int run_single(lua_State *L, const char *what, struct mp_source *source,
                      struct mp_text *text, lua_CFunction self, lua_KFunction shape) {
  struct mp_stmt *stmt = mp_stmt_new(L, what, mp_source_types(source), text, 2);
  if (!stmt)
    return mp_single_run(L, source, mp_stmt_describe(L, mp_source_types(source), text), what,
                         (lua_KContext)self, again);
  return mp_single_run(L, source, stmt, what, 0, shape);
}

static int run(lua_State *L, const char *what, lua_CFunction self, lua_KFunction shape) {
  struct mp_source *source = mp_source_usable(L, what);
  struct mp_text *text = mp_source_text(L, source, 1, what);
  if (!text) return mp_text_read(L, 1, what, self);
  return run_single(L, what, source, text, self, shape);
}

static int db_query(lua_State *L) { return run(L, "db.query", db_query, mp_shape_rows); }
static int db_first(lua_State *L) { return run(L, "db.first", db_first, mp_shape_first); }
static int db_value(lua_State *L) { return run(L, "db.value", db_value, mp_shape_value); }
static int db_count(lua_State *L) { return run(L, "db.count", db_count, mp_shape_count); }
static int db_exec(lua_State *L) { return run(L, "db.exec", db_exec, mp_shape_count); }

/* one(sql, params, message) */
static int db_one(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.one");
  struct mp_text *text = mp_source_text(L, source, 1, "db.one");
  if (!text) return mp_text_read(L, 1, "db.one", db_one);
  const char *message = NULL;
  if (text->names || !text->nparams) {
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) message = luaL_checkstring(L, 3);
    lua_insert(L, 1); /* moved away, so that only the parameters follow the text */
    if (!text->nparams) lua_settop(L, 2);
  } else {
    lua_pushnil(L);
    lua_insert(L, 1);
  }
  struct mp_stmt *stmt = mp_stmt_one(L, "db.one", mp_source_types(source), text, 3, message);
  lua_rotate(L, 1, -1); /* the arguments in their first order, for a second run */
  if (text->nparams && !text->names) lua_pop(L, 1);
  if (!stmt)
    return mp_single_run(L, source, mp_stmt_describe(L, mp_source_types(source), text), "db.one",
                         (lua_KContext)db_one, again);
  return mp_single_run(L, source, stmt, "db.one", 0, mp_shape_one);
}

/* insert(table, values) */
static int db_insert(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.insert");
  if (lua_type(L, 1) != LUA_TSTRING)
    mp_luaerr_misuse(L, "db.insert", "the name of the table is missing");
  if (lua_type(L, 2) != LUA_TTABLE)
    mp_luaerr_misuse(L, "db.insert", "the values are missing: pass a table");
  lua_settop(L, 2);
  struct mp_text *text = mp_insert_text(L, lua_tostring(L, 1), 2, "db.insert");
  struct mp_stmt *stmt = mp_stmt_new(L, "db.insert", mp_source_types(source), text, 2);
  if (!stmt)
    return mp_single_run(L, source, mp_stmt_describe(L, mp_source_types(source), text), "db.insert",
                         (lua_KContext)db_insert, again);
  return mp_single_run(L, source, stmt, "db.insert", 0, mp_shape_one);
}

/* check(sql): raises if the running code may not send that text */
static int db_check(lua_State *L) {
  if (!mp_source_text(L, mp_source_of(L), 1, "db")) return mp_text_read(L, 1, "db", db_check);
  return 0;
}

/* The host's text is on top of its parameters. */
static int send_notify(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.notify");
  return run_single(L, "db.notify", source, mp_text_get(L, 1, "db.notify"), send_notify,
                    mp_shape_none);
}

/* own_notify(channel, [payload]): any channel, for a module of the host */
static int db_own_notify(lua_State *L) {
  luaL_checkstring(L, 1);
  luaL_optstring(L, 2, "");
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushliteral(L, "");
    lua_replace(L, 2);
  }
  lua_pushliteral(L, "select pg_notify($1, $2)");
  lua_insert(L, 1);
  return send_notify(L);
}

/* notify(channel, [payload]) */
static int db_notify(lua_State *L) {
  static const char own[] = "moonpool_";
  if (!strncmp(luaL_checkstring(L, 1), own, sizeof own - 1) && mp_task_scope(mp_task_of(L)))
    mp_luaerr_misuse(L, "db.notify", "the channels moonpool_... are the host's own");
  return db_own_notify(L);
}

/* ---- lease: one connection for a while ---- */

static void push_functions(lua_State *L, bool kept);

struct lease_wait {
  struct mp_source *source;
  struct mp_token token;
  struct mp_err err;
};

static void lease_granted(struct mp_lease *lease) {
  struct lease_wait *wait = lease->data;
  wait->source->kept = true;
  wait->source->parent->users++;
  lease->leak_told = wait->source->patient;
  mp_wait_ready(wait->source->host->sched, wait->token);
}

static void lease_failed(struct mp_lease *lease, const struct mp_err *err) {
  struct lease_wait *wait = lease->data;
  wait->err = *err;
  mp_wait_ready(wait->source->host->sched, wait->token);
}

static void lease_abandoned(void *data) {
  mp_pool_abandon(&((struct lease_wait *)data)->source->lease);
}

/* Stack: 1 function, 2 source, 3 wait, 4 handler, results or error. */
static int lease_ran(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  mp_source_end_lease(lua_touserdata(L, 2));
  if (status != LUA_OK && status != LUA_YIELD) return lua_error(L);
  return lua_gettop(L) - 4;
}

static int lease_have(lua_State *L, int status, lua_KContext ctx) {
  struct lease_wait *wait = lua_touserdata(L, 3);
  (void)status;
  (void)ctx;
  if (!wait->source->kept) {
    mp_luaerr_push(L, &wait->err);
    return lua_error(L);
  }
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_toclose(L, 2);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  push_functions(L, true);
  return lease_ran(L, mp_task_pcallk(L, 1, LUA_MULTRET, 4, 0, lease_ran), 0);
}

static int take_lease(lua_State *L, bool own) {
  struct mp_source *from = mp_source_usable(L, "db.lease");
  struct mp_err err;
  double timeout_s = -1;
  if (from->kept) mp_luaerr_misuse(L, "db.lease", "this is a kept connection already");
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    if (lua_getfield(L, 2, "timeout") != LUA_TNIL) timeout_s = luaL_checknumber(L, -1);
    if (lua_isnumber(L, -1) && !(timeout_s >= 0 && timeout_s <= 86400 * 7))
      mp_luaerr_misuse(L, "db.lease", "timeout is a number of seconds from 0 (none) to a week");
  }
  lua_settop(L, 1);
  struct mp_source *source = mp_source_push(L, from->host, from->pool);
  lua_pushvalue(L, lua_upvalueindex(1)); /* the database lives as long as the lease */
  lua_setiuservalue(L, -2, 1);
  source->parent = from;
  source->own = own;
  if (timeout_s >= 0) source->timeout_ms = (uint64_t)(timeout_s * 1000);
  source->patient = timeout_s == 0;
  struct lease_wait *wait = lua_newuserdatauv(L, sizeof *wait, 0);
  *wait = (struct lease_wait){.source = source};
  mp_wait_check(L, "db.lease");
  source->lease =
      (struct mp_lease){.data = wait, .on_grant = lease_granted, .on_fail = lease_failed};
  source->lease.deadline_ms = mp_loop_now_ms(from->host->loop) + 30000;
  mp_list_init(&source->lease.node);
  mp_task_where(L, 1, source->lease.where, sizeof source->lease.where);
  if (mp_pool_acquire(from->pool, &source->lease, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  wait->token = mp_wait_begin(L, lease_abandoned, wait);
  return mp_wait_yield(L, 0, lease_have);
}

/* lease(fn, [{timeout=}]) -> what fn(conn) returns; conn has query, first ... on one connection.
 * `timeout`: seconds that one statement may take, instead of DB_QUERY_TIMEOUT; 0: as long as it
 * takes. */
static int db_lease(lua_State *L) { return take_lease(L, false); }

/* The same for a module of the host, on behalf of any script. */
static int db_own_lease(lua_State *L) { return take_lease(L, true); }

/* ---- open, close ---- */

/* open{url=, max=} -> a database like moonpool.db; without a URL the same one, by connections of
 * its own */
static int db_open(lua_State *L) {
  struct mp_host *host = mp_source_of(L)->host;
  struct mp_pool *pool;
  struct mp_err err;
  luaL_checktype(L, 1, LUA_TTABLE);
  int type = lua_getfield(L, 1, "url"); /* stays on the stack */
  if (type != LUA_TSTRING && type != LUA_TNIL)
    mp_luaerr_misuse(L, "db.open", "url is a text: db.open{url = \"postgres://...\"}");
  const char *url = lua_tostring(L, -1);
  lua_getfield(L, 1, "max");
  lua_Integer max = luaL_optinteger(L, -1, 2);
  if (max < 1 || max > 1000)
    mp_luaerr_misuse(L, "db.open", "max is a number of connections from 1 to 1000");
  struct mp_source *source = mp_source_push(L, host, NULL);
  if (host->shared->open_pool(host, url, (unsigned)max, &pool, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  source->pool = pool;
  source->own_pool = true;
  push_functions(L, false);
  return 1;
}

static int db_close(lua_State *L) {
  struct mp_source *source = mp_source_of(L);
  if (!source->own_pool) mp_luaerr_misuse(L, "db.close", "only what db.open gave can be closed");
  if (source->users)
    mp_luaerr_misuse(L, "db.close", "%u statements, leases or transactions still use this database",
                     source->users);
  if (source->pool) mp_source_close_pool(source);
  source->pool = NULL;
  return 0;
}

/* db.stream and its like are Lua on top of the other functions: module(db) adds them. The table is
 * on top. */
static void add_module(lua_State *L, const char *module) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  lua_call(L, 1, 1);
  lua_pushvalue(L, -2);
  lua_call(L, 1, 0);
}

/* The source is on top; replaces it by the table of functions over it. */
static void push_functions(lua_State *L, bool kept) {
  static const luaL_Reg functions[] = {
      {"query", db_query}, {"first", db_first}, {"value", db_value},   {"count", db_count},
      {"exec", db_exec},   {"one", db_one},     {"insert", db_insert}, {"describe", mp_db_describe},
      {NULL, NULL},
  };
  static const luaL_Reg more[] = {{"transaction", mp_db_transaction},
                                  {"lease", db_lease},
                                  {"own_lease", db_own_lease},
                                  {"check", db_check},
                                  {"own_notify", db_own_notify},
                                  {"listen", mp_db_listen},
                                  {"notify", db_notify},
                                  {"open", db_open},
                                  {"close", db_close},
                                  {NULL, NULL}};
  static const luaL_Reg copying[] = {{"copy_start", mp_copy_start},
                                     {"copy_columns", mp_copy_columns},
                                     {"copy_row", mp_copy_row},
                                     {"copy_put", mp_copy_put},
                                     {"copy_get", mp_copy_get},
                                     {"copy_end", mp_copy_end},
                                     {NULL, NULL}};
  lua_newtable(L);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 1);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, kept ? copying : more, 1);
  lua_remove(L, -2);
  if (kept) return;
  add_module(L, "moonpool.db.stream");
  add_module(L, "moonpool.db.copy");
}

void mp_db_own_open(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  struct mp_source *source = mp_source_push(L, host, host->shared->own);
  source->timeout_ms = OWN_TIMEOUT_MS;
  source->brief = true;
  push_functions(L, true);
  lua_setfield(L, -2, "database");
}

int mp_open_db(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  mp_source_push(L, host, host->pool);
  push_functions(L, false);
  return 1;
}
