/* json_module.c: the Lua module "moonpool.json". */
#include <lauxlib.h>
#include <string.h>

#include "script/task.h"
#include "values/json.h"
#include "values/json_names.h"

enum { ENCODE_MAX_BYTES = 64 << 20, KEEP_BYTES = 256 << 10 };

/* ---- marks ---- */

static int set_checked_mark(lua_State *L, enum mp_json_mark mark) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  if (lua_getmetatable(L, 1)) {
    lua_pop(L, 1);
    if (mp_json_mark_of(L, 1) < 0)
      return luaL_error(
          L, "json: the table has a metatable of its own and cannot be marked; copy it first");
  }
  mp_json_set_mark(L, mark);
  return 1;
}

static int l_array(lua_State *L) { return set_checked_mark(L, MP_JSON_ARRAY); }
static int l_object(lua_State *L) { return set_checked_mark(L, MP_JSON_OBJECT); }

static bool is_array(lua_State *L, int idx) {
  int mark = lua_type(L, idx) == LUA_TTABLE ? mp_json_mark_of(L, idx) : -1;
  if (mark >= 0) return mark == MP_JSON_ARRAY || mark == MP_JSON_RAW_ARRAY;
  return lua_type(L, idx) == LUA_TTABLE && lua_rawlen(L, idx) > 0;
}

static int l_is_array(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, is_array(L, 1));
  return 1;
}

static int l_raw(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING) return mp_json_raw(L);
  if (lua_type(L, 1) != LUA_TTABLE) { /* no names inside */
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    return 1;
  }
  return set_checked_mark(L, is_array(L, 1) ? MP_JSON_RAW_ARRAY : MP_JSON_RAW_OBJECT);
}

/* ---- names ---- */

static int respell(lua_State *L, size_t (*rule)(const char *, size_t, char *)) {
  size_t len;
  const char *name = luaL_checklstring(L, 1, &len);
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, 2 * len + 1);
  luaL_pushresultsize(&b, rule(name, len, out));
  return 1;
}

static int l_camel(lua_State *L) { return respell(L, mp_json_camel); }
static int l_snake(lua_State *L) { return respell(L, mp_json_snake); }

/* ---- text in, text out ---- */

static unsigned read_flag(lua_State *L, int idx, const char *name, unsigned flag) {
  lua_getfield(L, idx, name);
  bool on = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on ? flag : 0;
}

/* An unknown option is a mistake that would pass unseen. */
static void check_options(lua_State *L, int idx, const char *const *known) {
  luaL_checktype(L, idx, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const char *const *k = known;
    while (*k && strcmp(*k, name) != 0) k++;
    if (!*k) luaL_error(L, "json: unknown option \"%s\"", name);
  }
}

/* [-0, +1] */
static void push_buffer(lua_State *L) {
  mp_json_buf_new(L, ENCODE_MAX_BYTES);
  mp_json_writer_new(L);
  lua_setiuservalue(L, -2, 2);
}

/* The buffer that serves call after call, upvalue 1; its user values: true while it is in use
 * (another task, a finalizer or an error may come in between), and the writer. [-0, +1] */
static struct mp_buf *take_buffer(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  bool busy = lua_getiuservalue(L, -1, 1) == LUA_TBOOLEAN && lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (busy) {
    lua_pop(L, 1);
    push_buffer(L);
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(1));
  }
  lua_pushboolean(L, 1);
  lua_setiuservalue(L, -2, 1);
  struct mp_buf *buf = lua_touserdata(L, -1);
  mp_buf_clear(buf);
  return buf;
}

enum { VALUE = 1, FLAGS, BUFFER, WRITER };

/* Replaces what is on the stack by the text. */
static int written(lua_State *L, int status, lua_KContext ctx) {
  struct mp_buf *buf = (struct mp_buf *)ctx;
  (void)status;
  if (buf->failed)
    return luaL_error(L, "json: the text would be longer than %I bytes, or memory is short",
                      (lua_Integer)buf->max);
  if (lua_tointeger(L, FLAGS) & MP_JSON_UNREAD && memchr(buf->data, MP_JSON_UNREAD_MARK, buf->len))
    lua_pushnil(L);
  else
    lua_pushlstring(L, buf->data, buf->len);
  if (buf->cap > KEEP_BYTES) mp_buf_fini(buf);
  lua_pushboolean(L, 0);
  lua_setiuservalue(L, BUFFER, 1);
  return 1;
}

/* The value at 1 as text. */
static int encode(lua_State *L, unsigned flags) {
  lua_settop(L, VALUE);
  lua_pushinteger(L, (lua_Integer)flags);
  struct mp_buf *buf = take_buffer(L);
  /* The text stands here, and then once more as Lua's. */
  size_t room = mp_task_room(L) / 2 + 1; /* 0 would be no limit */
  buf->max = room < ENCODE_MAX_BYTES ? room : ENCODE_MAX_BYTES;
  lua_getiuservalue(L, BUFFER, 2);
  return mp_json_write(L, lua_touserdata(L, WRITER), VALUE, buf, flags, written);
}

/* json.encode(value, {pretty, sorted, camel, decimal_strings}) */
static int l_encode(lua_State *L) {
  static const char *const known[] = {"pretty", "sorted", "camel", "decimal_strings", NULL};
  unsigned flags = 0;
  luaL_checkany(L, 1);
  if (!lua_isnoneornil(L, 2)) {
    check_options(L, 2, known);
    flags = read_flag(L, 2, "pretty", MP_JSON_PRETTY) | read_flag(L, 2, "sorted", MP_JSON_SORTED) |
            read_flag(L, 2, "camel", MP_JSON_CAMEL) |
            read_flag(L, 2, "decimal_strings", MP_JSON_DECIMAL_STRINGS);
  }
  return encode(L, flags);
}

static int answer(lua_State *L) {
  bool own = lua_toboolean(L, 2);
  unsigned spelling = own ? 0 : MP_JSON_CAMEL | MP_JSON_DECIMAL_STRINGS;
  return encode(L, MP_JSON_SORTED | MP_JSON_UNREAD | spelling);
}

static int answered(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD) return 1;
  if (status != LUA_ERRRUN || lua_type(L, -1) != LUA_TSTRING) return lua_error(L);
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* json_answer(value, own) -> its text; nil: it has a row that was not answered yet; or nil and why
 * it cannot be JSON. `own`: as Lua spells names and decimals, else as callers do. Raises error
 * objects (of a row whose statement failed) and lack of memory. No pcall of Lua does: that of
 * scripts sends what is queued. */
static int host_json_answer(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  return answered(L, mp_task_pcallk(L, 2, 1, 0, 0, answered), 0);
}

static size_t read_limit(lua_State *L, int idx, const char *name) {
  lua_getfield(L, idx, name);
  lua_Integer limit = luaL_optinteger(L, -1, 0);
  luaL_argcheck(L, limit > 0 || lua_isnil(L, -1), idx, "a limit must be positive");
  lua_pop(L, 1);
  return (size_t)limit;
}

/* json.decode(text, {decimals, own, raw, max_bytes, max_values}) */
static int l_decode(lua_State *L) {
  static const char *const known[] = {"decimals", "own", "raw", "max_bytes", "max_values", NULL};
  luaL_checktype(L, 1, LUA_TSTRING);
  unsigned flags = 0;
  struct mp_json_limits limits = {0};
  if (!lua_isnoneornil(L, 2)) {
    check_options(L, 2, known);
    flags = read_flag(L, 2, "decimals", MP_JSON_DECIMALS) | read_flag(L, 2, "raw", MP_JSON_RAW) |
            read_flag(L, 2, "own", MP_JSON_OWN);
    limits.bytes = read_limit(L, 2, "max_bytes");
    limits.values = read_limit(L, 2, "max_values");
  }
  return mp_json_read(L, &limits, flags);
}

void mp_json_host_open(lua_State *L) {
  push_buffer(L);
  lua_pushcclosure(L, answer, 1);
  lua_pushcclosure(L, host_json_answer, 1);
  lua_setfield(L, -2, "json_answer");
  mp_json_raw_open(L);
}

int mp_open_json(lua_State *L) {
  static const luaL_Reg module[] = {
      {"decode", l_decode}, {"array", l_array}, {"object", l_object},
      {"map", l_object},    {"raw", l_raw},     {"is_array", l_is_array},
      {"camel", l_camel},   {"snake", l_snake}, {NULL, NULL}};
  luaL_newlib(L, module);
  push_buffer(L);
  lua_pushcclosure(L, l_encode, 1);
  lua_setfield(L, -2, "encode");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  mp_json_push_mark(L, MP_JSON_ARRAY);
  lua_setfield(L, -2, "array_mt");
  return 1;
}
