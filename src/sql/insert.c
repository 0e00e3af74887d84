#include "sql/insert.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "sql/many.h"
#include "sql/state.h"
#include "sql/text_priv.h"
#include "util/buf.h"
#include "values/json.h"

enum {
  MAX_COLUMNS = 1600, /* PostgreSQL's, of a table */
  FEW = 40,           /* of them are compared by their addresses */
};

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_ident(lua_State *L, struct mp_buf *out, const char *name, const char *what) {
  const char *at = name;
  if (!mp_text_ident_start(*at)) at = "!";
  while (mp_text_ident_char(*at)) at++;
  if (*at) mp_luaerr_misuse(L, what, "`%s` is not a name of a column or table", name);
  mp_buf_addc(out, '"');
  mp_buf_adds(out, name);
  mp_buf_addc(out, '"');
}

/* Writes the text and leaves its box. [-0, +1] */
static struct mp_text *write_insert(lua_State *L, const char *table, int idx, const char *what) {
  const char *names[MAX_COLUMNS];
  int n = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      mp_luaerr_misuse(L, what, "the values need column names as keys");
    if (n == MAX_COLUMNS)
      mp_luaerr_misuse(L, what, "more than %d columns, the limit of a table", n);
    names[n++] =
        lua_tostring(L, -2); /* owned by the table, which does not change in this function */
  }
  qsort(names, (size_t)n, sizeof *names, by_name);
  struct mp_buf *sql = mp_json_buf_new(L, 0);
  mp_buf_adds(sql, "insert into ");
  const char *dot = strchr(table, '.');
  if (dot) {
    lua_pushlstring(L, table, (size_t)(dot - table));
    add_ident(L, sql, lua_tostring(L, -1), what);
    lua_pop(L, 1);
    mp_buf_addc(sql, '.');
  }
  add_ident(L, sql, dot ? dot + 1 : table, what);
  if (!n) {
    mp_buf_adds(sql, " default values returning *");
  } else {
    for (int i = 0; i < n; i++) {
      mp_buf_adds(sql, i ? ", " : " (");
      add_ident(L, sql, names[i], what);
    }
    mp_buf_adds(sql, ") values (");
    for (int i = 0; i < n; i++) mp_buf_addf(sql, "%s$%s", i ? ", " : "", names[i]);
    mp_buf_adds(sql, ") returning *");
  }
  if (sql->failed) luaL_error(L, "not enough memory");
  lua_pushlstring(L, mp_buf_text(sql), sql->len);
  lua_replace(L, -2); /* the buffer's owner may be collected: the text is a Lua string now */
  struct mp_text *text = mp_text_push_box(L, lua_gettop(L), what);
  if (!text) mp_luaerr_misuse(L, what, "the names of the columns are too long");
  lua_remove(L, -2);
  if (!text->table && !(text->table = strdup(table))) luaL_error(L, "not enough memory");
  if (!text->many && n) text->many = mp_many_new(text->sql, text->names, (unsigned)n);
  return text;
}

/* The keys of a table of values: a hash that tables with the same keys share, and the keys in their
 * order. Short strings are interned: equal keys have equal addresses. */
struct keys {
  uint64_t hash;
  int count;
  const void *at[FEW]; /* the first of them */
};

static void read_keys(lua_State *L, const char *table, int idx, struct keys *keys) {
  int n = 0;
  keys->hash = (uintptr_t)table;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1), n++) {
    const void *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    keys->hash += ((uintptr_t)key ^ (uintptr_t)key >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    if (n < FEW) keys->at[n] = key;
  }
  keys->count = n;
}

static bool has_key(const struct keys *keys, const void *name) {
  for (int i = 0; i < keys->count; i++)
    if (keys->at[i] == name) return true;
  return false;
}

/* The hash is only a guess. The addresses are certain where they are those of the text's own names,
 * which it keeps: so they are not reused. Long strings have others. */
static bool same_columns(lua_State *L, const struct mp_text *text, int idx,
                         const struct keys *keys) {
  if (text->nparams != keys->count) return false;
  size_t size = sizeof *keys->at * (size_t)keys->count;
  bool same = true, own = keys->count <= FEW;
  if (own && !memcmp(text->many->keys, keys->at, size)) return true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, text->names_ref);
  for (int i = 1; same && i <= keys->count; i++) {
    lua_rawgeti(L, -1, i);
    own = own && has_key(keys, lua_tostring(L, -1));
    same = lua_rawget(L, idx) != LUA_TNIL;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  if (same && own) memcpy(text->many->keys, keys->at, size);
  return same;
}

struct mp_text *mp_insert_text(lua_State *L, const char *table, int idx, const char *what) {
  struct mp_sql *sql = &mp_host_of(L)->sql;
  struct keys keys;
  idx = lua_absindex(L, idx);
  read_keys(L, table, idx, &keys);
  size_t slot = (keys.hash ^ keys.hash >> 32) % MP_ARRAY_LEN(sql->inserts);
  struct mp_text *text = sql->inserts[slot].hash == keys.hash ? sql->inserts[slot].text : NULL;
  if (text && text->many && !strcmp(text->table, table) && same_columns(L, text, idx, &keys))
    return text;
  text = write_insert(L, table, idx, what);
  if (sql->inserts[slot].text) luaL_unref(L, LUA_REGISTRYINDEX, sql->inserts[slot].box_ref);
  sql->inserts[slot].box_ref = luaL_ref(L, LUA_REGISTRYINDEX); /* the guess keeps the text */
  sql->inserts[slot].hash = keys.hash;
  sql->inserts[slot].text = text;
  return text;
}
