#include "svc/post.h"

#include <lauxlib.h>

#include "script/luaerr.h"
#include "sql/state.h"

enum { HEADERS = 16, TIMEOUT_MS = 10000 };

struct post_call { /* in a userdata on the waiting task's stack */
  struct mp_sched *sched;
  struct mp_http_post *post; /* NULL: over */
  struct mp_token token;
  struct mp_http_reply reply;
  struct mp_err err; /* code 0: there was an answer */
};

static void on_done(void *data, const struct mp_http_reply *reply, const struct mp_err *err) {
  struct post_call *call = data;
  call->post = NULL;
  call->reply = *reply;
  if (err) call->err = *err;
  mp_wait_ready(call->sched, call->token);
}

static void on_abandon(void *data) {
  struct post_call *call = data;
  if (call->post) mp_http_post_cancel(call->post);
  call->post = NULL;
}

static int answered(lua_State *L, int status, lua_KContext ctx) {
  struct post_call *call = (struct post_call *)ctx;
  (void)status;
  if (call->err.code) {
    mp_luaerr_push(L, &call->err);
    return lua_error(L);
  }
  lua_pushinteger(L, call->reply.status);
  if (!call->reply.retry_after_s) return 1;
  lua_pushinteger(L, (lua_Integer)call->reply.retry_after_s);
  return 2;
}

/* { Name = "value" } at the top of L -> "Name: value" each; the texts stay on the stack. */
static void read_headers(lua_State *L, const char *headers[HEADERS + 1]) {
  int n = 0, table = lua_gettop(L);
  if (lua_isnil(L, table)) return;
  luaL_checktype(L, table, LUA_TTABLE);
  luaL_checkstack(L, HEADERS + 4, "headers");
  lua_pushnil(L);
  while (lua_next(L, table)) {
    if (n == HEADERS || lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
      mp_luaerr_misuse(L, "host.post", "headers are up to %d names and texts", HEADERS);
    headers[n++] = lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
    lua_replace(L, -2); /* the value */
    lua_insert(L, -2);  /* below the key, which lua_next wants on top */
  }
}

static int host_post(lua_State *L) {
  struct mp_http_client *client = lua_touserdata(L, lua_upvalueindex(1));
  const char *headers[HEADERS + 1] = {NULL};
  struct mp_http_post_options options = {.headers = headers, .on_done = on_done};
  struct mp_err err;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  mp_wait_check(L, "host.post");
  struct post_call *call = lua_newuserdatauv(L, sizeof *call, 0);
  *call = (struct post_call){.sched = mp_host_of(L)->sched};
  lua_getfield(L, 1, "url");
  options.url = luaL_checkstring(L, -1);
  lua_getfield(L, 1, "body");
  options.body = luaL_checklstring(L, -1, &options.body_len);
  lua_getfield(L, 1, "timeout_ms");
  lua_Integer timeout_ms = luaL_optinteger(L, -1, TIMEOUT_MS);
  luaL_argcheck(L, timeout_ms > 0 && timeout_ms <= 600000, 1, "timeout_ms is 1 to 600000");
  options.deadline_ms = (uint64_t)timeout_ms;
  options.data = call;
  lua_getfield(L, 1, "headers");
  read_headers(L, headers);
  if (mp_http_post(&call->post, client, &options, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  call->token = mp_wait_begin(L, on_abandon, call);
  return mp_wait_yield(L, (lua_KContext)call, answered);
}

static int host_url_host(lua_State *L) {
  char host[300];
  struct mp_err err;
  if (mp_http_url_host(luaL_checkstring(L, 1), host, sizeof host, &err)) {
    lua_pushnil(L);
    lua_pushstring(L, err.msg);
    return 2;
  }
  lua_pushstring(L, host);
  return 1;
}

void mp_post_lua(lua_State *L, struct mp_http_client *client) {
  static const luaL_Reg functions[] = {
      {"post", host_post}, {"url_host", host_url_host}, {NULL, NULL}};
  lua_pushlightuserdata(L, client);
  luaL_setfuncs(L, functions, 1);
}
