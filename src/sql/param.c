#include "sql/param.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "sql/value.h"
#include "util/utf8.h"
#include "values/decimal.h"
#include "values/json.h"

/* The parameter that is being written. */
struct param {
  lua_State *L;
  Oid type;
  struct mp_column column;
  const char *name; /* without the $ */
  const char *what; /* the function that was called */
  struct mp_buf *out;
};

#define REFUSE(p, ...) mp_luaerr_misuse((p)->L, (p)->what, "$%s: " __VA_ARGS__)

static bool is_integer(Oid type) {
  return type == MP_OID_INT2 || type == MP_OID_INT4 || type == MP_OID_INT8 || type == MP_OID_OID;
}

static bool is_json(Oid type) { return type == MP_OID_JSON || type == MP_OID_JSONB; }

static void add_json(const struct param *p, int idx) {
  unsigned flags = p->type == MP_OID_JSONB ? MP_JSON_NO_NUL : 0;
  if (!mp_json_encode(p->L, idx, p->out, flags)) luaL_error(p->L, "not enough memory");
}

static void add_float(const struct param *p, int idx) {
  lua_Integer whole;
  char number[32];
  size_t n = mp_json_format_number(lua_tonumber(p->L, idx), number);
  if (!n) REFUSE(p, "NaN and infinity cannot be sent", p->name);
  if (!is_integer(p->type)) {
    mp_buf_add(p->out, number, n);
  } else if (lua_numbertointeger(lua_tonumber(p->L, idx), &whole) &&
             (lua_Number)whole == lua_tonumber(p->L, idx)) {
    mp_buf_addi(p->out, whole); /* 10 / 2 */
  } else {
    REFUSE(
        p,
        "the parameter is an integer, but the float has a fraction or does not fit into 64 bits: "
        "round it, for example with // or math.floor",
        p->name);
  }
}

static void add_decimal(const struct param *p, const char *text, size_t len) {
  const char *point = is_integer(p->type) ? memchr(text, '.', len) : NULL;
  if (point && strspn(point + 1, "0") != strlen(point + 1))
    REFUSE(p, "the parameter is an integer, but the decimal has a fraction: round it", p->name);
  mp_buf_add(p->out, text, point ? (size_t)(point - text) : len);
}

static void add_bytea(struct mp_buf *out, const char *bytes, size_t len) {
  static const char hex[] = "0123456789abcdef";
  mp_buf_adds(out, "\\x");
  for (size_t i = 0; i < len; i++) {
    mp_buf_addc(out, hex[(unsigned char)bytes[i] >> 4]);
    mp_buf_addc(out, hex[bytes[i] & 15]);
  }
}

/* Translates a year in ISO 8601's expanded form, as columns give it, to PostgreSQL's:
 * "-000043-03-15" -> "0044-03-15 BC". False: not in that form. */
static bool add_far_time(const struct param *p, const char *text, size_t len) {
  bool time =
      p->type == MP_OID_DATE || p->type == MP_OID_TIMESTAMP || p->type == MP_OID_TIMESTAMPTZ;
  size_t digits = len > 0 ? strspn(text + 1, "0123456789") : 0;
  if (!time || (*text != '+' && *text != '-') || digits < 6 || digits > 7 ||
      text[digits + 1] != '-')
    return false;
  long year = strtol(text, NULL, 10);
  mp_buf_addf(p->out, "%04ld", year > 0 ? year : 1 - year);
  mp_buf_add(p->out, text + digits + 1, len - digits - 1);
  if (year <= 0) mp_buf_adds(p->out, " BC");
  return true;
}

static void add_string(const struct param *p, int idx) {
  size_t len;
  const char *text = lua_tolstring(p->L, idx, &len);
  if (p->type == MP_OID_BYTEA) {
    add_bytea(p->out, text, len);
    return;
  }
  if (memchr(text, 0, len)) REFUSE(p, "text with a NUL byte cannot be stored", p->name);
  if (mp_utf8_valid(text, len) != len) REFUSE(p, "the text is not valid UTF-8", p->name);
  if (is_json(p->type))
    mp_json_add_string(p->L, p->out, text, len); /* JSON text is json.raw(text) */
  else if (!add_far_time(p, text, len))
    mp_buf_add(p->out, text, len);
}

/* ---- arrays: PostgreSQL manual, 8.15.6 ---- */

static void add_quoted(struct mp_buf *out, const char *text, size_t len) {
  mp_buf_addc(out, '"');
  for (size_t i = 0; i < len; i++) {
    if (text[i] == '"' || text[i] == '\\') mp_buf_addc(out, '\\');
    mp_buf_addc(out, text[i]);
  }
  mp_buf_addc(out, '"');
}

static void add_array(const struct param *p, int idx, int depth) {
  struct mp_column element = {.type = p->column.element};
  lua_State *L = p->L;
  idx = lua_absindex(L, idx);
  if (depth > 6) REFUSE(p, "an array of more than 6 dimensions", p->name);
  luaL_checkstack(L, 4, "array too deep");
  lua_Integer n = (lua_Integer)lua_rawlen(L, idx), keys = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) keys++;
  if (keys != n) REFUSE(p, "a list is needed, without holes and without names", p->name);
  mp_buf_addc(p->out, '{');
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1) mp_buf_addc(p->out, p->column.delimiter);
    lua_rawgeti(L, idx, i);
    if (lua_type(L, -1) == LUA_TTABLE && !is_json(element.type)) {
      add_array(p, -1, depth + 1);
    } else {
      size_t room = p->out->max ? p->out->max - p->out->len : 0;
      struct mp_buf *item = mp_json_buf_new(L, p->out->max ? room + 1 : 0);
      bool needs_type = false;
      if (mp_param_add(L, -2, element, p->name, item, &needs_type, p->what))
        add_quoted(p->out, mp_buf_text(item), item->len);
      else
        mp_buf_adds(p->out, "NULL");
      if (item->failed) p->out->failed = true; /* an incomplete value must not be sent */
      mp_buf_fini(item);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  mp_buf_addc(p->out, '}');
}

static void add_table(const struct param *p, int idx) {
  if (p->column.element)
    add_array(p, idx, 1);
  else if (is_json(p->type))
    add_json(p, idx);
  else
    REFUSE(p, "a table can be sent as json, jsonb or an array, and the parameter is neither",
           p->name);
}

/* A decimal, or a value that can write itself as JSON: a row, json.raw(text). */
static bool add_userdata(const struct param *p, int idx) {
  size_t len;
  const char *text = mp_decimal_peek(p->L, idx, &len);
  if (text && !is_json(p->type)) {
    add_decimal(p, text, len);
    return true;
  }
  if (text) {
    add_json(p, idx);
    return true;
  }
  if (luaL_getmetafield(p->L, idx, "__json") == LUA_TNIL) return false;
  lua_pop(p->L, 1);
  add_json(p, idx);
  return true;
}

bool mp_param_add(lua_State *L, int idx, struct mp_column column, const char *name,
                  struct mp_buf *out, bool *needs_type, const char *what) {
  Oid type = column.type;
  struct param p = {.L = L, .type = type, .column = column, .name = name, .what = what, .out = out};
  idx = lua_absindex(L, idx);
  switch (lua_type(L, idx)) {
    case LUA_TNIL: return false;
    case LUA_TLIGHTUSERDATA:
      if (!lua_touserdata(L, idx)) return false;
      break;
    case LUA_TBOOLEAN: mp_buf_adds(out, lua_toboolean(L, idx) ? "true" : "false"); return true;
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx))
        mp_buf_addi(out, lua_tointeger(L, idx));
      else if (type)
        add_float(&p, idx);
      *needs_type |= !type && !lua_isinteger(L, idx);
      return true;
    case LUA_TSTRING:
      if (type) add_string(&p, idx);
      *needs_type |= !type;
      return true;
    case LUA_TTABLE:
      if (type) add_table(&p, idx);
      *needs_type |= !type;
      return true;
    case LUA_TUSERDATA:
      *needs_type |= !type;
      if (!type || add_userdata(&p, idx)) return true;
      break;
    default: break;
  }
  mp_luaerr_misuse(L, what, "$%s: a %s cannot be sent to the database", name,
                   luaL_typename(L, idx));
}
