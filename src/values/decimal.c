/* decimal.c: decimals as Lua values. The text is the value; `struct mp_num` is its unpacked form,
 * on the C stack. What libpgtypes allocates hangs on one `struct scratch` per Lua state, owned by a
 * userdata, so that a raised error leaks nothing.
 *
 * libpgtypes adds, subtracts, multiplies and compares exactly. Its quotient has 17 digits for 1/3
 * and is rounded once already: divide() asks for the digits it needs and settles the last one by
 * the remainder. Every operand is bounded before it gets there (1e200000000 + 1 would take 193
 * MB). */
#include "values/decimal.h"

#include <lauxlib.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/attr.h"
#include "values/decimal_num.h"

#define TYPE_NAME "moonpool.decimal"

enum {
  DIV_SIG_DIGITS = 20, /* what a quotient has at least; the server gives 16 to 20 */
  POW_SIG_DIGITS = 30, /* what a negative power has at least */
};

struct mp_decimal {
  size_t len;
  char text[];
};

struct scratch {
  numeric *result;
};

static const char *const mode_names[] = {"half_up", "half_even", "down", "up",
                                         "floor",   "ceil",      NULL};

static const char metatable_key; /* its address is the registry's key */

/* -- Lua values
 * ----------------------------------------------------------------------------------- */

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
    luaL_error(L, "decimal: %s cannot be calculated with; value:is_finite() tells", d->text);
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

/* -- arithmetic
 * ----------------------------------------------------------------------------------- */

typedef int (*operation)(numeric *, numeric *, numeric *);

/* out = a op b, exact; `out` may be an operand. The scratch is upvalue 1 of every function here. */
static void compute(lua_State *L, operation op, struct mp_num *a, struct mp_num *b,
                    struct mp_num *out) {
  struct scratch *scratch = lua_touserdata(L, lua_upvalueindex(1));
  if (!scratch->result) luaL_error(L, "decimal: the Lua state is being closed");
  if (op(&a->n, &b->n, scratch->result) != 0) luaL_error(L, "decimal: out of memory");
  const numeric *r = scratch->result;
  int skip = 0, n = r->ndigits;
  while (skip < n && r->digits[skip] == 0) skip++;
  n -= skip;
  if (n > MP_NUM_CAP) luaL_error(L, "decimal: the result has %s", mp_num_too_big);
  mp_num_reset(out);
  if (n > 0) memcpy(out->digits, r->digits + skip, (size_t)n);
  out->n.ndigits = n;
  out->n.weight = r->weight - skip;
  out->n.sign = r->sign;
  mp_num_set_scale(out, r->dscale);
  mp_num_normalize(out);
}

/* q = a / b with `places` digits behind the point, rounded once, by the exact remainder. */
static void divide(lua_State *L, struct mp_num *a, struct mp_num *b, int places,
                   enum mp_num_mode mode, struct mp_num *q) {
  if (b->n.ndigits == 0) luaL_error(L, "decimal: division by zero");
  bool negative = mp_num_negative(a) != mp_num_negative(b);
  struct mp_num x, y, rest, unit;
  int ask = places > 0 ? places : 0;
  mp_num_copy(&x, a);
  mp_num_copy(&y, b);
  x.n.sign = y.n.sign = NUMERIC_POS;
  mp_num_set_scale(&x, ask); /* libpgtypes takes its precision from here: `ask` + 4 places */
  mp_num_set_scale(&y, ask);
  compute(L, PGTYPESnumeric_div, &x, &y, q);
  mp_num_set_scale(&x, a->n.dscale);
  mp_num_set_scale(&y, b->n.dscale);
  mp_num_round(q, places, MP_NUM_DOWN);
  mp_num_reset(&unit); /* unit = y * 10^-places: what one more in the last place is worth */
  mp_num_copy(&unit, &y);
  unit.n.weight -= places;
  mp_num_set_scale(&unit, y.n.dscale + ask);
  mp_num_set_scale(q, ask);
  compute(L, PGTYPESnumeric_mul, q, &y, &rest);
  compute(L, PGTYPESnumeric_sub, &x, &rest, &rest);
  while (mp_num_negative(&rest)) { /* the library's rounding had carried into our last place */
    struct mp_num one;
    mp_num_from_integer(&one, 1);
    one.n.weight = -places;
    mp_num_set_scale(&one, ask);
    compute(L, PGTYPESnumeric_sub, q, &one, q);
    compute(L, PGTYPESnumeric_add, &rest, &unit, &rest);
  }
  int tail = 0;
  if (rest.n.ndigits > 0) {
    struct mp_num twice;
    compute(L, PGTYPESnumeric_add, &rest, &rest, &twice);
    tail = PGTYPESnumeric_cmp(&twice.n, &unit.n) + 2;
  }
  if (mp_num_rounds_away(mode, negative, mp_num_odd_at(q, places), tail)) mp_num_bump(q, places);
  mp_num_normalize(q);
  if (negative && q->n.ndigits > 0) q->n.sign = NUMERIC_NEG;
  mp_num_set_scale(q, ask);
}

/* As the server does: enough places for `digits` significant ones, and never fewer than an operand
 * has. */
static int quotient_places(const struct mp_num *a, const struct mp_num *b, int digits) {
  int places = digits - (a->n.weight - b->n.weight);
  if (a->n.ndigits == 0) places = digits;
  if (places < a->n.dscale) places = a->n.dscale;
  if (places < b->n.dscale) places = b->n.dscale;
  if (places < 0) places = 0;
  return places < MP_DECIMAL_DIGITS ? places : MP_DECIMAL_DIGITS - 1;
}

static int l_add(lua_State *L) {
  struct mp_num a, b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  compute(L, PGTYPESnumeric_add, &a, &b, &a);
  return push_num(L, &a);
}

static int l_sub(lua_State *L) {
  struct mp_num a, b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  compute(L, PGTYPESnumeric_sub, &a, &b, &a);
  return push_num(L, &a);
}

static int l_mul(lua_State *L) {
  struct mp_num a, b;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  compute(L, PGTYPESnumeric_mul, &a, &b, &a);
  return push_num(L, &a);
}

static int l_operator_div(lua_State *L) {
  struct mp_num a, b, q;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  /* one more place than the weights say: the first digit of the quotient may lie one lower */
  bool lower = a.n.ndigits > 0 && b.n.ndigits > 0 && a.digits[0] <= b.digits[0];
  divide(L, &a, &b, quotient_places(&a, &b, DIV_SIG_DIGITS - 1 + lower), MP_NUM_HALF_UP, &q);
  return push_num(L, &q);
}

static int l_div(lua_State *L) {
  struct mp_num a, b, q;
  check_operand(L, 1, &a);
  check_operand(L, 2, &b);
  int places = check_places(L, 3);
  divide(L, &a, &b, places, (enum mp_num_mode)luaL_checkoption(L, 4, "half_up", mode_names), &q);
  return push_num(L, &q);
}

MP_NORETURN static void too_big(lua_State *L) {
  luaL_error(L, "decimal: the power has %s; base:pow(exponent, places) gives it rounded",
             mp_num_too_big);
  __builtin_unreachable();
}

/* out = base^n, where every step is rounded to `places`. */
static void rounded_power(lua_State *L, const struct mp_num *base, lua_Integer n, int places,
                          struct mp_num *out) {
  struct mp_num factor;
  mp_num_copy(&factor, base);
  mp_num_from_integer(out, 1);
  while (n > 0) {
    if (n & 1) compute(L, PGTYPESnumeric_mul, out, &factor, out);
    n >>= 1;
    if (n > 0) compute(L, PGTYPESnumeric_mul, &factor, &factor, &factor);
    if (out->n.dscale > places) mp_num_round(out, places, MP_NUM_HALF_EVEN);
    if (factor.n.dscale > places) mp_num_round(&factor, places, MP_NUM_HALF_EVEN);
    if (!mp_num_in_bounds(out) || (n > 0 && !mp_num_in_bounds(&factor))) too_big(L);
  }
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
  if (!mp_num_power(&a, (uint64_t)(n < 0 ? -n : n), &p)) too_big(L);
  if (n >= 0) return push_num(L, &p);
  mp_num_from_integer(&a, 1);
  divide(L, &a, &p, quotient_places(&a, &p, POW_SIG_DIGITS), MP_NUM_HALF_UP, &q);
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
  rounded_power(L, &a, n < 0 ? -n : n, places + (int)extra + 12, &p);
  if (n >= 0) {
    mp_num_round(&p, places, mode);
    return push_num(L, &p);
  }
  mp_num_from_integer(&a, 1);
  divide(L, &a, &p, places, mode, &q);
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

/* -- the module
 * ----------------------------------------------------------------------------------- */

static int new_decimal(lua_State *L, int idx) {
  size_t len;
  const char *text;
  if (mp_decimal_is(L, idx)) {
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

static int scratch_gc(lua_State *L) {
  struct scratch *scratch = lua_touserdata(L, 1);
  if (scratch->result) PGTYPESnumeric_free(scratch->result);
  scratch->result = NULL;
  return 0;
}

static void push_scratch(lua_State *L) {
  struct scratch *scratch = lua_newuserdatauv(L, sizeof *scratch, 0);
  scratch->result = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, scratch_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  scratch->result = PGTYPESnumeric_new();
  if (!scratch->result) luaL_error(L, "decimal: out of memory");
}

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
                                     {"div", l_div},
                                     {"pow", l_pow},
                                     {"tointeger", l_tointeger},
                                     {"tonumber", l_tonumber},
                                     {"is_finite", l_is_finite},
                                     {NULL, NULL}};
  static const luaL_Reg module[] = {{"is", l_is}, {"max", l_max}, {"min", l_min}, {NULL, NULL}};
  if (luaL_newmetatable(L, TYPE_NAME)) {
    push_scratch(L);
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
