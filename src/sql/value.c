#include "sql/value.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "sql/types.h"
#include "values/decimal.h"
#include "values/json.h"

static void push_scalar(lua_State *L, Oid type, const char *text, size_t len, const char *column);

/* "2026-11-23 18:09:27.5+00" -> "2026-11-23T18:09:27.5Z"; the session's time zone is UTC. Years
 * that have not four digits as ISO 8601's expanded form has them: "10000-01-01" -> "+010000-01-01",
 * "0044-03-15 BC" -> "-000043-03-15". 0: neither
 * ("infinity"). */
static size_t iso_time(const char *text, size_t len, char *out, size_t size) {
  size_t digits = strspn(text, "0123456789");
  bool bc = len > 3 && !memcmp(text + len - 3, " BC", 3);
  if (bc) len -= 3;
  if (digits < 4 || digits > 7 || len < digits + 6 || len - digits + 9 > size) return 0;
  long year = strtol(text, NULL, 10);
  int n = snprintf(out, size, !bc && digits == 4 ? "%04ld" : "%+07ld", bc ? 1 - year : year);
  memcpy(out + n, text + digits, len - digits);
  if (len > digits + 6) out[n + 6] = 'T';
  len += (size_t)n - digits;
  if (!memcmp(out + len - 3, "+00", 3)) {
    len -= 2;
    out[len - 1] = 'Z';
  }
  return len;
}

static unsigned hex_digit(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

static void push_bytea(lua_State *L, const char *text, size_t len, const char *column) {
  if (len < 2 || text[0] != '\\' || text[1] != 'x' || len % 2)
    luaL_error(L, "column %s: bytea in an unknown form (is bytea_output not hex?)", column);
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, len / 2);
  size_t n = 0;
  for (size_t i = 2; i + 1 < len; i += 2)
    out[n++] = (char)(unsigned char)(hex_digit(text[i]) << 4 | hex_digit(text[i + 1]));
  luaL_pushresultsize(&b, n);
}

/* ---- array literals: PostgreSQL manual, 8.15.6 ---- */

struct item {
  const char *text; /* ends where it ends, or at `len`: numbers end there by themselves */
  size_t len;
};

enum part { OPEN, CLOSE, NONE, ITEM };

static const char *array_start(const char *text) {
  return *text == '[' ? strchr(text, '=') + 1 : text; /* explicit bounds: "[2:3]={...}" */
}

static size_t quoted_length(const char *text, bool *escaped) {
  size_t len = 0;
  for (*escaped = false; text[len] && text[len] != '"'; len++)
    if (text[len] == '\\' && text[len + 1]) {
      *escaped = true;
      len++;
    }
  return len;
}

/* Reads on from `at`. An item with escapes is pushed, without them. */
static enum part next_part(lua_State *L, const char **at, char delimiter, struct item *item) {
  const char ends[] = {delimiter, '}', '\0'};
  if (**at == delimiter) ++*at;
  if (**at == '{') return ++*at, OPEN;
  if (**at == '}') return ++*at, CLOSE;
  if (**at == '\0') return CLOSE;
  if (**at != '"') {
    *item = (struct item){*at, strcspn(*at, ends)};
    *at += item->len;
    return item->len == 4 && !memcmp(item->text, "NULL", 4) ? NONE : ITEM;
  }
  bool escaped;
  *item = (struct item){*at + 1, quoted_length(*at + 1, &escaped)};
  *at += item->len + 2;
  if (!escaped) return ITEM;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < item->len; i++) {
    if (item->text[i] == '\\') i++;
    luaL_addchar(&b, item->text[i]);
  }
  luaL_pushresult(&b);
  item->text = lua_tolstring(L, -1, &item->len);
  return ITEM;
}

/* Returns the place behind the closing brace. */
static const char *push_array(lua_State *L, const struct mp_column *type, const char *at,
                              const char *column) {
  struct item item;
  enum part part;
  lua_Integer n = 0;
  luaL_checkstack(L, 6, "array too deep");
  lua_newtable(L);
  mp_json_set_mark(L, MP_JSON_ARRAY);
  int table = lua_gettop(L);
  while ((part = next_part(L, &at, type->delimiter, &item)) != CLOSE) {
    if (part == OPEN)
      at = push_array(L, type, at, column);
    else if (part == NONE)
      lua_pushlightuserdata(L, NULL);
    else
      push_scalar(L, type->element, item.text, item.len, column);
    lua_rawseti(L, table, ++n);
    lua_settop(L, table);
  }
  return at;
}

enum { JSON_FLAGS = MP_JSON_RAW | MP_JSON_DECIMALS, LONG_JSON = 16 << 10 };

static void push_json(lua_State *L, const char *text, size_t len, const char *column) {
  struct mp_err err;
  if (mp_json_decode(L, text, len, JSON_FLAGS | MP_JSON_LAST_WINS, &err))
    luaL_error(L, "column %s: %s", column, err.msg);
}

/* `text` is terminated by the server's answer or by a separator; numbers end there. */
static void push_scalar(lua_State *L, Oid type, const char *text, size_t len, const char *column) {
  char stamp[64];
  switch (type) {
    case MP_OID_BOOL: lua_pushboolean(L, *text == 't'); return;
    case MP_OID_INT2:
    case MP_OID_INT4:
    case MP_OID_INT8:
    case MP_OID_OID: lua_pushinteger(L, strtoll(text, NULL, 10)); return;
    case MP_OID_FLOAT4:
    case MP_OID_FLOAT8: lua_pushnumber(L, strtod(text, NULL)); return;
    case MP_OID_NUMERIC: {
      const char *fault = mp_decimal_try_push_column(L, text, len);
      if (fault) luaL_error(L, "column %s: %s", column, fault);
      return;
    }
    case MP_OID_JSON:
    case MP_OID_JSONB: push_json(L, text, len, column); return;
    case MP_OID_BYTEA: push_bytea(L, text, len, column); return;
    case MP_OID_DATE:
    case MP_OID_TIMESTAMP:
    case MP_OID_TIMESTAMPTZ: {
      size_t n = iso_time(text, len, stamp, sizeof stamp);
      if (n)
        lua_pushlstring(L, stamp, n);
      else
        lua_pushlstring(L, text, len);
      return;
    }
    default: break;
  }
  lua_pushlstring(L, text, len);
}

/* Is it the literal of an array? */
static bool is_array(const struct mp_column *type, const char *text) {
  return type->element && (*text == '{' || *text == '[');
}

void mp_value_push(lua_State *L, const struct mp_result *result, int row, int col) {
  const PGresult *pg = result->pg;
  if (PQgetisnull(pg, row, col)) {
    lua_pushnil(L);
    return;
  }
  struct mp_column type = mp_types_column(result, col);
  const char *text = PQgetvalue(pg, row, col);
  if (is_array(&type, text))
    push_array(L, &type, array_start(text) + 1, PQfname(pg, col));
  else
    push_scalar(L, type.type, text, (size_t)PQgetlength(pg, row, col), PQfname(pg, col));
}

int mp_value_read(lua_State *L, const struct mp_result *result, int row, int col, lua_KContext ctx,
                  lua_KFunction k) {
  const PGresult *pg = result->pg;
  Oid type = mp_types_column(result, col).type;
  size_t len = (size_t)PQgetlength(pg, row, col);
  if ((type == MP_OID_JSON || type == MP_OID_JSONB) && len > LONG_JSON)
    return mp_json_read_column(L, PQfname(pg, col), PQgetvalue(pg, row, col), len,
                               JSON_FLAGS | MP_JSON_LAST_WINS, ctx, k);
  mp_value_push(L, result, row, col);
  return k(L, LUA_OK, ctx);
}

/* ---- as JSON ---- */

/* NaN and infinities as PostgreSQL spells them. */
static void float_json(struct mp_buf *out, const char *text) {
  char number[32];
  size_t len = mp_json_format_number(strtod(text, NULL), number);
  if (len)
    mp_buf_add(out, number, len);
  else
    mp_buf_addf(out, "\"%s\"", *text == '-' ? "-Infinity" : *text == 'I' ? "Infinity" : "NaN");
}

/* One byte, which may be any but NUL: as PostgreSQL 16 writes it. */
static void char_json(lua_State *L, const char *text, size_t len, struct mp_buf *out) {
  char octal[8];
  if (len == 1 && (unsigned char)*text >= 0x80) {
    len = (size_t)snprintf(octal, sizeof octal, "\\%03o", (unsigned)(unsigned char)*text);
    text = octal;
  }
  mp_json_add_string(L, out, text, len);
}

/* The same document; but of a name that comes twice, which jsonb and scripts do not know, the last
 * one. A text that Lua values cannot hold is copied. */
static void json_json(lua_State *L, const char *text, size_t len, struct mp_buf *out) {
  struct mp_err err;
  int top = lua_gettop(L);
  if (mp_json_decode(L, text, len, JSON_FLAGS, &err) == 0 ||
      mp_json_decode(L, text, len, JSON_FLAGS | MP_JSON_LAST_WINS, &err) != 0)
    mp_buf_add(out, text, len);
  else if (!mp_json_encode(L, -1, out, 0))
    luaL_error(L, "not enough memory");
  lua_settop(L, top);
}

static void scalar_json(lua_State *L, Oid type, const char *text, size_t len, struct mp_buf *out,
                        unsigned flags) {
  char stamp[64];
  switch (type) {
    case MP_OID_BOOL: mp_buf_adds(out, *text == 't' ? "true" : "false"); return;
    case MP_OID_INT2:
    case MP_OID_INT4:
    case MP_OID_INT8:
    case MP_OID_OID: mp_buf_add(out, text, len); return;
    case MP_OID_FLOAT4:
    case MP_OID_FLOAT8: float_json(out, text); return;
    case MP_OID_NUMERIC:
      if (flags & MP_JSON_DECIMAL_STRINGS || mp_decimal_text_special(text, len))
        mp_json_add_string(L, out, text, len);
      else
        mp_buf_add(out, text, len);
      return;
    case MP_OID_DATE:
    case MP_OID_TIMESTAMP:
    case MP_OID_TIMESTAMPTZ: {
      size_t n = iso_time(text, len, stamp, sizeof stamp);
      mp_json_add_string(L, out, n ? stamp : text, n ? n : len);
      return;
    }
    case MP_OID_JSON: json_json(L, text, len, out); return;
    case MP_OID_JSONB: mp_buf_add(out, text, len); return; /* the server's own canonical text */
    case MP_OID_CHAR: char_json(L, text, len, out); return;
    default: break; /* bytea too: \x and hex digits */
  }
  mp_json_add_string(L, out, text, len);
}

static void array_json(lua_State *L, const struct mp_column *type, const char *text,
                       struct mp_buf *out, unsigned flags) {
  const char *at = array_start(text);
  int depth = 0, top = lua_gettop(L);
  bool first = true;
  struct item item;
  do {
    enum part part = next_part(L, &at, type->delimiter, &item);
    if (!first && part != CLOSE) mp_buf_addc(out, ',');
    first = part == OPEN;
    switch (part) {
      case OPEN: mp_buf_addc(out, '['), depth++; break;
      case CLOSE: mp_buf_addc(out, ']'), depth--; break;
      case NONE: mp_buf_adds(out, "null"); break;
      case ITEM: scalar_json(L, type->element, item.text, item.len, out, flags);
    }
    lua_settop(L, top);
  } while (depth > 0);
}

void mp_value_json(lua_State *L, const struct mp_result *result, int row, int col,
                   struct mp_buf *out, unsigned flags) {
  const PGresult *pg = result->pg;
  const char *text = PQgetvalue(pg, row, col);
  struct mp_column type = mp_types_column(result, col);
  if (PQgetisnull(pg, row, col))
    mp_buf_adds(out, "null");
  else if (is_array(&type, text))
    array_json(L, &type, text, out, flags);
  else
    scalar_json(L, type.type, text, (size_t)PQgetlength(pg, row, col), out, flags);
}
