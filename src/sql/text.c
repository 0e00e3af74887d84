#include "sql/text.h"

#include <ctype.h>
#include <lauxlib.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "pg/parser.h"
#include "pg/redact.h"
#include "script/luaerr.h"
#include "script/offload.h"
#include "sql/many.h"
#include "sql/state.h"
#include "sql/text_priv.h"
#include "sql/value.h"
#include "util/buf.h"
#include "values/json.h"

/* Then the cache starts anew: scripts that build SQL must not fill memory. */
#define CACHE_TEXTS 4096
#define CACHE_BYTES ((size_t)32 << 20)
#define MAX_PARAMS 65535 /* the protocol's */
#define MAX_NAMES 1600   /* so that their numbers fit into a table on the stack */

void mp_text_unref(struct mp_text *text) {
  if (--text->refs) return;
  for (int i = 0; text->names && i < text->nparams; i++) free(text->names[i]);
  if (text->brief) mp_text_unref(text->brief);
  mp_many_free(text->many);
  free(text->names);
  free(text->types);
  free(text->shown);
  free(text->table);
  free(text->sql);
  free(text);
}

const char *mp_text_shown(struct mp_text *text) {
  if (!text->shown) text->shown = mp_sql_redacted(text->sql);
  return text->shown;
}

struct mp_text *mp_text_brief(struct mp_text *text) {
  if (text->len <= MP_SQL_QUICK) return text;
  if (text->brief || !(text->brief = mp_text_raw(""))) return text->brief ? text->brief : text;
  const char *shown = mp_text_shown(text);
  if (shown) text->brief->shown = strdup(shown);
  return text->brief;
}

struct mp_text *mp_text_raw(const char *sql) {
  struct mp_text *text = calloc(1, sizeof *text);
  if (!text) return NULL;
  text->refs = 1;
  text->names_ref = LUA_NOREF;
  text->sql = strdup(sql);
  text->len = strlen(sql);
  if (text->sql) return text;
  free(text);
  return NULL;
}

/* ---- $name -> $1 ---- */

/* Bytes above ASCII are letters to PostgreSQL. */
bool mp_text_ident_start(char c) {
  return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}
bool mp_text_ident_char(char c) { return mp_text_ident_start(c) || isdigit((unsigned char)c); }

/* The end of what starts at `at` and must not be looked into: a string, a quoted name, a dollar
 * quote, a comment; `at` itself if nothing of the kind starts there. Unterminated ones end with the
 * text: the server tells the user. `begin`: what stands in front does not belong to the same word.
 * Lexical rules: PostgreSQL manual, 4.1. */
static const char *skip_opaque(const char *at, const char *begin) {
  if (*at == '\'') {
    bool escapes = at > begin && (at[-1] == 'E' || at[-1] == 'e') &&
                   (at - 1 == begin || !mp_text_ident_char(at[-2]));
    for (at++; *at; at++) {
      if ((escapes && *at == '\\' && at[1]) || (*at == '\'' && at[1] == '\''))
        at++;
      else if (*at == '\'')
        return at + 1;
    }
    return at;
  }
  if (*at == '"') {
    for (at++; *at; at++)
      if (*at == '"') return at + 1;
    return at;
  }
  if (at[0] == '-' && at[1] == '-') return at + strcspn(at, "\n");
  if (at[0] == '/' && at[1] == '*') {
    int depth = 1;
    for (at += 2; *at && depth; at++) {
      if (at[0] == '/' && at[1] == '*')
        depth++, at++;
      else if (at[0] == '*' && at[1] == '/')
        depth--, at++;
    }
    return at;
  }
  if (*at == '$' && (at == begin || !mp_text_ident_char(at[-1]))) {
    const char *tag = at + 1;
    if (mp_text_ident_start(*tag))
      while (mp_text_ident_char(*tag)) tag++;
    if (*tag != '$') return at;
    size_t len = (size_t)(tag - at) + 1;
    for (const char *end = tag + 1; (end = strchr(end, '$')); end++)
      if (!strncmp(end, at, len)) return end + len;
    return at + strlen(at);
  }
  return at;
}

/* The names of a text by their hashes. The hash has a secret key: texts may come from callers. */
struct naming {
  struct mp_text *text;
  unsigned char key[crypto_shorthash_KEYBYTES];
  uint16_t slots[4096]; /* a name's number, or 0 */
  bool keyed;
};

static uint16_t *name_slot(struct naming *naming, const char *name, size_t len) {
  union {
    unsigned char bytes[crypto_shorthash_BYTES];
    uint64_t number;
  } hash;
  if (!naming->keyed) {
    randombytes_buf(naming->key, sizeof naming->key);
    naming->keyed = true;
  }
  crypto_shorthash(hash.bytes, (const unsigned char *)name, len, naming->key);
  for (size_t at = hash.number;; at++) {
    uint16_t *slot = &naming->slots[at % MP_ARRAY_LEN(naming->slots)];
    const char *found = *slot ? naming->text->names[*slot - 1] : NULL;
    if (!found || (!strncmp(found, name, len) && !found[len])) return slot;
  }
}

/* 0: there are too many; -1: no memory. */
static int name_number(struct naming *naming, const char *name, size_t len) {
  struct mp_text *text = naming->text;
  uint16_t *slot = name_slot(naming, name, len);
  if (*slot) return *slot;
  if (text->nparams == MAX_NAMES) return 0;
  char **names = realloc(text->names, (size_t)(text->nparams + 1) * sizeof *names);
  if (!names) return -1;
  text->names = names;
  if (!(names[text->nparams] = strndup(name, len))) return -1;
  return *slot = (uint16_t)++text->nparams;
}

static const char too_many[] =
    "has more than 65535 parameters, which is PostgreSQL's limit: pass arrays, as in "
    "unnest($1::int[], $2::text[]) or any($1), or use db.copy_in";
static const char too_many_names[] =
    "has more than 1600 named parameters: number them ($1, $2 …; up to 65535), or pass arrays, as "
    "in unnest($ids::int[]) or any($ids)";

static const char no_memory[] = "does not fit into memory";

static const char *number_params(struct mp_text *text, const char *sql) {
  struct naming naming = {.text = text};
  struct mp_buf out;
  int highest = 0;
  const char *fault = NULL, *begin = sql; /* of the text after the last parameter */
  mp_buf_init(&out, 0);
  for (const char *at = sql; *at && !fault;) {
    const char *end = skip_opaque(at, begin);
    if (end == at && *at == '$' && (at == begin || !mp_text_ident_char(at[-1]))) {
      const char *name = end = at + 1;
      if (mp_text_ident_start(*name)) {
        while (mp_text_ident_char(*end)) end++;
        int number = name_number(&naming, name, (size_t)(end - name));
        if (number <= 0) fault = number ? no_memory : too_many_names;
        mp_buf_addf(&out, "$%d", number);
        at = begin = end;
        continue;
      }
      while (isdigit((unsigned char)*end)) end++;
      begin = end;
      int number = end - name < 6 ? atoi(name) : MAX_PARAMS + 1;
      if (number > MAX_PARAMS) fault = too_many;
      if (number > highest) highest = number;
    } else if (end == at) {
      end = at + 1;
    }
    mp_buf_add(&out, at, (size_t)(end - at));
    at = end;
  }
  if (!fault && highest && text->names) fault = "mixes $name with $1: use one of the two";
  if (!text->names) text->nparams = highest;
  if (!fault && !out.failed) text->sql = strdup(mp_buf_text(&out));
  text->len = out.len;
  mp_buf_fini(&out);
  return fault ? fault : text->sql ? NULL : no_memory;
}

/* ---- the cache: a registry table, SQL string -> box ---- */

struct text_box {
  struct mp_text *text;
};

static int box_gc(lua_State *L) {
  struct text_box *box = lua_touserdata(L, 1);
  if (!box->text) return 0;
  luaL_unref(L, LUA_REGISTRYINDEX, box->text->names_ref);
  box->text->names_ref = LUA_NOREF;
  mp_text_unref(box->text);
  box->text = NULL;
  return 0;
}

struct cache {
  size_t texts, bytes;
};

static const char cache_key, reading_key;

/* Pushes the cache's table; its counts are in its place 1, where no text is. */
static struct cache *push_cache(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &cache_key) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    struct cache *cache = lua_newuserdatauv(L, sizeof *cache, 0);
    *cache = (struct cache){0, 0};
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cache_key);
  }
  lua_rawgeti(L, -1, 1);
  struct cache *cache = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return cache;
}

/* A box for the SQL string at `idx`, whose text is not classified yet. [-0, +1] */
static struct mp_text *push_unread(lua_State *L, int idx, const char *what) {
  const char *sql = lua_tostring(L, idx);
  struct text_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->text = NULL;
  if (luaL_newmetatable(L, "moonpool.text")) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  struct mp_text *text = calloc(1, sizeof *text);
  if (!text) {
    luaL_error(L, "not enough memory");
    return NULL;
  }
  text->refs = 1;
  text->names_ref = LUA_NOREF;
  box->text = text;
  const char *fault = number_params(text, sql);
  if (fault == no_memory) luaL_error(L, "not enough memory");
  if (fault) mp_luaerr_misuse(L, what, "the SQL text %s", fault);
  return text;
}

static MP_NORETURN void raise_fault(lua_State *L, const char *what,
                                    const struct mp_sql_fault *fault) {
  if (fault->kind != MP_SQL_MEMORY) mp_luaerr_misuse(L, what, "the SQL text %s", fault->message);
  luaL_error(L, "not enough memory");
  __builtin_unreachable();
}

/* The box on top, whose text has been classified, is the one of the SQL string at `idx` from now
 * on. [-0, +0] */
static void keep(lua_State *L, int idx) {
  struct mp_text *text = ((struct text_box *)lua_touserdata(L, -1))->text;
  size_t len = lua_rawlen(L, idx);
  if (!text->names && !strcmp(text->kind, "PrepareStmt"))
    text->nparams = 0; /* its $n are its own */
  if (text->names) {
    lua_createtable(L, text->nparams, 0);
    for (int i = 0; i < text->nparams; i++) {
      lua_pushstring(L, text->names[i]);
      lua_rawseti(L, -2, i + 1);
    }
    text->names_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  struct cache *cache = push_cache(L);
  if (cache->texts >= CACHE_TEXTS || cache->bytes + len > CACHE_BYTES) {
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cache_key);
    cache = push_cache(L);
  }
  cache->texts++;
  cache->bytes += len;
  lua_pushvalue(L, idx);
  lua_pushvalue(L, -3); /* box cache sql: cache[sql] = box */
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

struct mp_text *mp_text_push_box(lua_State *L, int idx, const char *what) {
  struct mp_sql_fault fault;
  push_cache(L);
  lua_pushvalue(L, idx);
  if (lua_rawget(L, -2) == LUA_TUSERDATA) {
    lua_remove(L, -2);
    return ((struct text_box *)lua_touserdata(L, -1))->text;
  }
  lua_pop(L, 2);
  if (lua_rawlen(L, idx) > MP_SQL_QUICK) return NULL;
  const char *sql = lua_tostring(L, idx);
  if (strlen(sql) != lua_rawlen(L, idx))
    mp_luaerr_misuse(L, what, "the SQL text contains a NUL byte");
  struct mp_text *text = push_unread(L, idx, what);
  bool ok = mp_text_classify(text, &fault);
  mp_task_spend(L, fault.cpu_ns);
  if (!ok) raise_fault(L, what, &fault);
  keep(L, idx);
  return text;
}

struct mp_text *mp_text_get(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TSTRING)
    mp_luaerr_misuse(L, what, "the SQL text is missing (got %s)", luaL_typename(L, idx));
  idx = lua_absindex(L, idx);
  struct mp_text *text = mp_text_push_box(L, idx, what);
  if (text) lua_pop(L, 1);
  return text;
}

struct mp_text *mp_text_own(lua_State *L, const char *sql, const char *what) {
  lua_pushstring(L, sql);
  struct mp_text *text = mp_text_get(L, -1, what); /* the cache keeps it */
  lua_pop(L, 1);
  if (text->types || !text->nparams) return text;
  text->types = calloc((size_t)text->nparams, sizeof *text->types);
  for (int i = 0; text->types && i < text->nparams; i++) text->types[i] = MP_OID_TEXT;
  if (!text->types) luaL_error(L, "not enough memory");
  return text;
}

/* ---- reading a long text ---- */

struct text_reading {
  struct mp_piece piece;
  struct mp_text *text;
  struct mp_sql_fault fault;
  bool ok;
  const char *what;
  int idx;
  lua_CFunction method;
};

static void read_text(void *data) {
  struct text_reading *reading = data;
  reading->ok = mp_text_classify(reading->text, &reading->fault);
  reading->piece.cpu_ns += reading->fault.cpu_ns;
}

static void end_reading(void *data) {
  struct text_reading *reading = data;
  if (reading->text) mp_text_unref(reading->text);
}

/* Stack: the arguments, the box, the holder. */
static int was_read(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct text_reading *reading = mp_piece_finished(L);
  lua_CFunction method = reading->method;
  if (!reading->ok) raise_fault(L, reading->what, &reading->fault);
  lua_insert(L, -2);
  keep(L, reading->idx);
  lua_pop(L, 2);
  return method(L);
}

int mp_text_read(lua_State *L, int idx, const char *what, lua_CFunction method) {
  size_t len = lua_rawlen(L, idx);
  struct mp_sql_fault fault;
  if (!mp_sql_fits(len, MP_SQL_MAX, &fault)) raise_fault(L, what, &fault);
  if (strlen(lua_tostring(L, idx)) != len)
    mp_luaerr_misuse(L, what, "the SQL text contains a NUL byte");
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &reading_key) != LUA_TUSERDATA) {
    lua_pop(L, 1);
    mp_offload_push(L, mp_host_of(L)->sched, 1, 64, "long SQL texts wait to be read");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &reading_key);
  }
  struct mp_offload *offload = *(struct mp_offload **)lua_touserdata(L, -1);
  lua_pop(L, 1);
  struct mp_text *text = push_unread(L, idx, what);
  struct text_reading *reading = mp_piece_push(L, offload, sizeof *reading, read_text, end_reading);
  mp_text_ref(reading->text = text);
  reading->what = what;
  reading->idx = idx;
  reading->method = method;
  return mp_piece_submit(L, what, 0, was_read);
}
