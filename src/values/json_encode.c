/* json_encode.c: Lua values to JSON text, appended to the caller's buffer. The open tables are
 * frames of a writer, not of C's stack, so that writing can stop between two values and go on
 * later. Nothing but the Lua stack and the buffer is held while Lua may raise. No Lua code runs in
 * here: tables are read raw; values of other modules write themselves by their hook. */
#include <lauxlib.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/task.h"
#include "util/utf8.h"
#include "values/decimal.h"
#include "values/json.h"
#include "values/json_names.h"

struct name {
  const char *text; /* owned by the table, or by `anchor` */
  size_t len;
};

struct frame { /* one open table; together they are the path of an error */
  enum { ARRAY, OBJECT, SORTED } kind;
  int base; /* where on the stack it is; above it OBJECT: the last key; SORTED: the userdata `list`
             */
  const void *table;
  const char *key; /* NULL: an array's element */
  size_t key_len;
  lua_Integer index, count; /* of ARRAY and SORTED: the elements written, and all */
  struct name *list;        /* SORTED: its names */
  bool anchored;            /* they are kept, whatever others do with the table */
  int levels;               /* of its document */
  bool raw;
  unsigned flags, names; /* of its values; that decide about its keys */
};

struct mp_json_writer {
  lua_State *L;
  struct mp_buf *out;
  lua_KFunction k;
  int depth;
  struct frame frames[MP_JSON_DEPTH_IN_ALL + 1];
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

/* Of what the first `depth` open tables lead to. */
static int fail(struct mp_json_writer *e, int depth, const char *what) {
  luaL_Buffer b;
  luaL_buffinit(e->L, &b);
  luaL_addchar(&b, '$');
  for (int i = 0; i < depth && i < 8; i++) add_step(&b, &e->frames[i]); /* a cycle's is longer */
  if (depth > 8) luaL_addstring(&b, "...");
  luaL_pushresult(&b);
  return luaL_error(e->L, "%s: %s", lua_tostring(e->L, -1), what);
}

static int fail_type(struct mp_json_writer *e, const char *type, const char *why) {
  lua_pushfstring(e->L, "a %s %s", type, why);
  return fail(e, e->depth, lua_tostring(e->L, -1));
}

/* ---- values ---- */

static const char no_nul[] = "text with a NUL character (U+0000) cannot be stored";

static void put_line(struct mp_buf *out, int depth, unsigned flags) {
  if (!(flags & MP_JSON_PRETTY)) return;
  putc1(out, '\n');
  for (int i = 0; i < depth; i++) put(out, "  ", 2);
}

static const char holes[] =
    "an array with holes (its keys are not 1..n) cannot be JSON; use json.null";

/* A sequence has the keys 1..n and no other: anything else would lose elements. */
static void open_array(struct mp_json_writer *e, struct frame *f) {
  lua_State *L = e->L;
  lua_Integer n = (lua_Integer)lua_rawlen(L, f->base), seen = 0;
  for (lua_pushnil(L); lua_next(L, f->base); seen++) {
    lua_pop(L, 1);
    if (lua_isinteger(L, -1) && lua_type(L, -1) == LUA_TNUMBER) {
      lua_Integer i = lua_tointeger(L, -1);
      if (i < 1 || i > n) fail(e, e->depth - 1, holes);
    } else {
      fail(e, e->depth - 1, "a table with both positions and names cannot be JSON");
    }
  }
  if (seen != n) fail(e, e->depth - 1, holes);
  f->kind = ARRAY;
  f->count = n;
  putc1(e->out, '[');
}

static int compare_names(const void *a, const void *b) {
  const struct name *x = a, *y = b;
  int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
  return c ? c : (x->len > y->len) - (x->len < y->len);
}

/* The key is at `idx`. */
static void check_key(struct mp_json_writer *e, struct frame *f, int idx) {
  int type = lua_type(e->L, idx);
  if (type != LUA_TSTRING)
    fail(e, e->depth - 1,
         type == LUA_TNUMBER ? "a table with both positions and names cannot be JSON"
                             : "a key that is not a string cannot be JSON");
  f->key = lua_tolstring(e->L, idx, &f->key_len);
}

static void sort_names(struct mp_json_writer *e, struct frame *f) {
  lua_State *L = e->L;
  size_t n = 0, i = 0;
  for (lua_pushnil(L); lua_next(L, f->base); n++) {
    check_key(e, f, -2);
    lua_pop(L, 1);
  }
  f->list = lua_newuserdatauv(L, (n ? n : 1) * sizeof *f->list, 1);
  for (lua_pushnil(L); i < n && lua_next(L, f->base); i++) {
    f->list[i].text = lua_tolstring(L, -2, &f->list[i].len);
    lua_pop(L, 1);
  }
  lua_settop(L, f->base + 1); /* the last key */
  qsort(f->list, n, sizeof *f->list, compare_names);
  f->count = (lua_Integer)n;
}

static void open_object(struct mp_json_writer *e, struct frame *f) {
  f->kind = f->flags & (MP_JSON_SORTED | MP_JSON_PRETTY) ? SORTED : OBJECT;
  if (f->kind == SORTED)
    sort_names(e, f);
  else
    lua_pushnil(e->L);
  putc1(e->out, '{');
}

/* Calls the hook of the value's metatable; false if there is none. */
static bool put_hooked(struct mp_json_writer *e, int idx, unsigned flags) {
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

/* Opens the table on top. False: its hook has written it. */
static bool open_table(struct mp_json_writer *e, unsigned flags) {
  lua_State *L = e->L;
  int base = lua_gettop(L);
  const struct frame *at = e->depth ? &e->frames[e->depth - 1] : NULL;
  const void *table = lua_topointer(L, base);
  for (int i = 0; i < e->depth; i++)
    if (e->frames[i].table == table)
      fail(e, e->depth, "the table contains itself and cannot be JSON");
  luaL_checkstack(L, 12, "JSON");
  int mark = mp_json_mark_of(L, base);
  bool inside = at && at->raw, raw = mark == MP_JSON_RAW_ARRAY || mark == MP_JSON_RAW_OBJECT;
  int levels = !at || (raw || inside) != inside ? 1 : at->levels + 1;
  if (levels > MP_JSON_DEPTH)
    fail(e, e->depth, "tables nested deeper than 64 levels cannot be JSON");
  if (mark < 0 && put_hooked(e, base, flags)) return false;
  struct frame *f = &e->frames[e->depth++];
  *f = (struct frame){.base = base, .table = table, .raw = raw || inside, .levels = levels};
  f->flags = raw ? flags & ~(unsigned)MP_JSON_CAMEL : flags;
  f->names = mark == MP_JSON_OBJECT ? f->flags & ~(unsigned)MP_JSON_CAMEL : f->flags;
  bool array = mark == MP_JSON_ARRAY || mark == MP_JSON_RAW_ARRAY;
  if (mark < 0) {
    lua_pushnil(L);
    if (lua_next(L, base)) {
      array = lua_type(L, -2) == LUA_TNUMBER;
      lua_pop(L, 2);
    }
  }
  if (array)
    open_array(e, f);
  else
    open_object(e, f);
  return true;
}

static void put_userdata(struct mp_json_writer *e, unsigned flags) {
  size_t len;
  int idx = lua_gettop(e->L);
  const char *text = mp_decimal_peek(e->L, idx, &len);
  bool string = flags & MP_JSON_DECIMAL_STRINGS && !mp_decimal_from_json(e->L, idx);
  if (text && (string || mp_decimal_text_special(text, len))) {
    put_string(e->out, text, len);
  } else if (text) {
    put(e->out, text, len);
  } else if (!put_hooked(e, idx, flags)) {
    const char *name =
        luaL_getmetafield(e->L, idx, "__name") == LUA_TSTRING ? lua_tostring(e->L, -1) : "userdata";
    fail_type(e, name, "cannot be JSON");
  }
}

/* As PostgreSQL spells it. */
static void put_special(struct mp_buf *out, double value) {
  const char *text = isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  put(out, text, strlen(text));
}

static void put_number(struct mp_json_writer *e, unsigned flags) {
  char number[48];
  if (lua_isinteger(e->L, -1)) {
    put_integer(e->out, lua_tointeger(e->L, -1));
    return;
  }
  size_t len = mp_json_format_number(lua_tonumber(e->L, -1), number);
  if (len)
    put(e->out, number, len);
  else if (flags & MP_JSON_SPECIALS)
    put_special(e->out, lua_tonumber(e->L, -1));
  else
    fail(e, e->depth, "a number that is NaN or infinite cannot be JSON");
}

static void put_text(struct mp_json_writer *e, unsigned flags) {
  size_t len;
  const char *text = lua_tolstring(e->L, -1, &len);
  if (flags & MP_JSON_NO_NUL && memchr(text, 0, len)) fail(e, e->depth, no_nul);
  if (!put_string(e->out, text, len))
    fail(e, e->depth, "a string that is not valid UTF-8 cannot be JSON");
}

/* Takes the value on top: writes it, or opens it if it is a table. */
static void put_value(struct mp_json_writer *e, unsigned flags) {
  lua_State *L = e->L;
  int type = lua_type(L, -1), top = lua_gettop(L);
  switch (type) {
    case LUA_TNIL: put(e->out, "null", 4); break;
    case LUA_TBOOLEAN:
      lua_toboolean(L, -1) ? put(e->out, "true", 4) : put(e->out, "false", 5);
      break;
    case LUA_TNUMBER: put_number(e, flags); break;
    case LUA_TSTRING: put_text(e, flags); break;
    case LUA_TTABLE:
      if (open_table(e, flags)) return;
      break;
    case LUA_TUSERDATA: put_userdata(e, flags); break;
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, -1) != NULL) fail(e, e->depth, "a light userdata cannot be JSON");
      put(e->out, "null", 4);
      break;
    default: fail_type(e, lua_typename(L, type), "cannot be JSON");
  }
  lua_settop(L, top - 1);
}

/* The key in front of the value on top. */
static void put_key(struct mp_json_writer *e, struct frame *f) {
  struct mp_buf *out = e->out;
  if (f->flags & MP_JSON_NO_NUL && memchr(f->key, 0, f->key_len)) fail(e, e->depth, no_nul);
  if (!(f->names & MP_JSON_CAMEL) || !put_camel(out, f->key, f->key_len)) {
    if (f->names & MP_JSON_CAMEL && mp_json_name_clashes(e->L, f->base, f->key, f->key_len))
      fail(e, e->depth,
           "the table has the same name in snake_case too, so JSON would have it twice");
    if (!put_string(out, f->key, f->key_len))
      fail(e, e->depth, "a name that is not valid UTF-8 cannot be JSON");
  }
  putc1(out, ':');
  if (f->flags & MP_JSON_PRETTY) putc1(out, ' ');
}

/* Pushes the next value of the table and notes its key; false: there is none. */
static bool next_value(struct mp_json_writer *e, struct frame *f) {
  lua_State *L = e->L;
  switch (f->kind) {
    case ARRAY:
      if (f->index >= f->count) return false;
      lua_rawgeti(L, f->base, ++f->index);
      return true;
    case OBJECT:
      if (!lua_next(L, f->base)) return false;
      f->index++;
      check_key(e, f, -2);
      return true;
    case SORTED: break;
  }
  if (f->index >= f->count) return false;
  f->key = f->list[f->index].text;
  f->key_len = f->list[f->index++].len;
  lua_pushlstring(L, f->key, f->key_len);
  lua_rawget(L, f->base);
  return true;
}

/* Writes the next value of the innermost open table, or closes it. */
static void put_next(struct mp_json_writer *e) {
  struct frame *f = &e->frames[e->depth - 1];
  if (!next_value(e, f)) {
    if (f->index > 0 && f->kind != OBJECT) put_line(e->out, e->depth - 1, f->flags);
    putc1(e->out, f->kind == ARRAY ? ']' : '}');
    lua_settop(e->L, f->base - 1);
    e->depth--;
    return;
  }
  if (f->index > 1) putc1(e->out, ',');
  put_line(e->out, e->depth, f->flags);
  if (f->kind != ARRAY) put_key(e, f);
  put_value(e, f->flags);
}

/* ---- all at once, or piece by piece ---- */

enum { PIECE = 64 }; /* values between two looks at the clock */

bool mp_json_encode(lua_State *L, int idx, struct mp_buf *out, unsigned flags) {
  struct mp_json_writer e;
  e.L = L;
  e.out = out;
  e.depth = 0;
  luaL_checkstack(L, 8, "JSON");
  lua_pushvalue(L, idx);
  put_value(&e, flags);
  while (e.depth > 0 && !out->failed) put_next(&e);
  if (e.depth > 0) lua_settop(L, e.frames[0].base - 1);
  return !out->failed;
}

struct mp_json_writer *mp_json_writer_new(lua_State *L) {
  struct mp_json_writer *e = lua_newuserdatauv(L, sizeof *e, 0);
  e->depth = 0;
  return e;
}

/* Other code may change the tables now. */
static void anchor_names(struct mp_json_writer *e, struct frame *f) {
  lua_State *L = e->L;
  f->anchored = true;
  lua_createtable(L, (int)(f->count - f->index), 0);
  for (lua_Integer i = f->index > 0 ? f->index - 1 : 0; i < f->count; i++) {
    lua_pushlstring(L, f->list[i].text, f->list[i].len);
    f->list[i].text = lua_tostring(L, -1);
    lua_rawseti(L, -2, i + 1);
  }
  if (f->index > 0) f->key = f->list[f->index - 1].text;
  lua_setiuservalue(L, f->base + 1, 1);
}

static int write_on(lua_State *L, int status, lua_KContext ctx) {
  struct mp_json_writer *e = (struct mp_json_writer *)ctx;
  (void)status;
  e->L = L;
  while (e->depth > 0 && !e->out->failed) {
    for (int i = 0; i < PIECE && e->depth > 0 && !e->out->failed; i++) put_next(e);
    if (e->depth == 0 || e->out->failed || !mp_task_slice_over(L)) continue;
    for (int i = 0; i < e->depth; i++)
      if (e->frames[i].kind == SORTED && !e->frames[i].anchored) anchor_names(e, &e->frames[i]);
    return mp_task_give_way(L, ctx, write_on);
  }
  return e->k(L, LUA_OK, (lua_KContext)e->out);
}

int mp_json_write(lua_State *L, struct mp_json_writer *e, int idx, struct mp_buf *out,
                  unsigned flags, lua_KFunction k) {
  e->L = L;
  e->out = out;
  e->depth = 0;
  e->k = k;
  luaL_checkstack(L, 8, "JSON");
  lua_pushvalue(L, idx);
  put_value(e, flags);
  return write_on(L, LUA_OK, (lua_KContext)e);
}
