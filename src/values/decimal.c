/* decimal.c: decimals as Lua values. The text is the value; `struct mp_num` is its unpacked form,
 * on the C stack. Every operand is bounded before it gets to libpgtypes (1e200000000 + 1 would take
 * 193 MB). */
#include "values/decimal.h"

#include <lauxlib.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/attr.h"
#include "values/decimal_calc.h"

#define TYPE_NAME "moonpool.decimal"

enum {
  DIV_SIG_DIGITS = 20, /* what a quotient has at least; the server gives 16 to 20 */
  POW_SIG_DIGITS = 30, /* what a negative power has at least */
};

struct mp_decimal {
  size_t len;
  bool from_json;
  char text[];
};

static const char *const mode_names[] = {"half_up", "half_even", "down", "up",
                                         "floor",   "ceil",      NULL};

static const char metatable_key; /* its address is the registry's key */

/* ---- Lua values ---- */

static struct mp_decimal *test_decimal(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same ? lua_touserdata(L, idx) : NULL;
}

static struct mp_decimal *push_blank(lua_State *L, size_t len) {
  struct mp_decimal *d = lua_newuserdatauv(L, sizeof *d + len + 1, 0);
  d->len = len;
  d->from_json = false;
  d->text[len] = '\0';
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key) == LUA_TNIL) { /* nobody required it yet */
    mp_open_decimal(L);
    lua_pop(L, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
  }
  lua_setmetatable(L, -2);
  return d;
}

static int push_num(lua_State *L, const struct mp_num *v) {
  if (!mp_num_in_bounds(v))
    return luaL_error(L, "decimal: the result has %s; round the operands first", mp_num_too_big);
  struct mp_decimal *d = push_blank(L, mp_num_format(v, NULL));
  mp_num_format(v, d->text);
  return 1;
}

/* Canonical: what mp_num_format() would write, so that a copy is enough. */
static bool is_canonical(const char *text, size_t len) {
  size_t i = len > 0 && text[0] == '-', start = i;
  bool nonzero = false;
  if (len > MP_DECIMAL_DIGITS || i >= len || !mp_num_is_digit(text[i])) return false;
  if (text[i] == '0' && i + 1 < len && text[i + 1] != '.') return false;
  for (; i < len && mp_num_is_digit(text[i]); i++) nonzero |= text[i] != '0';
  if (i < len) {
    if (text[i++] != '.' || i == len) return false;
    for (; i < len && mp_num_is_digit(text[i]); i++) nonzero |= text[i] != '0';
  }
  return i == len && (start == 0 || nonzero);
}

const char *mp_decimal_try_push(lua_State *L, const char *text, size_t len) {
  if (is_canonical(text, len)) {
    memcpy(push_blank(L, len)->text, text, len);
    return NULL;
  }
  struct mp_num v;
  const char *wrong = mp_num_parse(&v, text, len);
  if (!wrong) push_num(L, &v);
  return wrong;
}

const char *mp_decimal_try_push_json(lua_State *L, const char *text, size_t len) {
  const char *wrong = mp_decimal_try_push(L, text, len);
  if (!wrong) ((struct mp_decimal *)lua_touserdata(L, -1))->from_json = true;
  return wrong;
}

const char *mp_decimal_try_push_column(lua_State *L, const char *text, size_t len) {
  if (!mp_num_special(text, len)) return mp_decimal_try_push(L, text, len);
  memcpy(push_blank(L, len)->text, text, len);
  return NULL;
}

bool mp_decimal_text_special(const char *text, size_t len) {
  return mp_num_special(text, len) != 0;
}

static int raise_malformed(lua_State *L, const char *text, size_t len, const char *wrong) {
  lua_pushlstring(L, text, len > 40 ? 40 : len);
  return luaL_error(L, "decimal: %s: \"%s%s\"", wrong, lua_tostring(L, -1), len > 40 ? "..." : "");
}

void mp_decimal_push(lua_State *L, const char *text, size_t len) {
  const char *wrong = mp_decimal_try_push(L, text, len);
  if (wrong) raise_malformed(L, text, len, wrong);
}

bool mp_decimal_is(lua_State *L, int idx) { return test_decimal(L, idx) != NULL; }

bool mp_decimal_from_json(lua_State *L, int idx) {
  struct mp_decimal *d = test_decimal(L, idx);
  return d && d->from_json;
}

const char *mp_decimal_peek(lua_State *L, int idx, size_t *len) {
  struct mp_decimal *d = test_decimal(L, idx);
  if (d && len) *len = d->len;
  return d ? d->text : NULL;
}

const char *mp_decimal_text(lua_State *L, int idx, size_t *len) {
  struct mp_decimal *d = test_decimal(L, idx);
  if (d && len) *len = d->len;
  return d ? lua_pushlstring(L, d->text, d->len) : NULL;
}

/* The operand at `idx`: a decimal or an integer, else a Lua error. */
static void check_operand(lua_State *L, int idx, struct mp_num *v) {
  struct mp_decimal *d = test_decimal(L, idx);
  if (d && mp_num_special(d->text, d->len))
    luaL_error(L, "decimal: %s cannot be used in a calculation; test it with value:is_finite()",
               d->text);
  if (d) {
    mp_num_parse(v, d->text, d->len);
  } else if (lua_isinteger(L, idx) && lua_type(L, idx) == LUA_TNUMBER) {
    mp_num_from_integer(v, lua_tointeger(L, idx));
  } else if (lua_type(L, idx) == LUA_TNUMBER) {
    luaL_error(
        L, "decimal: %f is a float, and floats are not exact; use an integer or decimal(\"...\")",
        lua_tonumber(L, idx));
  } else {
    luaL_error(L, "decimal: expected a decimal or an integer, got %s", luaL_typename(L, idx));
  }
}

static int check_places(lua_State *L, int idx) {
  lua_Integer places = luaL_checkinteger(L, idx);
  luaL_argcheck(L, places >= -MP_DECIMAL_DIGITS && places < MP_DECIMAL_DIGITS, idx,
                "places must lie between -1000 and 999");
  return (int)places;
}

/* ---- arithmetic ---- */

static int l_add(lua_State *L) {
  struct mp_num a, b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  mp_calc(L, PGTYPESnumeric_add, &a, &b, &a);
  return push_num(L, &a);
}

static int l_sub(lua_State *L) {
  struct mp_num a, b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  mp_calc(L, PGTYPESnumeric_sub, &a, &b, &a);
  return push_num(L, &a);
}

static int l_mul(lua_State *L) {
  struct mp_num a, b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  mp_calc(L, PGTYPESnumeric_mul, &a, &b, &a);
  return push_num(L, &a);
}

static int l_operator_div(lua_State *L) {
  struct mp_num a, b, q;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  /* one more place than the weights say: the first digit of the quotient may lie one lower */
  bool lower = a.n.ndigits > 0 && b.n.ndigits > 0 && a.digits[0] <= b.digits[0];
  mp_calc_divide(L, &a, &b, mp_calc_places(&a, &b, DIV_SIG_DIGITS - 1 + lower), MP_NUM_HALF_UP, &q);
  return push_num(L, &q);
}

static int l_div(lua_State *L) {
  struct mp_num a, b, q;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  int places = check_places(L, 3);
  mp_calc_divide(L, &a, &b, places, (enum mp_num_mode)luaL_checkoption(L, 4, "half_up", mode_names),
                 &q);
  return push_num(L, &q);
}

static lua_Integer check_exponent(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TNUMBER || !lua_isinteger(L, idx))
    luaL_error(L, "decimal: the exponent of a power must be an integer");
  lua_Integer n = lua_tointeger(L, idx);
  if (n > 1000000 || n < -1000000)
    luaL_error(L, "decimal: the exponent lies outside -1000000 .. 1000000");
  return n;
}

static int l_operator_pow(lua_State *L) {
  struct mp_num a, p, q;
  check_operand(L, 1, &a);
  lua_Integer n = check_exponent(L, 2);
  if (!mp_num_power(&a, (uint64_t)(n < 0 ? -n : n), &p)) mp_calc_too_big(L);
  if (n >= 0) return push_num(L, &p);
  mp_num_from_integer(&a, 1);
  mp_calc_divide(L, &a, &p, mp_calc_places(&a, &p, POW_SIG_DIGITS), MP_NUM_HALF_UP, &q);
  return push_num(L, &q);
}

/* base:pow(n, places): rounded at the end; the steps carry so many more digits that their errors
 * stay far below the last place. A step's error e grows to about n * |base|^n * e; a reciprocal
 * squares it. */
static int l_pow(lua_State *L) {
  struct mp_num a, p, q;
  check_operand(L, 1, &a);
  lua_Integer n = check_exponent(L, 2);
  int places = check_places(L, 3);
  enum mp_num_mode mode = (enum mp_num_mode)luaL_checkoption(L, 4, "half_up", mode_names);
  luaL_argcheck(L, places >= 0, 3, "places must not be negative");
  double lead = 0;
  for (int i = 0; i < 16 && i < a.n.ndigits; i++) lead += a.digits[i] * pow(10, -i);
  double magnitude = a.n.ndigits ? (log10(lead) + a.n.weight) * (double)(n < 0 ? -n : n) : 0;
  double extra = n < 0 ? 2 * fabs(magnitude) : magnitude > 0 ? magnitude : 0;
  if (extra + places > MP_DECIMAL_DIGITS - 20)
    return luaL_error(L, "decimal: the power needs %s to be right in %d places", mp_num_too_big,
                      places);
  mp_calc_power(L, &a, n < 0 ? -n : n, places + (int)extra + 12, &p);
  if (n >= 0) {
    mp_num_round(&p, places, mode);
    return push_num(L, &p);
  }
  mp_num_from_integer(&a, 1);
  mp_calc_divide(L, &a, &p, places, mode, &q);
  return push_num(L, &q);
}

static int special_at(lua_State *L, int idx) {
  struct mp_decimal *d = test_decimal(L, idx);
  return d ? mp_num_special(d->text, d->len) : 0;
}

static int compare(lua_State *L) {
  struct mp_num a, b;
  int special_a = special_at(L, 1), special_b = special_at(L, 2);
  if (special_a || special_b) return special_a - special_b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  return PGTYPESnumeric_cmp(&a.n, &b.n);
}

static int l_eq(lua_State *L) {
  lua_pushboolean(L, mp_decimal_is(L, 1) && mp_decimal_is(L, 2) && compare(L) == 0);
  return 1;
}

/* d:eq(x): like ==, which Lua does not ask of a number; x may be an integer too */
static int l_equals(lua_State *L) {
  luaL_argexpected(L, mp_decimal_is(L, 1), 1, "decimal");
  lua_pushboolean(L, compare(L) == 0);
  return 1;
}

static int l_is_zero(lua_State *L) {
  struct mp_num a;
  luaL_argexpected(L, mp_decimal_is(L, 1), 1, "decimal");
  bool zero = false;
  if (!special_at(L, 1)) {
    check_operand(L, 1, &a);
    zero = a.n.ndigits == 0;
  }
  lua_pushboolean(L, zero);
  return 1;
}

static int l_lt(lua_State *L) {
  lua_pushboolean(L, compare(L) < 0);
  return 1;
}

static int l_le(lua_State *L) {
  lua_pushboolean(L, compare(L) <= 0);
  return 1;
}

static int l_unm(lua_State *L) {
  struct mp_num a;
  check_operand(L, 1, &a);
  if (a.n.ndigits > 0) a.n.sign = mp_num_negative(&a) ? NUMERIC_POS : NUMERIC_NEG;
  return push_num(L, &a);
}

static int l_abs(lua_State *L) {
  struct mp_num a;
  check_operand(L, 1, &a);
  a.n.sign = NUMERIC_POS;
  return push_num(L, &a);
}

static int l_round(lua_State *L) {
  struct mp_num a;
  check_operand(L, 1, &a);
  int places = lua_isnoneornil(L, 2) ? 0 : check_places(L, 2);
  mp_num_round(&a, places, (enum mp_num_mode)luaL_checkoption(L, 3, "half_up", mode_names));
  return push_num(L, &a);
}

static int l_sign(lua_State *L) {
  struct mp_num a;
  check_operand(L, 1, &a);
  lua_pushinteger(L, a.n.ndigits == 0 ? 0 : mp_num_negative(&a) ? -1 : 1);
  return 1;
}

static int l_is_finite(lua_State *L) {
  luaL_argexpected(L, mp_decimal_is(L, 1), 1, "decimal");
  lua_pushboolean(L, !special_at(L, 1));
  return 1;
}

static int l_scale(lua_State *L) {
  struct mp_num a;
  check_operand(L, 1, &a);
  lua_pushinteger(L, a.n.dscale);
  return 1;
}

static int l_tointeger(lua_State *L) {
  struct mp_num a;
  check_operand(L, 1, &a);
  if (a.n.ndigits > a.n.weight + 1)
    return luaL_error(L, "decimal: %s is not integral; round it first", luaL_tolstring(L, 1, NULL));
  uint64_t u = 0, limit = (uint64_t)LUA_MAXINTEGER + mp_num_negative(&a);
  for (int i = 0; a.n.ndigits > 0 && i <= a.n.weight; i++) {
    unsigned digit = i < a.n.ndigits ? a.digits[i] : 0;
    if (u > (limit - digit) / 10)
      return luaL_error(L, "decimal: %s does not fit in an integer of 64 bits",
                        luaL_tolstring(L, 1, NULL));
    u = u * 10 + digit;
  }
  lua_pushinteger(L, (lua_Integer)(mp_num_negative(&a) ? 0 - u : u));
  return 1;
}

/* The nearest float: a way out for statistics, so it must be asked for by name. */
static int l_tonumber(lua_State *L) {
  size_t len;
  const char *text = mp_decimal_peek(L, 1, &len);
  luaL_argexpected(L, text, 1, "decimal");
  lua_pushnumber(L, strtod(text, NULL)); /* which knows NaN and Infinity too */
  return 1;
}

static int l_tostring(lua_State *L) {
  luaL_argexpected(L, mp_decimal_text(L, 1, NULL), 1, "decimal");
  return 1;
}

static int l_concat(lua_State *L) {
  for (int i = 1; i <= 2; i++) {
    int type = lua_type(L, i);
    if (type != LUA_TSTRING && type != LUA_TNUMBER && !mp_decimal_is(L, i))
      return luaL_error(L, "attempt to concatenate a decimal with a %s value", luaL_typename(L, i));
  }
  luaL_tolstring(L, 1, NULL);
  luaL_tolstring(L, 2, NULL);
  lua_concat(L, 2);
  return 1;
}

/* ---- the module ---- */

static int new_decimal(lua_State *L, int idx) {
  size_t len = 0;
  const char *text;
  if (mp_decimal_from_json(L, idx)) {
    text = mp_decimal_peek(L, idx, &len);
    memcpy(push_blank(L, len)->text, text, len);
  } else if (mp_decimal_is(L, idx)) {
    lua_pushvalue(L, idx);
  } else if (lua_type(L, idx) == LUA_TSTRING) {
    text = lua_tolstring(L, idx, &len);
    mp_decimal_push(L, text, len);
  } else if (lua_type(L, idx) == LUA_TNUMBER) {
    lua_Integer i;
    struct mp_num v;
    if (!lua_isinteger(L, idx)) {
      lua_Number f = lua_tonumber(L, idx);
      if (!lua_numbertointeger(f, &i) || (lua_Number)i != f) {
        const char *shown = lua_pushfstring(L, "%f", f);
        return luaL_error(L, "decimal(%s): pass a string, floats are not exact", shown);
      }
    } else {
      i = lua_tointeger(L, idx);
    }
    mp_num_from_integer(&v, i);
    push_num(L, &v);
  } else {
    return luaL_error(L, "decimal: expected a string, an integer or a decimal, got %s",
                      luaL_typename(L, idx));
  }
  return 1;
}

static int l_call(lua_State *L) { return new_decimal(L, 2); }

static int l_is(lua_State *L) {
  lua_pushboolean(L, mp_decimal_is(L, 1));
  return 1;
}

static int extreme(lua_State *L, int want) {
  int best = 1, n = lua_gettop(L);
  struct mp_num a, b;
  luaL_argcheck(L, n > 0, 1, "value expected");
  check_operand(L, 1, &a);
  for (int i = 2; i <= n; i++) {
    check_operand(L, i, &b);
    if (PGTYPESnumeric_cmp(&b.n, &a.n) == want) {
      mp_num_copy(&a, &b);
      best = i;
    }
  }
  return new_decimal(L, best);
}

static int l_max(lua_State *L) { return extreme(L, 1); }
static int l_min(lua_State *L) { return extreme(L, -1); }

int mp_open_decimal(lua_State *L) {
  static const luaL_Reg meta[] = {{"__add", l_add},
                                  {"__sub", l_sub},
                                  {"__mul", l_mul},
                                  {"__div", l_operator_div},
                                  {"__pow", l_operator_pow},
                                  {"__unm", l_unm},
                                  {"__eq", l_eq},
                                  {"__lt", l_lt},
                                  {"__le", l_le},
                                  {"__tostring", l_tostring},
                                  {"__concat", l_concat},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {{"round", l_round},
                                     {"abs", l_abs},
                                     {"sign", l_sign},
                                     {"scale", l_scale},
                                     {"eq", l_equals},
                                     {"is_zero", l_is_zero},
                                     {"div", l_div},
                                     {"pow", l_pow},
                                     {"tointeger", l_tointeger},
                                     {"tonumber", l_tonumber},
                                     {"is_finite", l_is_finite},
                                     {NULL, NULL}};
  static const luaL_Reg module[] = {{"is", l_is}, {"max", l_max}, {"min", l_min}, {NULL, NULL}};
  if (luaL_newmetatable(L, TYPE_NAME)) {
    mp_calc_push_scratch(L);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, meta, 1);
    luaL_newlibtable(L, methods);
    lua_pushvalue(L, -3);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0); /* scripts can neither see nor change the metatable */
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_call);
  lua_setfield(L, -2, "__call");
  lua_setmetatable(L, -2);
  return 1;
}
