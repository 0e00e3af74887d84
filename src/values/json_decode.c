/* json_decode.c: JSON text to Lua values. yajl knows the grammar; what it lets through (vertical
 * tabs, overlong UTF-8, lone surrogates, duplicate keys, any depth) is refused here. What C asks
 * for is read inside one lua_pcall, so that "out of memory" comes back as an error and the parser
 * is always freed; json.decode and long columns are read piece by piece, the parser owned by a
 * userdata, and give way between two. */
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "script/luaerr.h"
#include "script/task.h"
#include "util/utf8.h"
#include "values/decimal.h"
#include "values/json.h"

struct decoder {
  lua_State *L;
  yajl_handle parser;
  const char *text;
  size_t len;
  unsigned flags;
  size_t values, max_values; /* 0: any number */
  int depth;
  int array_mark, map_mark;                /* stack indexes of metatables; 0: none */
  lua_Integer count[MP_JSON_DEPTH_IN_ALL]; /* elements so far; -1: an object */
  const char *wrong;                       /* what a callback refused, static text */
  char detail[64];                         /* about which name */
  size_t at;                               /* and where */
  size_t fed;                              /* bytes that the parser has seen before this piece */
};

/* ---- what yajl does not check ---- */

static int hex4(const char *s, const char *end) {
  int v = 0;
  if (end - s < 4) return -1;
  for (int i = 0; i < 4; i++) {
    char c = s[i];
    int d = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : -1;
    if (d < 0) return -1;
    v = v * 16 + d;
  }
  return v;
}

/* Bytes that may stand nowhere, and \u escapes of lone surrogates (a backslash occurs in strings
 * only; malformed escapes are left to yajl). */
static bool scan(struct decoder *d) {
  if (d->len >= 3 && !memcmp(d->text, "\xEF\xBB\xBF", 3)) {
    d->wrong = "a byte order mark (U+FEFF): send the text without it";
    return false;
  }
  const char *end = d->text + d->len, *p = d->text;
  d->at = mp_utf8_valid(d->text, d->len);
  if (d->at < d->len) {
    d->wrong = "invalid UTF-8";
    return false;
  }
  for (; p < end; p++)
    if ((unsigned char)*p < 0x20 && *p != '\n' && *p != '\r' && *p != '\t') {
      d->wrong = "a control character";
      d->at = (size_t)(p - d->text);
      return false;
    }
  for (p = d->text; (p = memchr(p, '\\', (size_t)(end - p)));) {
    int code = p + 1 < end && p[1] == 'u' ? hex4(p + 2, end) : -1;
    if (code >= 0xD800 && code <= 0xDFFF) {
      int low =
          code < 0xDC00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8, end) : -1;
      if (low < 0xDC00 || low > 0xDFFF) {
        d->wrong = "half of a surrogate pair";
        d->at = (size_t)(p - d->text);
        return false;
      }
      p += 12;
    } else {
      p += end - p > 2 ? 2 : end - p;
    }
  }
  return true;
}

/* ---- yajl's callbacks: 1 goes on, 0 stops ---- */

static int refuse(struct decoder *d, const char *wrong) {
  d->wrong = wrong;
  d->at = d->fed + yajl_get_bytes_consumed(d->parser);
  return 0;
}

static const char too_many[] = "there are too many values";

/* Moves the value at the top of the stack into the open container. */
static int add_value(struct decoder *d) {
  if (d->values++ == d->max_values && d->max_values) return refuse(d, too_many);
  if (d->depth == 0) return 1;
  lua_Integer *count = &d->count[d->depth - 1];
  if (*count < 0)
    lua_rawset(d->L, -3);
  else
    lua_rawseti(d->L, -2, ++*count);
  return 1;
}

static int on_null(void *ctx) {
  struct decoder *d = ctx;
  lua_pushlightuserdata(d->L, NULL);
  return add_value(d);
}

static int on_boolean(void *ctx, int value) {
  struct decoder *d = ctx;
  lua_pushboolean(d->L, value);
  return add_value(d);
}

static int on_number(void *ctx, const char *s, size_t len) {
  struct decoder *d = ctx;
  if (!mp_json_push_number(d->L, s, len, d->flags)) {
    d->wrong = "the number has more than 1000 digits";
    d->at = d->fed + yajl_get_bytes_consumed(d->parser) - len;
    return 0;
  }
  return add_value(d);
}

static int on_string(void *ctx, const unsigned char *s, size_t len) {
  struct decoder *d = ctx;
  lua_pushlstring(d->L, (const char *)s, len);
  return add_value(d);
}

static int on_key(void *ctx, const unsigned char *s, size_t len) {
  struct decoder *d = ctx;
  lua_pushlstring(d->L, (const char *)s, len);
  lua_pushvalue(d->L, -1);
  if (lua_rawget(d->L, -3) != LUA_TNIL && !(d->flags & MP_JSON_LAST_WINS)) {
    int shown = len > 40 ? 40 : (int)mp_utf8_valid((const char *)s, len);
    snprintf(d->detail, sizeof d->detail, ": \"%.*s\"", shown, (const char *)s);
    return refuse(d, "a name occurs twice in one object");
  }
  lua_pop(d->L, 1);
  return 1;
}

static int open_container(struct decoder *d, lua_Integer count, int mark) {
  bool own = d->flags & MP_JSON_OWN;
  if (d->depth == (own ? MP_JSON_DEPTH_IN_ALL : MP_JSON_DEPTH))
    return refuse(d, own ? "nested deeper than 128 levels" : "nested deeper than 64 levels");
  d->count[d->depth++] = count;
  lua_newtable(d->L);
  if (mark) {
    lua_pushvalue(d->L, mark);
    lua_setmetatable(d->L, -2);
  }
  return 1;
}

static int on_start_map(void *ctx) {
  struct decoder *d = ctx;
  return open_container(d, -1, d->map_mark);
}

static int on_start_array(void *ctx) {
  struct decoder *d = ctx;
  return open_container(d, 0, d->array_mark);
}

static int on_end(void *ctx) {
  struct decoder *d = ctx;
  d->depth--;
  return add_value(d);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end,
};

/* yajl does not look whether malloc gave memory: raise, which the pcall around everything
 * catches. */
static void *need(lua_State *L, void *memory) {
  if (!memory) luaL_error(L, "not enough memory");
  return memory;
}

static void *parser_malloc(void *ctx, size_t n) { return need(ctx, malloc(n)); }
static void *parser_realloc(void *ctx, void *p, size_t n) { return need(ctx, realloc(p, n)); }
static void parser_free(void *ctx, void *p) {
  (void)ctx;
  free(p);
}

/* What yajl says, without its kind and line end. */
static void take_parser_error(struct decoder *d, char *msg, size_t size) {
  unsigned char *said = yajl_get_error(d->parser, 0, (const unsigned char *)d->text, d->len);
  const char *text = (const char *)said, *colon = strstr(text, ": ");
  if (colon) text = colon + 2;
  snprintf(msg, size, "%.*s", (int)strcspn(text, "\n"), text);
  yajl_free_error(d->parser, said);
}

/* Pushes the marks; the values are above them. */
static void begin(lua_State *L, struct decoder *d) {
  static const yajl_alloc_funcs functions = {parser_malloc, parser_realloc, parser_free, NULL};
  yajl_alloc_funcs alloc = functions;
  alloc.ctx = L;
  luaL_checkstack(L, 3 * MP_JSON_DEPTH_IN_ALL + 16, "JSON");
  d->L = L;
  bool raw = d->flags & MP_JSON_RAW;
  mp_json_push_mark(L, raw ? MP_JSON_RAW_ARRAY : MP_JSON_ARRAY);
  d->array_mark = lua_gettop(L);
  if (raw) {
    mp_json_push_mark(L, MP_JSON_RAW_OBJECT);
    d->map_mark = lua_gettop(L);
  }
  d->parser = yajl_alloc(&callbacks, &alloc, d);
  yajl_config(d->parser, yajl_dont_validate_strings, 1); /* scan() did, strictly */
}

/* Reads up to `n` bytes more, and the end behind the last ones. False: the text is refused. */
static bool feed(struct decoder *d, size_t n, char *msg, size_t size) {
  if (n > d->len - d->fed) n = d->len - d->fed;
  yajl_status status = yajl_parse(d->parser, (const unsigned char *)d->text + d->fed, n);
  if (status == yajl_status_ok) {
    d->fed += n;
    d->at = d->len;
    if (d->fed == d->len) status = yajl_complete_parse(d->parser);
  } else if (!d->wrong) {
    d->at = d->fed + yajl_get_bytes_consumed(d->parser); /* behind the byte that it refuses */
    if (d->at > 0) d->at--;
  }
  if (status == yajl_status_ok) return true;
  if (!d->wrong) take_parser_error(d, msg, size);
  return false;
}

static int run(lua_State *L) {
  struct decoder *d = lua_touserdata(L, 1);
  char *msg = lua_touserdata(L, 2);
  begin(L, d);
  return feed(d, d->len, msg, 128);
}

static int tell(struct decoder *d, const char *msg, struct mp_err *err) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < d->at && i < d->len; i++) {
    if (d->text[i] == '\n') {
      line++;
      column = 1;
    } else if (((unsigned char)d->text[i] & 0xC0) != 0x80) {
      column++;
    }
  }
  return mp_err_set(err, MP_EINVAL, "line %zu, column %zu: %s%s", line, column,
                    d->wrong ? d->wrong : msg, d->detail);
}

int mp_json_decode_max(lua_State *L, const char *text, size_t len, size_t max_bytes, unsigned flags,
                       struct mp_err *err) {
  struct decoder d = {.text = text, .len = len, .flags = flags};
  char msg[128] = "";
  if (max_bytes == 0) max_bytes = MP_JSON_MAX_BYTES;
  if (len > max_bytes)
    return mp_err_set(err, MP_EINVAL, "the JSON text has %zu bytes, the limit is %zu", len,
                      max_bytes);
  if (!scan(&d)) return tell(&d, msg, err);
  if (!lua_checkstack(L, 4)) return mp_err_set(err, MP_ENOMEM, "no room on the Lua stack for JSON");
  int top = lua_gettop(L);
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, &d);
  lua_pushlightuserdata(L, msg);
  int status = lua_pcall(L, 2, LUA_MULTRET, 0);
  if (d.parser) yajl_free(d.parser);
  if (status != LUA_OK) {
    lua_settop(L, top);
    return mp_err_set(err, MP_ENOMEM, "out of memory while reading JSON");
  }
  return lua_gettop(L) > top ? 0 : tell(&d, msg, err);
}

int mp_json_decode(lua_State *L, const char *text, size_t len, unsigned flags, struct mp_err *err) {
  return mp_json_decode_max(L, text, len, 0, flags, err);
}

/* ---- piece by piece ---- */

/* Of a text or number that is longer than a piece yajl reads all pieces so far anew with each:
 * then they are larger. */
enum { PIECE = 16 << 10, LARGE_PIECE = 64 << 10 };

struct reader {
  struct decoder d;
  struct mp_json_limits limits;
  bool in_token;      /* the last piece had no value's beginning or end */
  const char *column; /* whose value it is; NULL: json.decode */
  lua_KFunction k;    /* NULL: the value is what the C function returns */
  lua_KContext ctx;
};

static int reader_gc(lua_State *L) {
  struct reader *reader = lua_touserdata(L, 1);
  if (reader->d.parser) yajl_free(reader->d.parser);
  reader->d.parser = NULL;
  return 0;
}

static int refused(lua_State *L, struct reader *reader, const char *msg) {
  struct mp_err err;
  bool many = reader->d.wrong == too_many;
  tell(&reader->d, msg, &err);
  if (reader->column) return luaL_error(L, "column %s: %s", reader->column, err.msg);
  if (!many) return luaL_error(L, "json: %s", err.msg);
  mp_err_set(&err, MP_EINVAL, "the JSON text has more than %zu values", reader->limits.values);
  mp_luaerr_push(L, &err);
  lua_pushliteral(L, "CONTENT_TOO_LARGE");
  lua_setfield(L, -2, "code");
  lua_pushinteger(L, 413);
  lua_setfield(L, -2, "status");
  return lua_error(L);
}

static int read_on(lua_State *L, int status, lua_KContext ctx) {
  struct reader *reader = (struct reader *)ctx;
  char msg[128] = "";
  (void)status;
  do {
    size_t before = reader->d.values, piece = reader->in_token ? LARGE_PIECE : PIECE;
    if (!feed(&reader->d, piece, msg, sizeof msg)) return refused(L, reader, msg);
    reader->in_token = reader->d.values == before;
    if (reader->d.fed < reader->d.len && mp_task_slice_over(L))
      return mp_task_give_way(L, ctx, read_on);
  } while (reader->d.fed < reader->d.len);
  yajl_free(reader->d.parser);
  reader->d.parser = NULL;
  return reader->k ? reader->k(L, LUA_OK, reader->ctx) : 1;
}

static int begin_reading(lua_State *L, struct reader begun) {
  struct reader *reader = lua_newuserdatauv(L, sizeof *reader, 0);
  *reader = begun;
  if (luaL_newmetatable(L, "moonpool.json.reader")) {
    lua_pushcfunction(L, reader_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  if (!scan(&reader->d)) return refused(L, reader, "");
  begin(L, &reader->d);
  return read_on(L, LUA_OK, (lua_KContext)reader);
}

int mp_json_read(lua_State *L, const struct mp_json_limits *limits, unsigned flags) {
  size_t len, max_bytes = limits->bytes ? limits->bytes : MP_JSON_MAX_BYTES;
  const char *text = lua_tolstring(L, 1, &len);
  lua_settop(L, 1);
  if (len > max_bytes)
    return luaL_error(L, "json: the JSON text has %I bytes, the limit is %I", (lua_Integer)len,
                      (lua_Integer)max_bytes);
  return begin_reading(
      L,
      (struct reader){.d = {.text = text, .len = len, .flags = flags, .max_values = limits->values},
                      .limits = *limits});
}

int mp_json_read_column(lua_State *L, const char *column, const char *text, size_t len,
                        unsigned flags, lua_KContext ctx, lua_KFunction k) {
  if (len > MP_JSON_MAX_BYTES)
    return luaL_error(L, "column %s: the JSON text has %I bytes, the limit is %I", column,
                      (lua_Integer)len, (lua_Integer)MP_JSON_MAX_BYTES);
  return begin_reading(
      L,
      (struct reader){
          .d = {.text = text, .len = len, .flags = flags}, .column = column, .k = k, .ctx = ctx});
}
