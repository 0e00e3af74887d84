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
  if (digits < 4 || digits > 6 || len < digits + 6 || len - digits + 9 > size) return 0;
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

/* Array literals: PostgreSQL manual, 8.15.6. Returns the place behind the closing brace. */
static const char *push_array(lua_State *L, const struct mp_column *type, const char *at,
                              const char *column) {
  const char ends[] = {type->delimiter, '}', '\0'};
  luaL_checkstack(L, 6, "array too deep");
  lua_newtable(L);
  mp_json_set_mark(L, MP_JSON_ARRAY);
  lua_Integer n = 0;
  if (*at == '[') at = strchr(at, '=') + 1; /* explicit bounds: "[2:3]={...}" */
  at++;
  while (*at && *at != '}') {
    if (*at == '{') {
      at = push_array(L, type, at, column);
    } else if (*at == '"') {
      luaL_Buffer b;
      luaL_buffinit(L, &b);
      for (at++; *at && *at != '"'; at++) {
        if (*at == '\\') at++;
        luaL_addchar(&b, *at);
      }
      if (*at) at++;
      luaL_pushresult(&b);
      size_t len;
      const char *text = lua_tolstring(L, -1, &len);
      push_scalar(L, type->element, text, len, column);
      lua_remove(L, -2);
    } else {
      size_t len = strcspn(at, ends);
      if (len == 4 && !memcmp(at, "NULL", 4))
        lua_pushlightuserdata(L, NULL);
      else
        push_scalar(L, type->element, at, len, column);
      at += len;
    }
    lua_rawseti(L, -2, ++n);
    if (*at == type->delimiter) at++;
  }
  return *at ? at + 1 : at;
}

static void push_json(lua_State *L, const char *text, size_t len, const char *column) {
  struct mp_err err;
  if (mp_json_decode(L, text, len, MP_JSON_RAW | MP_JSON_LAST_WINS, &err))
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

void mp_value_push(lua_State *L, const struct mp_result *result, int row, int col) {
  const PGresult *pg = result->pg;
  if (PQgetisnull(pg, row, col)) {
    lua_pushnil(L);
    return;
  }
  struct mp_column type = mp_types_column(result, col);
  const char *text = PQgetvalue(pg, row, col);
  if ((*text == '{' || *text == '[') && type.element)
    push_array(L, &type, text, PQfname(pg, col));
  else
    push_scalar(L, type.type, text, (size_t)PQgetlength(pg, row, col), PQfname(pg, col));
}

void mp_value_json(lua_State *L, const struct mp_result *result, int row, int col,
                   struct mp_buf *out, unsigned flags) {
  const PGresult *pg = result->pg;
  const char *text = PQgetvalue(pg, row, col);
  size_t len = (size_t)PQgetlength(pg, row, col);
  char stamp[64];
  if (PQgetisnull(pg, row, col)) {
    mp_buf_adds(out, "null");
    return;
  }
  switch (mp_types_column(result, col).type) {
    case MP_OID_BOOL: mp_buf_adds(out, *text == 't' ? "true" : "false"); return;
    case MP_OID_INT2:
    case MP_OID_INT4:
    case MP_OID_INT8:
    case MP_OID_OID: mp_buf_add(out, text, len); return;
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
    case MP_OID_JSONB: /* the server's own canonical text */ mp_buf_add(out, text, len); return;
    default: break;
  }
  mp_value_push(L, result, row, col);
  if (lua_type(L, -1) == LUA_TSTRING) {
    text = lua_tolstring(L, -1, &len);
    mp_json_add_string(L, out, text, len);
  } else if (!mp_json_encode(L, -1, out, (flags & ~(unsigned)MP_JSON_CAMEL) | MP_JSON_SPECIALS)) {
    luaL_error(L, "not enough memory");
  }
  lua_pop(L, 1);
}
