/* json_marks.c: the marks that tell arrays from objects, the rule by which names are respelled at
 * the border, and the buffers that JSON is written into. */
#include <lauxlib.h>
#include <string.h>

#include "values/json.h"
#include "values/json_names.h"

static const char mark_keys[MP_JSON_MARKS]; /* addresses: registry keys of the marks' metatables */
static const char mark_number;              /* in such a metatable: which mark it is */

/* ---- marks ---- */

void mp_json_push_mark(lua_State *L, enum mp_json_mark mark) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &mark_keys[mark]) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, (lua_Integer)mark);
  lua_rawsetp(L, -2, &mark_number);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &mark_keys[mark]);
}

void mp_json_set_mark(lua_State *L, enum mp_json_mark mark) {
  mp_json_push_mark(L, mark);
  lua_setmetatable(L, -2);
}

int mp_json_mark_of(lua_State *L, int idx) {
  if (!lua_getmetatable(L, idx)) return -1;
  int mark = lua_rawgetp(L, -1, &mark_number) == LUA_TNUMBER ? (int)lua_tointeger(L, -1) : -1;
  lua_pop(L, 2);
  return mark;
}

void mp_json_hook_push(lua_State *L, mp_json_hook hook) {
  void *address;
  memcpy(&address, &hook, sizeof address);
  lua_pushlightuserdata(L, address);
}

/* ---- names ---- */

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

size_t mp_json_try_camel(const char *name, size_t len, char *out) {
  size_t n = 0;
  if (len == 0 || !is_lower(name[0])) return 0;
  for (size_t i = 0; i < len; i++) {
    char c = name[i];
    if (c == '_') {
      if (++i == len) return 0;
      c = name[i];
      if (is_digit(c))
        out[n++] = '_';
      else if (is_lower(c))
        c = (char)(c - 'a' + 'A');
      else
        return 0;
    } else if (!is_lower(c) && !is_digit(c)) {
      return 0;
    }
    out[n++] = c;
  }
  return n;
}

/* As mp_json_snake(), but 0 if the name is none that mp_json_camel() makes. */
static size_t try_snake(const char *name, size_t len, char *out) {
  size_t n = 0;
  if (len == 0 || !is_lower(name[0])) return 0;
  for (size_t i = 0; i < len; i++) {
    char c = name[i];
    if (is_upper(c)) {
      out[n++] = '_';
      c = (char)(c - 'A' + 'a');
    } else if (c == '_') {
      if (i + 1 == len || !is_digit(name[i + 1])) return 0;
    } else if (!is_lower(c) && !is_digit(c)) {
      return 0;
    }
    out[n++] = c;
  }
  return n;
}

size_t mp_json_camel(const char *name, size_t len, char *out) {
  size_t n = mp_json_try_camel(name, len, out);
  if (n == 0) memcpy(out, name, n = len);
  return n;
}

size_t mp_json_snake(const char *name, size_t len, char *out) {
  size_t n = try_snake(name, len, out);
  if (n == 0) memcpy(out, name, n = len);
  return n;
}

bool mp_json_name_clashes(lua_State *L, int idx, const char *key, size_t len) {
  char snake[256];
  if (len > sizeof snake / 2) return false;
  size_t n = try_snake(key, len, snake);
  if (n == 0 || n == len) return false;
  lua_pushlstring(L, snake, n);
  bool clash = lua_rawget(L, idx) != LUA_TNIL;
  lua_pop(L, 1);
  return clash;
}

/* ---- buffers ---- */

static int buf_gc(lua_State *L) {
  mp_buf_fini(lua_touserdata(L, 1));
  return 0;
}

struct mp_buf *mp_json_buf_new(lua_State *L, size_t max) {
  struct mp_buf *buf = lua_newuserdatauv(L, sizeof *buf, 2);
  mp_buf_init(buf, max);
  if (luaL_newmetatable(L, "moonpool.json.buffer")) {
    lua_pushcfunction(L, buf_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, buf_gc);
    lua_setfield(L, -2, "__close");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  return buf;
}
