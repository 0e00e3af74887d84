#include "bind/value.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/decimal.h"
#include "bind/json.h"
#include "script/luaerr.h"

static const struct {
  Oid array, element;
} array_types[] = {
    {1000, 16},   {1001, 17},   {1005, 21},  {1007, 23},   {1016, 20},   {1009, 25},   {1014, 1042},
    {1015, 1043}, {1021, 700},  {1022, 701}, {1028, 26},   {1115, 1114}, {1182, 1082}, {1185, 1184},
    {1231, 1700}, {2951, 2950}, {199, 114},  {3807, 3802}, {1003, 19},
};

Oid mp_array_element(Oid type) {
  for (size_t i = 0; i < MP_ARRAY_LEN(array_types); i++)
    if (array_types[i].array == type) return array_types[i].element;
  return 0;
}

/* ---- server text -> Lua ---- */

static void push_scalar(lua_State *L, Oid type, const char *text, size_t len, const char *column);

/* "2026-11-23 18:09:27.5+00" -> "2026-11-23T18:09:27.5Z"; the session's time zone is UTC. */
static size_t iso_timestamp(const char *text, size_t len, char *out, size_t size) {
  if (len + 2 > size || len < 19 || text[10] != ' ') return 0;
  memcpy(out, text, len);
  out[10] = 'T';
  if (len > 3 && !memcmp(text + len - 3, "+00", 3)) {
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
static const char *push_array(lua_State *L, Oid element, const char *at, const char *column) {
  luaL_checkstack(L, 6, "array too deep");
  lua_newtable(L);
  mp_json_set_mark(L, MP_JSON_ARRAY);
  lua_Integer n = 0;
  if (*at == '[') at = strchr(at, '=') + 1; /* explicit bounds: "[2:3]={...}" */
  at++;
  while (*at && *at != '}') {
    if (*at == '{') {
      at = push_array(L, element, at, column);
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
      push_scalar(L, element, text, len, column);
      lua_remove(L, -2);
    } else {
      size_t len = strcspn(at, ",}");
      if (len == 4 && !memcmp(at, "NULL", 4))
        lua_pushlightuserdata(L, NULL);
      else
        push_scalar(L, element, at, len, column);
      at += len;
    }
    lua_rawseti(L, -2, ++n);
    if (*at == ',') at++;
  }
  return *at ? at + 1 : at;
}

static void push_json(lua_State *L, const char *text, size_t len, const char *column) {
  struct mp_err err;
  if (mp_json_decode(L, text, len, MP_JSON_RAW, &err))
    luaL_error(L, "column %s: %s", column, err.msg);
}

/* `text` is terminated by the server's answer or by a separator; numbers end there. */
static void push_scalar(lua_State *L, Oid type, const char *text, size_t len, const char *column) {
  char stamp[48];
  switch (type) {
    case MP_OID_BOOL: lua_pushboolean(L, *text == 't'); return;
    case MP_OID_INT2:
    case MP_OID_INT4:
    case MP_OID_INT8:
    case MP_OID_OID: lua_pushinteger(L, strtoll(text, NULL, 10)); return;
    case MP_OID_FLOAT4:
    case MP_OID_FLOAT8: lua_pushnumber(L, strtod(text, NULL)); return;
    case MP_OID_NUMERIC: {
      const char *fault = mp_decimal_try_push(L, text, len);
      if (fault) luaL_error(L, "column %s: %s", column, fault);
      return;
    }
    case MP_OID_JSON:
    case MP_OID_JSONB: push_json(L, text, len, column); return;
    case MP_OID_BYTEA: push_bytea(L, text, len, column); return;
    case MP_OID_TIMESTAMP:
    case MP_OID_TIMESTAMPTZ: {
      size_t n = iso_timestamp(text, len, stamp, sizeof stamp);
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

void mp_value_push(lua_State *L, const PGresult *pg, int row, int col) {
  if (PQgetisnull(pg, row, col)) {
    lua_pushnil(L);
    return;
  }
  Oid type = PQftype(pg, col), element;
  const char *text = PQgetvalue(pg, row, col);
  if ((*text == '{' || *text == '[') && (element = mp_array_element(type)) != 0)
    push_array(L, element, text, PQfname(pg, col));
  else
    push_scalar(L, type, text, (size_t)PQgetlength(pg, row, col), PQfname(pg, col));
}

void mp_value_json(lua_State *L, const PGresult *pg, int row, int col, struct mp_buf *out,
                   unsigned flags) {
  const char *text = PQgetvalue(pg, row, col);
  size_t len = (size_t)PQgetlength(pg, row, col);
  char stamp[48];
  if (PQgetisnull(pg, row, col)) {
    mp_buf_adds(out, "null");
    return;
  }
  switch (PQftype(pg, col)) {
    case MP_OID_BOOL: mp_buf_adds(out, *text == 't' ? "true" : "false"); return;
    case MP_OID_INT2:
    case MP_OID_INT4:
    case MP_OID_INT8:
    case MP_OID_OID: mp_buf_add(out, text, len); return;
    case MP_OID_NUMERIC:
      if (flags & MP_JSON_DECIMAL_STRINGS)
        mp_json_add_string(L, out, text, len);
      else
        mp_buf_add(out, text, len);
      return;
    case MP_OID_TIMESTAMP:
    case MP_OID_TIMESTAMPTZ: {
      size_t n = iso_timestamp(text, len, stamp, sizeof stamp);
      mp_json_add_string(L, out, n ? stamp : text, n ? n : len);
      return;
    }
    case MP_OID_JSONB: /* the server's own canonical text */ mp_buf_add(out, text, len); return;
    default: break;
  }
  mp_value_push(L, pg, row, col);
  if (lua_type(L, -1) == LUA_TSTRING) {
    text = lua_tolstring(L, -1, &len);
    mp_json_add_string(L, out, text, len);
  } else if (!mp_json_encode(L, -1, out, flags & ~(unsigned)MP_JSON_CAMEL)) {
    luaL_error(L, "not enough memory");
  }
  lua_pop(L, 1);
}

/* ---- Lua -> parameter text ---- */

static void add_array_text(struct mp_buf *out, const char *text, size_t len) {
  mp_buf_addc(out, '"');
  for (size_t i = 0; i < len; i++) {
    if (text[i] == '"' || text[i] == '\\') mp_buf_addc(out, '\\');
    mp_buf_addc(out, text[i]);
  }
  mp_buf_addc(out, '"');
}

static void add_array(lua_State *L, int idx, Oid element, const char *name, struct mp_buf *out,
                      const char *what, int depth) {
  idx = lua_absindex(L, idx);
  if (depth > 6) mp_luaerr_misuse(L, what, "$%s: an array of more than 6 dimensions", name);
  luaL_checkstack(L, 4, "array too deep");
  lua_Integer n = (lua_Integer)lua_rawlen(L, idx), keys = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) keys++;
  if (keys != n)
    mp_luaerr_misuse(L, what, "$%s: a list is needed, without holes and without names", name);
  mp_buf_addc(out, '{');
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1) mp_buf_addc(out, ',');
    lua_rawgeti(L, idx, i);
    if (lua_type(L, -1) == LUA_TTABLE && element != MP_OID_JSON && element != MP_OID_JSONB) {
      add_array(L, -1, element, name, out, what, depth + 1);
    } else {
      struct mp_buf *item = mp_json_buf_new(L, 0);
      bool needs_type = false;
      if (mp_param_add(L, -2, element, name, item, &needs_type, what))
        add_array_text(out, mp_buf_text(item), item->len);
      else
        mp_buf_adds(out, "NULL");
      mp_buf_fini(item);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  mp_buf_addc(out, '}');
}

static void add_bytea(struct mp_buf *out, const char *bytes, size_t len) {
  static const char hex[] = "0123456789abcdef";
  mp_buf_adds(out, "\\x");
  for (size_t i = 0; i < len; i++) {
    mp_buf_addc(out, hex[(unsigned char)bytes[i] >> 4]);
    mp_buf_addc(out, hex[bytes[i] & 15]);
  }
}

bool mp_param_add(lua_State *L, int idx, Oid type, const char *name, struct mp_buf *out,
                  bool *needs_type, const char *what) {
  size_t len;
  const char *text;
  char number[32];
  idx = lua_absindex(L, idx);
  switch (lua_type(L, idx)) {
    case LUA_TNIL: return false;
    case LUA_TLIGHTUSERDATA:
      if (!lua_touserdata(L, idx)) return false;
      break;
    case LUA_TBOOLEAN: mp_buf_adds(out, lua_toboolean(L, idx) ? "true" : "false"); return true;
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx)) {
        mp_buf_addi(out, lua_tointeger(L, idx));
      } else {
        size_t n = mp_json_format_number(lua_tonumber(L, idx), number);
        if (!n) mp_luaerr_misuse(L, what, "$%s: NaN and infinity cannot be sent", name);
        mp_buf_add(out, number, n);
      }
      return true;
    case LUA_TSTRING:
      text = lua_tolstring(L, idx, &len);
      if (type == MP_OID_BYTEA) {
        add_bytea(out, text, len);
        return true;
      }
      /* Only a bytea reads a backslash as more than itself. */
      if (!type && memchr(text, '\\', len)) {
        *needs_type = true;
        return true;
      }
      if (memchr(text, 0, len)) {
        if (!type)
          *needs_type = true; /* it may be a bytea */
        else
          mp_luaerr_misuse(L, what, "$%s: text with a NUL byte cannot be stored", name);
        return true;
      }
      if (mp_json_valid_utf8(text, len) != len) {
        if (!type)
          *needs_type = true;
        else
          mp_luaerr_misuse(L, what, "$%s: the text is not valid UTF-8", name);
        return true;
      }
      mp_buf_add(out, text, len);
      return true;
    case LUA_TTABLE:
      if (type && mp_array_element(type)) {
        add_array(L, idx, mp_array_element(type), name, out, what, 1);
        return true;
      }
      if (!type) {
        *needs_type = true;
        return true;
      }
      if (type != MP_OID_JSON && type != MP_OID_JSONB)
        mp_luaerr_misuse(
            L, what,
            "$%s: a table can be sent as json, jsonb or an array, and the parameter is neither",
            name);
      if (!mp_json_encode(L, idx, out, 0)) luaL_error(L, "not enough memory");
      return true;
    case LUA_TUSERDATA:
      if ((text = mp_decimal_peek(L, idx, &len))) {
        mp_buf_add(out, text, len);
        return true;
      }
      if (luaL_getmetafield(L, idx, "__json") != LUA_TNIL) { /* a row, as json */
        lua_pop(L, 1);
        if (!mp_json_encode(L, idx, out, 0)) luaL_error(L, "not enough memory");
        return true;
      }
      break;
    default: break;
  }
  mp_luaerr_misuse(L, what, "$%s: a %s cannot be sent to the database", name,
                   luaL_typename(L, idx));
}
