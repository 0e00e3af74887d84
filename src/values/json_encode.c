/* json_encode.c: Lua values to JSON text, appended to the caller's buffer. Nothing but the Lua
 * stack and that buffer is held while Lua may raise. No Lua code runs in here: tables are read raw;
 * values of other modules write themselves by their hook. */
#include <lauxlib.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/utf8.h"
#include "values/decimal.h"
#include "values/json.h"
#include "values/json_names.h"

struct frame { /* one open table; together they are the path of an error */
  const struct frame *up;
  const void *table;
  const char *key; /* NULL: an array's element */
  size_t key_len;
  lua_Integer index;
  int depth;
  int levels; /* of its document */
  bool raw;
};

struct encoder {
  lua_State *L;
  struct mp_buf *out;
};

/* ---- bytes ---- */

static inline char *room(struct mp_buf *out, size_t n) {
  if (!out->failed && out->cap - out->len > n && (!out->max || out->max - out->len >= n))
    return out->data + out->len;
  return mp_buf_reserve(out, n);
}

static inline void put(struct mp_buf *out, const char *bytes, size_t n) {
  char *at = room(out, n);
  if (!at) return;
  memcpy(at, bytes, n);
  out->len += n;
}

static inline void putc1(struct mp_buf *out, char c) {
  char *at = room(out, 1);
  if (!at) return;
  *at = c;
  out->len++;
}

/* 'u': as \u00XX; other letters: as backslash and that letter; 'x': a byte of UTF-8 that wants
 * checking. */
static const char escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n', 'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

static void put_escaped(struct mp_buf *out, const char *text, size_t len) {
  static const char hex[] = "0123456789abcdef";
  size_t start = 0;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    if (!escapes[c]) continue;
    put(out, text + start, i - start);
    start = i + 1;
    if (escapes[c] == 'u')
      put(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
    else
      put(out, (char[]){'\\', escapes[c]}, 2);
  }
  put(out, text + start, len - start);
}

/* False: no UTF-8; nothing was added. */
static bool put_string(struct mp_buf *out, const char *text, size_t len) {
  unsigned char high = 0;
  char special = 0;
  for (size_t i = 0; i < len; i++) {
    high |= (unsigned char)text[i];
    special |= escapes[(unsigned char)text[i]];
  }
  if (high >= 0x80 && mp_utf8_valid(text, len) != len) return false;
  if (special) {
    putc1(out, '"');
    put_escaped(out, text, len);
    putc1(out, '"');
    return true;
  }
  char *at = room(out, len + 2);
  if (!at) return true;
  at[0] = '"';
  memcpy(at + 1, text, len);
  at[len + 1] = '"';
  out->len += len + 2;
  return true;
}

void mp_json_add_string(lua_State *L, struct mp_buf *out, const char *text, size_t len) {
  if (!put_string(out, text, len))
    luaL_error(L, "json: a string that is not valid UTF-8 cannot be JSON");
}

/* Writes the respelled name with its quotes; false if it is no identifier, and nothing was
 * added. */
static bool put_camel(struct mp_buf *out, const char *key, size_t len) {
  char *at = room(out, len + 2);
  if (!at) return true;
  size_t n = mp_json_try_camel(key, len, at + 1);
  if (n == 0) return false;
  at[0] = '"';
  at[n + 1] = '"';
  out->len += n + 2;
  return true;
}

void mp_json_add_key(lua_State *L, struct mp_buf *out, const char *key, size_t len,
                     unsigned flags) {
  if (!(flags & MP_JSON_CAMEL) || !put_camel(out, key, len)) mp_json_add_string(L, out, key, len);
  putc1(out, ':');
}

static void put_integer(struct mp_buf *out, lua_Integer i) {
  char text[24];
  size_t at = sizeof text;
  uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
  do {
    text[--at] = (char)('0' + u % 10);
    u /= 10;
  } while (u);
  if (i < 0) text[--at] = '-';
  put(out, text + at, sizeof text - at);
}

/* ---- errors with their path ---- */

static void add_step(luaL_Buffer *b, const struct frame *f) {
  char text[64];
  if (!f->key) {
    snprintf(text, sizeof text, "[" LUA_INTEGER_FMT "]", f->index);
    luaL_addstring(b, text);
    return;
  }
  bool plain = f->key_len > 0 && f->key_len <= 40 && !(f->key[0] >= '0' && f->key[0] <= '9');
  for (size_t i = 0; plain && i < f->key_len; i++) {
    char c = f->key[i];
    plain = c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  }
  size_t shown = f->key_len > 40 ? 40 : f->key_len;
  luaL_addstring(b, plain ? "." : "[\"");
  luaL_addlstring(b, f->key, mp_utf8_valid(f->key, shown));
  if (!plain) luaL_addstring(b, f->key_len > 40 ? "...\"]" : "\"]");
}

static int fail(struct encoder *e, const struct frame *at, const char *what) {
  const struct frame *steps[MP_JSON_DEPTH_IN_ALL + 2];
  int n = 0;
  for (const struct frame *f = at; f && n < MP_JSON_DEPTH_IN_ALL + 2; f = f->up) steps[n++] = f;
  luaL_Buffer b;
  luaL_buffinit(e->L, &b);
  luaL_addchar(&b, '$');
  int first = n;
  while (n > 0 && first - n < 8) add_step(&b, steps[--n]); /* a cycle's path would go on and on */
  if (n > 0) luaL_addstring(&b, "...");
  luaL_pushresult(&b);
  return luaL_error(e->L, "%s: %s", lua_tostring(e->L, -1), what);
}

static int fail_type(struct encoder *e, const struct frame *at, const char *type, const char *why) {
  lua_pushfstring(e->L, "a %s %s", type, why);
  return fail(e, at, lua_tostring(e->L, -1));
}

/* ---- values ---- */

static const char no_nul[] = "text with a NUL character (U+0000) cannot be stored";

static void put_value(struct encoder *e, int idx, const struct frame *at, unsigned flags);

static void put_line(struct mp_buf *out, int depth, unsigned flags) {
  if (!(flags & MP_JSON_PRETTY)) return;
  putc1(out, '\n');
  for (int i = 0; i < depth; i++) put(out, "  ", 2);
}

/* A sequence has the keys 1..n and no other: anything else would lose elements. */
static void put_array(struct encoder *e, int idx, struct frame *f, const struct frame *at,
                      unsigned flags) {
  lua_State *L = e->L;
  lua_Integer n = (lua_Integer)lua_rawlen(L, idx), seen = 0;
  for (lua_pushnil(L); lua_next(L, idx); seen++) {
    lua_pop(L, 1);
    if (lua_isinteger(L, -1) && lua_type(L, -1) == LUA_TNUMBER) {
      lua_Integer i = lua_tointeger(L, -1);
      if (i < 1 || i > n)
        fail(e, at, "an array with holes (its keys are not 1..n) cannot be JSON; use json.null");
    } else {
      fail(e, at, "a table with both positions and names cannot be JSON");
    }
  }
  if (seen != n)
    fail(e, at, "an array with holes (its keys are not 1..n) cannot be JSON; use json.null");
  putc1(e->out, '[');
  for (lua_Integer i = 1; i <= n && !e->out->failed; i++) {
    if (i > 1) putc1(e->out, ',');
    put_line(e->out, f->depth, flags);
    f->index = i;
    lua_rawgeti(L, idx, i);
    put_value(e, lua_gettop(L), f, flags);
    lua_pop(L, 1);
  }
  if (n > 0) put_line(e->out, f->depth - 1, flags);
  putc1(e->out, ']');
}

/* The key's value is at the top of the stack. `names`: the flags that decide about the key. */
static void put_member(struct encoder *e, int idx, struct frame *f, bool first, unsigned flags,
                       unsigned names) {
  struct mp_buf *out = e->out;
  if (flags & MP_JSON_NO_NUL && memchr(f->key, 0, f->key_len)) fail(e, f, no_nul);
  if (!first) putc1(out, ',');
  put_line(out, f->depth, flags);
  if (!(names & MP_JSON_CAMEL) || !put_camel(out, f->key, f->key_len)) {
    if (names & MP_JSON_CAMEL && mp_json_name_clashes(e->L, idx, f->key, f->key_len))
      fail(e, f, "the table has the same name in snake_case too, so JSON would have it twice");
    if (!put_string(out, f->key, f->key_len))
      fail(e, f, "a name that is not valid UTF-8 cannot be JSON");
  }
  putc1(out, ':');
  if (flags & MP_JSON_PRETTY) putc1(out, ' ');
  put_value(e, lua_gettop(e->L), f, flags);
}

struct name {
  const char *text; /* owned by the table, which no one changes meanwhile */
  size_t len;
};

static int compare_names(const void *a, const void *b) {
  const struct name *x = a, *y = b;
  int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
  return c ? c : (x->len > y->len) - (x->len < y->len);
}

static void check_key(struct encoder *e, struct frame *f, const struct frame *at) {
  if (lua_type(e->L, -2) != LUA_TSTRING)
    fail(e, at,
         lua_type(e->L, -2) == LUA_TNUMBER ? "a table with both positions and names cannot be JSON"
                                           : "a key that is not a string cannot be JSON");
  f->key = lua_tolstring(e->L, -2, &f->key_len);
}

static void put_sorted(struct encoder *e, int idx, struct frame *f, const struct frame *at,
                       unsigned flags, unsigned names) {
  lua_State *L = e->L;
  size_t n = 0, i = 0;
  for (lua_pushnil(L); lua_next(L, idx); n++) {
    check_key(e, f, at);
    lua_pop(L, 1);
  }
  struct name *list = lua_newuserdatauv(L, (n ? n : 1) * sizeof *list, 0);
  for (lua_pushnil(L); i < n && lua_next(L, idx); i++) {
    list[i].text = lua_tolstring(L, -2, &list[i].len);
    lua_pop(L, 1);
  }
  lua_pop(L, 1); /* the last key */
  qsort(list, n, sizeof *list, compare_names);
  for (i = 0; i < n && !e->out->failed; i++) {
    f->key = list[i].text;
    f->key_len = list[i].len;
    lua_pushlstring(L, f->key, f->key_len);
    lua_rawget(L, idx);
    put_member(e, idx, f, i == 0, flags, names);
    lua_pop(L, 1);
  }
  if (n > 0) put_line(e->out, f->depth - 1, flags);
  lua_pop(L, 1);
}

static void put_object(struct encoder *e, int idx, struct frame *f, const struct frame *at,
                       unsigned flags, unsigned names) {
  lua_State *L = e->L;
  putc1(e->out, '{');
  if (flags & (MP_JSON_SORTED | MP_JSON_PRETTY)) {
    put_sorted(e, idx, f, at, flags, names);
  } else {
    bool first = true;
    for (lua_pushnil(L); lua_next(L, idx); first = false, lua_pop(L, 1)) {
      check_key(e, f, at);
      if (!e->out->failed) put_member(e, idx, f, first, flags, names);
    }
  }
  putc1(e->out, '}');
}

/* Calls the hook of the value's metatable; false if there is none. */
static bool put_hooked(struct encoder *e, int idx, unsigned flags) {
  lua_State *L = e->L;
  if (luaL_getmetafield(L, idx, "__json") == LUA_TNIL) return false;
  mp_json_hook hook = NULL;
  if (lua_type(L, -1) == LUA_TLIGHTUSERDATA) {
    void *address = lua_touserdata(L, -1);
    memcpy(&hook, &address, sizeof hook); /* as POSIX does for dlsym */
  }
  lua_pop(L, 1);
  if (!hook) return false;
  int top = lua_gettop(L);
  hook(L, idx, e->out, flags);
  lua_settop(L, top);
  return true;
}

static void put_table(struct encoder *e, int idx, const struct frame *at, unsigned flags) {
  lua_State *L = e->L;
  struct frame f = {.up = at, .table = lua_topointer(L, idx), .depth = at ? at->depth + 1 : 1};
  for (const struct frame *up = at; up; up = up->up)
    if (up->table == f.table) fail(e, at, "the table contains itself and cannot be JSON");
  luaL_checkstack(L, 12, "JSON");
  int mark = mp_json_mark_of(L, idx);
  bool inside = at && at->raw, raw = mark == MP_JSON_RAW_ARRAY || mark == MP_JSON_RAW_OBJECT;
  f.raw = raw || inside;
  f.levels = !at || f.raw != inside ? 1 : at->levels + 1;
  if (f.levels > MP_JSON_DEPTH) fail(e, at, "tables nested deeper than 64 levels cannot be JSON");
  unsigned names = flags;
  bool array = false;
  if (mark < 0) {
    if (put_hooked(e, idx, flags)) return;
    lua_pushnil(L);
    if (lua_next(L, idx)) {
      array = lua_type(L, -2) == LUA_TNUMBER;
      lua_pop(L, 2);
    }
  } else {
    array = mark == MP_JSON_ARRAY || mark == MP_JSON_RAW_ARRAY;
    if (raw) flags &= ~(unsigned)MP_JSON_CAMEL;
    names = mark == MP_JSON_OBJECT ? flags & ~(unsigned)MP_JSON_CAMEL : flags;
  }
  if (array)
    put_array(e, idx, &f, at, flags);
  else
    put_object(e, idx, &f, at, flags, names);
}

static void put_userdata(struct encoder *e, int idx, const struct frame *at, unsigned flags) {
  size_t len;
  const char *text = mp_decimal_peek(e->L, idx, &len);
  bool string = flags & MP_JSON_DECIMAL_STRINGS && !mp_decimal_from_json(e->L, idx);
  if (text && (string || mp_decimal_text_special(text, len))) {
    put_string(e->out, text, len);
  } else if (text) {
    put(e->out, text, len);
  } else if (!put_hooked(e, idx, flags)) {
    const char *name =
        luaL_getmetafield(e->L, idx, "__name") == LUA_TSTRING ? lua_tostring(e->L, -1) : "userdata";
    fail_type(e, at, name, "cannot be JSON");
  }
}

/* As PostgreSQL spells it. */
static void put_special(struct mp_buf *out, double value) {
  const char *text = isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  put(out, text, strlen(text));
}

static void put_value(struct encoder *e, int idx, const struct frame *at, unsigned flags) {
  lua_State *L = e->L;
  size_t len;
  const char *text;
  char number[48];
  int type = lua_type(L, idx);
  switch (type) {
    case LUA_TNIL: put(e->out, "null", 4); break;
    case LUA_TBOOLEAN:
      lua_toboolean(L, idx) ? put(e->out, "true", 4) : put(e->out, "false", 5);
      break;
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx)) {
        put_integer(e->out, lua_tointeger(L, idx));
      } else {
        len = mp_json_format_number(lua_tonumber(L, idx), number);
        if (len == 0 && flags & MP_JSON_SPECIALS) {
          put_special(e->out, lua_tonumber(L, idx));
          break;
        }
        if (len == 0) fail(e, at, "a number that is NaN or infinite cannot be JSON");
        put(e->out, number, len);
      }
      break;
    case LUA_TSTRING:
      text = lua_tolstring(L, idx, &len);
      if (flags & MP_JSON_NO_NUL && memchr(text, 0, len)) fail(e, at, no_nul);
      if (!put_string(e->out, text, len))
        fail(e, at, "a string that is not valid UTF-8 cannot be JSON");
      break;
    case LUA_TTABLE: put_table(e, idx, at, flags); break;
    case LUA_TUSERDATA: put_userdata(e, idx, at, flags); break;
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, idx) != NULL) fail(e, at, "a light userdata cannot be JSON");
      put(e->out, "null", 4);
      break;
    default: fail_type(e, at, lua_typename(L, type), "cannot be JSON");
  }
}

bool mp_json_encode(lua_State *L, int idx, struct mp_buf *out, unsigned flags) {
  struct encoder e = {.L = L, .out = out};
  luaL_checkstack(L, 8, "JSON");
  put_value(&e, lua_absindex(L, idx), NULL, flags);
  return !out->failed;
}
