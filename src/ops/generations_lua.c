/* generations_lua.c: the generations for trusted Lua: `generations` of "moonpool.host". */
#include <lauxlib.h>
#include <string.h>

#include "ops/invoke.h"
#include "script/luaerr.h"
#include "util/buf.h"

static struct mp_generations *set_of(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

/* What a task waits for: a userdata on its stack. */
struct waiting {
  struct mp_sched *sched;
  struct mp_token token;
  bool done, ok;
  struct mp_buf text, detail;
  int status;
  unsigned number;
  size_t files, changed;
  uint64_t took_us;
  struct mp_invocation *call; /* under way */
  struct mp_reload reload;
};

static const char waiting_name[] = "moonpool.generations.waiting";

static int waiting_gc(lua_State *L) {
  struct waiting *w = lua_touserdata(L, 1);
  mp_buf_fini(&w->text);
  mp_buf_fini(&w->detail);
  return 0;
}

static struct waiting *push_waiting(lua_State *L) {
  struct waiting *w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = (struct waiting){.sched = mp_task_sched(mp_task_of(L))};
  mp_buf_init(&w->text, 0);
  mp_buf_init(&w->detail, 0);
  mp_list_init(&w->reload.node);
  if (luaL_newmetatable(L, waiting_name)) {
    lua_pushcfunction(L, waiting_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return w;
}

static int raise_err(lua_State *L, const struct mp_err *err) {
  mp_luaerr_push(L, err);
  return lua_error(L);
}

/* ---- reload ---- */

static void on_reloaded(struct mp_reload *reload, const struct mp_reload_report *report) {
  struct waiting *w = MP_CONTAINER_OF(reload, struct waiting, reload);
  w->ok = report->ok;
  w->number = report->number;
  w->files = report->files;
  w->changed = report->changed;
  w->took_us = report->took_us;
  mp_buf_adds(&w->text, report->text);
  mp_wait_ready(w->sched, w->token);
}

static void reload_abandon(void *data) {
  struct waiting *w = data;
  mp_list_remove(&w->reload.node);
}

static int reload_k(lua_State *L, int status, lua_KContext ctx) {
  struct waiting *w = (struct waiting *)ctx;
  (void)status;
  lua_createtable(L, 0, 6);
  lua_pushboolean(L, w->ok);
  lua_setfield(L, -2, "ok");
#define SET(field, value) (lua_pushinteger(L, (lua_Integer)(value)), lua_setfield(L, -2, field))
  SET("generation", w->number), SET("files", w->files), SET("changed", w->changed);
#undef SET
  lua_pushnumber(L, (double)w->took_us / 1000);
  lua_setfield(L, -2, "ms");
  lua_pushlstring(L, mp_buf_text(&w->text), w->text.len);
  lua_setfield(L, -2, "report");
  return 1;
}

/* reload() -> { ok, generation, files, changed, ms, report } */
static int lua_reload(lua_State *L) {
  struct mp_err err;
  mp_wait_check(L, "generations.reload");
  struct waiting *w = push_waiting(L);
  w->reload.on_done = on_reloaded;
  if (mp_generations_reload(set_of(L), &w->reload, &err)) return raise_err(L, &err);
  w->token = mp_wait_begin(L, reload_abandon, w);
  return mp_wait_yield(L, (lua_KContext)w, reload_k);
}

/* ---- call ---- */

static void on_answer(void *data, const struct mp_invoke_answer *answer) {
  struct waiting *w = data;
  w->call = NULL;
  w->ok = answer->ok;
  w->status = answer->status;
  w->number = answer->generation;
  mp_buf_add(&w->text, answer->text, answer->len);
  if (answer->detail) mp_buf_adds(&w->detail, answer->detail);
  mp_wait_ready(w->sched, w->token);
}

static void call_abandon(void *data) {
  struct waiting *w = data;
  if (w->call) mp_invoke_cancel(w->call);
  w->call = NULL;
}

static int call_k(lua_State *L, int status, lua_KContext ctx) {
  struct waiting *w = (struct waiting *)ctx;
  (void)status;
  if (w->text.failed) return luaL_error(L, "not enough memory for the answer");
  lua_pushboolean(L, w->ok);
  lua_pushlstring(L, mp_buf_text(&w->text), w->text.len);
  lua_pushinteger(L, w->number);
  lua_pushinteger(L, w->status);
  lua_pushlstring(L, mp_buf_text(&w->detail), w->detail.len);
  return 5;
}

static const char *field(lua_State *L, const char *name) {
  const char *text = lua_getfield(L, 3, name) == LUA_TNIL ? NULL : luaL_checkstring(L, -1);
  lua_pop(L, 1); /* the table keeps it */
  return text;
}

static bool flag(lua_State *L, const char *name) {
  lua_getfield(L, 3, name);
  bool set = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return set;
}

/* call(name, json | nil, { tenant, as, scopes, key, timeout, entry, worker, far, dry_run }) -> ok,
 * json, generation, status, detail */
static int lua_call_current(lua_State *L) {
  struct mp_err err;
  struct mp_invoke_options options = {.name = luaL_optstring(L, 1, NULL)};
  options.input = luaL_optlstring(L, 2, NULL, &options.input_len);
  lua_settop(L, 3);
  if (!lua_isnil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    options.tenant = field(L, "tenant");
    options.user = field(L, "as");
    options.scopes = field(L, "scopes");
    options.key = field(L, "key");
    options.entry = field(L, "entry");
    options.far = flag(L, "far");
    options.dry_run = flag(L, "dry_run");
    lua_getfield(L, 3, "worker");
    options.worker = (unsigned)luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    lua_getfield(L, 3, "timeout");
    options.timeout_s = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
  }
  mp_wait_check(L, "generations.call");
  struct waiting *w = push_waiting(L);
  if (mp_invoke(&w->call, set_of(L), &options, on_answer, w, &err)) return raise_err(L, &err);
  w->token = mp_wait_begin(L, call_abandon, w);
  return mp_wait_yield(L, (lua_KContext)w, call_k);
}

/* ---- the rest ---- */

static int lua_list(lua_State *L) {
  mp_generations_push(L, set_of(L));
  return 1;
}

static int lua_current(lua_State *L) {
  lua_pushinteger(L, mp_generations_current(set_of(L)));
  return 1;
}

/* watch(seconds): 0 switches it off */
static int lua_watch(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  mp_generations_watch(set_of(L), seconds > 0 ? (uint64_t)(seconds * 1000) : 0);
  return 0;
}

void mp_generations_lua(lua_State *L, struct mp_generations *set) {
  static const luaL_Reg functions[] = {{"reload", lua_reload}, {"call", lua_call_current},
                                       {"list", lua_list},     {"current", lua_current},
                                       {"watch", lua_watch},   {NULL, NULL}};
  luaL_newlibtable(L, functions);
  lua_pushlightuserdata(L, set);
  luaL_setfuncs(L, functions, 1);
  lua_setfield(L, -2, "generations");
}
