/* luaerr.c: errors between C and Lua. The metatable of error objects lies in the registry under
 * "moonpool.error". */
#include "script/luaerr.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "script/task_priv.h"
#include "util/buf.h"

static const char metatable_key[] = "moonpool.error";
static const char nomem_key; /* its address is the registry's key */

void mp_luaerr_open(lua_State *L) {
  lua_setfield(L, LUA_REGISTRYINDEX, metatable_key);
  struct mp_err err = {0};
  mp_err_set(&err, MP_ENOMEM, "the script ran out of memory");
  mp_luaerr_push(L, &err);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &nomem_key);
}

static int push_fresh_nomem(lua_State *L) {
  struct mp_err err = {0};
  mp_err_set(&err, MP_ENOMEM, "the script ran out of memory");
  mp_luaerr_push(L, &err);
  return 1;
}

/* Scripts may change the object, so each gets a new one; the shared one only if there is no memory
 * for that. */
void mp_luaerr_push_nomem(lua_State *L) {
  lua_pushcfunction(L, push_fresh_nomem);
  if (lua_pcall(L, 0, 1, 0) == LUA_OK) return;
  lua_pop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &nomem_key);
}

static void set_text(lua_State *L, const char *field, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

static void set_true(lua_State *L, const char *field) {
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, field);
}

void mp_luaerr_push(lua_State *L, const struct mp_err *err) {
  luaL_checkstack(L, 4, "error object");
  lua_createtable(L, 0, 8);
  set_text(L, "code", mp_err_name(err));
  set_text(L, "message", err->msg[0] ? err->msg : mp_code_text(err->code));
  lua_pushinteger(L, mp_err_status(err));
  lua_setfield(L, -2, "status");
  if (err->sqlstate[0]) set_text(L, "sqlstate", err->sqlstate);
  if (err->flags & MP_ERRF_RETRYABLE) set_true(L, "retryable");
  if (err->flags & MP_ERRF_OUTCOME_UNKNOWN) set_true(L, "outcome_unknown");
  if (err->shown[0]) set_text(L, "shown", err->shown);
  luaL_setmetatable(L, metatable_key);
}

bool mp_luaerr_is(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TTABLE || !lua_getmetatable(L, idx)) return false;
  luaL_getmetatable(L, metatable_key);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

/* ---- the message handler ---- */

/* The length of "file.lua:12" in front of ": message", 0 if the text does not begin so. */
static size_t place_length(const char *text) {
  const char *end = text;
  if (*text == '[') { /* [string "..."]:12: */
    end = strchr(text, ']');
    if (!end) return 0;
  } else {
    bool path = false;
    for (; *end && *end != ':'; end++) {
      if (strchr(" \t\n", *end)) return 0;
      path |= *end == '.' || *end == '/';
    }
    if (!path) return 0;
  }
  end = strchr(end, ':');
  if (!end) return 0;
  size_t digits = strspn(end + 1, "0123456789");
  if (!digits || strncmp(end + 1 + digits, ": ", 2) != 0) return 0;
  return (size_t)(end - text) + 1 + digits;
}

static int text_of(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  return 1;
}

/* Pushes the text of the value at 1. */
static void push_text(lua_State *L) {
  lua_pushcfunction(L, text_of); /* a __tostring may fail: once is enough */
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return;
  lua_pop(L, 1);
  lua_pushfstring(L, "a %s was raised whose __tostring fails", luaL_typename(L, 1));
}

static int copy_fields(lua_State *L) { /* (object, fields) */
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, 1);
  }
  return 0;
}

/* Pushes the text of a value that is neither a string nor an error object. [-0, +1] */
static void push_said(lua_State *L) {
  switch (lua_type(L, 1)) {
    case LUA_TNIL:
      lua_pushliteral(L, "error(nil) was raised: raise a text, or use moonpool.fail");
      return;
    case LUA_TSTRING:
    case LUA_TNUMBER: push_text(L); return;
    default: break; /* a Lua type, no state */
  }
  if (luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL) {
    lua_pop(L, 1);
    push_text(L);
  } else {
    lua_pushfstring(L, "a %s was raised as an error: raise a text, or use moonpool.fail",
                    luaL_typename(L, 1));
  }
}

/* Pushes the error object of any other value at 1. */
static void convert(lua_State *L) {
  lua_createtable(L, 0, 8);
  set_text(L, "code", mp_code_name(MP_ESCRIPT));
  lua_pushinteger(L, mp_code_status(MP_ESCRIPT));
  lua_setfield(L, -2, "status");
  if (lua_istable(L, 1) && !lua_getmetatable(L, 1)) { /* the script's own `error { code = ... }` */
    lua_pushcfunction(L, copy_fields);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    lua_call(L, 2, 0);
  } else {
    lua_settop(L, 2);
    size_t place = lua_type(L, 1) == LUA_TSTRING ? place_length(lua_tostring(L, 1)) : 0;
    push_said(L);
    if (place) {
      const char *text = lua_tostring(L, -1);
      lua_pushlstring(L, text, place);
      lua_setfield(L, 2, "line");
      lua_pushstring(L, text + place + 2);
      lua_replace(L, -2);
    }
    lua_setfield(L, 2, "message");
  }
  luaL_setmetatable(L, metatable_key);
}

bool mp_luaerr_good_code(const char *code) {
  size_t len = strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
  return len && !code[len] && *code >= 'A' && *code <= 'Z' &&
         len < sizeof(((struct mp_err *)0)->name);
}

bool mp_luaerr_good_status(lua_State *L, int idx) {
  int is_integer;
  lua_Integer status = lua_tointegerx(L, idx, &is_integer);
  return lua_type(L, idx) == LUA_TNUMBER && is_integer && status >= 400 && status <= 599;
}

static void reset(lua_State *L, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_setfield(L, 2, "message");
  lua_pushstring(L, mp_code_name(MP_ESCRIPT));
  lua_setfield(L, 2, "code");
  lua_pushinteger(L, 500);
  lua_setfield(L, 2, "status");
}

static int field(lua_State *L, const char *name) {
  lua_pushstring(L, name);
  return lua_rawget(L, 2);
}

/* Scripts may write into error objects and raise tables. An error that leaves a script must have a
 * valid code, message and status. The object is at 2. */
static void judge(lua_State *L) {
  int code = field(L, "code"), message = field(L, "message");
  field(L, "status");
  const char *name = code == LUA_TSTRING ? lua_tostring(L, -3) : NULL;
  if (!name) {
    reset(L, "a table without the text `code` was raised: use moonpool.fail(code, message)");
  } else if (!mp_luaerr_good_code(name)) {
    reset(L,
          "an error was raised with the code \"%s\": it is made of capitals, digits and _, 63 at "
          "most",
          name);
  } else if (!mp_luaerr_good_status(L, -1)) {
    reset(L, "%s was raised with an invalid status: use a number from 400 to 599", name);
  } else if (message != LUA_TSTRING) {
    lua_pushfstring(L, "%s was raised without a message", name);
    lua_setfield(L, 2, "message");
  }
  lua_settop(L, 2);
}

static bool lacks(lua_State *L, const char *field) {
  lua_pushstring(L, field);
  bool lacking = lua_rawget(L, -2) == LUA_TNIL;
  lua_pop(L, 1);
  return lacking;
}

void mp_luaerr_note(lua_State *L, lua_State *co, int level) {
  if (lacks(L, "line")) {
    char where[200];
    mp_task_where(co, level, where, sizeof where);
    if (where[0]) set_text(L, "line", where);
  }
  if (lacks(L, "traceback")) {
    luaL_traceback(L, co, NULL, level);
    lua_setfield(L, -2, "traceback");
  }
}

/* What Lua, and C functions by the same words, raise where memory is refused: a text, because an
 * object would need memory. A pcall may have raised it again since, so that nothing else tells. */
static bool says_no_memory(lua_State *L, int idx) {
  static const char words[] = "not enough memory";
  return lua_type(L, idx) == LUA_TSTRING && !strncmp(lua_tostring(L, idx), words, sizeof words - 1);
}

int mp_luaerr_handler(lua_State *L) {
  lua_settop(L, 1);
  if (!lua_checkstack(L, 10)) return 1;
  if (mp_luaerr_is(L, 1))
    lua_pushvalue(L, 1);
  else if (says_no_memory(L, 1))
    mp_task_push_nomem(L);
  else
    convert(L);
  judge(L);
  mp_luaerr_note(L, L, 1);
  return 1;
}

/* ---- a copy that the script cannot reach ---- */

enum { COPY_DEPTH = 5, COPY_VALUES = 500 };

/* A metatable's functions would run when the host reads the value. */
static bool has_methods(lua_State *L, int idx) {
  if (!lua_getmetatable(L, idx)) return false;
  bool found = false;
  for (lua_pushnil(L); !found && lua_next(L, -2); lua_pop(L, 1)) found = lua_isfunction(L, -1);
  lua_settop(L, idx);
  return found;
}

static bool is_decimal(lua_State *L, int idx) { return luaL_testudata(L, idx, "moonpool.decimal"); }

/* Pushes a copy of the table on top, without values that are not plain or exceed the limits. */
static void push_copy(lua_State *L, unsigned depth, unsigned *left) {
  int from = lua_gettop(L);
  luaL_checkstack(L, 8, "an error");
  lua_newtable(L);
  lua_pushnil(L);
  while (*left && lua_next(L, from)) {
    int value = lua_gettop(L);
    --*left;
    if (lua_istable(L, value) && depth < COPY_DEPTH && !has_methods(L, value)) {
      push_copy(L, depth + 1, left);
      if (lua_getmetatable(L, value)) lua_setmetatable(L, -2);
      lua_replace(L, value);
    } else if (lua_type(L, value) > LUA_TSTRING && !is_decimal(L, value)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, value - 1);
    lua_pushvalue(L, value);
    lua_rawset(L, from + 1);
    lua_settop(L, value - 1);
  }
  lua_settop(L, from + 1);
}

int mp_luaerr_copy(lua_State *L) {
  unsigned left = COPY_VALUES;
  lua_settop(L, 1);
  push_copy(L, 0, &left);
  luaL_setmetatable(L, metatable_key);
  judge(L);
  return 1;
}

/* ---- out of Lua ---- */

static bool get_text(lua_State *L, const char *field, char *out, size_t size) {
  lua_pushstring(L, field);
  bool found = lua_rawget(L, 1) == LUA_TSTRING;
  if (found) snprintf(out, size, "%s", lua_tostring(L, -1));
  lua_pop(L, 1);
  return found;
}

static bool get_flag(lua_State *L, const char *field) {
  lua_pushstring(L, field);
  lua_rawget(L, 1);
  bool set = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return set;
}

static enum mp_code code_of(const char *name) {
#define X(code, code_name, text) \
  if (strcmp(name, code_name) == 0) return code;
  MP_ERR_MAP(X)
#undef X
  return MP_ESCRIPT; /* an operation's own code */
}

/* Of an error of the script's own: its place. */
static void get_origin(lua_State *L, char *out, size_t size) {
  char place[80] = "";
  bool known = get_text(L, "line", place, sizeof place);
  snprintf(out, size, "raised%s%s", known ? " at " : "", place);
}

/* Name and status, if they are more specific than the code. */
static void get_name(lua_State *L, struct mp_err *err, const char *name) {
  if (strcmp(name, mp_code_name(err->code)) != 0) mp_copy_text(err->name, sizeof err->name, name);
  lua_pushliteral(L, "status");
  lua_rawget(L, 1);
  if (mp_luaerr_good_status(L, -1)) err->status = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
}

static int get(lua_State *L) {
  struct mp_err *err = lua_touserdata(L, 2);
  char text[sizeof err->msg] = "", code[64] = "";
  if (says_no_memory(L, 1)) {
    mp_err_set(err, MP_ENOMEM, "there was no memory left");
    return 0;
  }
  if (!mp_luaerr_is(L, 1)) {
    mp_err_set(err, MP_ESCRIPT, "%s", luaL_tolstring(L, 1, NULL));
    snprintf(err->shown, sizeof err->shown, "raised");
    return 0;
  }
  get_text(L, "code", code, sizeof code);
  get_text(L, "message", text, sizeof text);
  mp_err_set(err, code_of(code), "%s", text);
  get_name(L, err, code);
  get_text(L, "sqlstate", err->sqlstate, sizeof err->sqlstate);
  const struct mp_code_info *info = mp_code_find(code);
  if (err->sqlstate[0] && info && err->code == MP_ESCRIPT) err->code = MP_ESQL;
  /* A message made for callers, or by a script, may hold any value. */
  bool host_made = info && info->told && strcmp(code, mp_code_name(MP_ESCRIPT)) != 0;
  bool own = !host_made || get_flag(L, "own_message");
  if (!get_text(L, "shown", err->shown, sizeof err->shown) && own)
    get_origin(L, err->shown, sizeof err->shown);
  if (get_flag(L, "retryable")) err->flags |= MP_ERRF_RETRYABLE;
  if (get_flag(L, "outcome_unknown")) err->flags |= MP_ERRF_OUTCOME_UNKNOWN;
  return 0;
}

void mp_luaerr_get(lua_State *L, int idx, struct mp_err *err) {
  idx = lua_absindex(L, idx);
  if (!lua_checkstack(L, 4)) {
    mp_err_set(err, MP_ENOMEM, "no memory to read an error");
    return;
  }
  lua_pushcfunction(L, get);
  lua_pushvalue(L, idx);
  lua_pushlightuserdata(L, err);
  int status = lua_pcall(L, 2, 0, 0);
  if (status == LUA_OK) return;
  lua_pop(L, 1);
  if (status == LUA_ERRMEM)
    mp_err_set(err, MP_ENOMEM, "no memory to read an error");
  else
    mp_err_set(err, MP_ESCRIPT, "an error that cannot be shown as text");
}

/* ---- misuse ---- */

void mp_luaerr_misuse(lua_State *L, const char *what, const char *fmt, ...) {
  struct mp_err err = {0};
  char text[sizeof err.msg], where[200];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  mp_err_set(&err, MP_EINVAL, "%.60s: %.420s", what, text);
  mp_task_where(L, 1, where, sizeof where);
  mp_luaerr_push(L, &err);
  if (where[0]) set_text(L, "line", where);
  lua_error(L);
  __builtin_unreachable();
}
