/* decimal_calc.c: see decimal_calc.h. libpgtypes adds, subtracts, multiplies and compares exactly.
 * Its quotient has 17 digits for 1/3 and is rounded once already: mp_calc_divide asks for the
 * digits it needs and settles the last one by the remainder. */
#include "values/decimal_calc.h"

#include <lauxlib.h>
#include <string.h>

/* ---- what libpgtypes allocates ---- */

struct scratch {
  numeric *result;
};

static int scratch_gc(lua_State *L) {
  struct scratch *scratch = lua_touserdata(L, 1);
  if (scratch->result) PGTYPESnumeric_free(scratch->result);
  scratch->result = NULL;
  return 0;
}

void mp_calc_push_scratch(lua_State *L) {
  struct scratch *scratch = lua_newuserdatauv(L, sizeof *scratch, 0);
  scratch->result = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, scratch_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  scratch->result = PGTYPESnumeric_new();
  if (!scratch->result) luaL_error(L, "decimal: out of memory");
}

/* ---- arithmetic ---- */

void mp_calc(lua_State *L, mp_calc_op op, struct mp_num *a, struct mp_num *b, struct mp_num *out) {
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

void mp_calc_divide(lua_State *L, struct mp_num *a, struct mp_num *b, int places,
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
  mp_calc(L, PGTYPESnumeric_div, &x, &y, q);
  mp_num_set_scale(&x, a->n.dscale);
  mp_num_set_scale(&y, b->n.dscale);
  mp_num_round(q, places, MP_NUM_DOWN);
  mp_num_reset(&unit); /* unit = y * 10^-places: what one more in the last place is worth */
  mp_num_copy(&unit, &y);
  unit.n.weight -= places;
  mp_num_set_scale(&unit, y.n.dscale + ask);
  mp_num_set_scale(q, ask);
  mp_calc(L, PGTYPESnumeric_mul, q, &y, &rest);
  mp_calc(L, PGTYPESnumeric_sub, &x, &rest, &rest);
  while (mp_num_negative(&rest)) { /* the library's rounding had carried into our last place */
    struct mp_num one;
    mp_num_from_integer(&one, 1);
    one.n.weight = -places;
    mp_num_set_scale(&one, ask);
    mp_calc(L, PGTYPESnumeric_sub, q, &one, q);
    mp_calc(L, PGTYPESnumeric_add, &rest, &unit, &rest);
  }
  int tail = 0;
  if (rest.n.ndigits > 0) {
    struct mp_num twice;
    mp_calc(L, PGTYPESnumeric_add, &rest, &rest, &twice);
    tail = PGTYPESnumeric_cmp(&twice.n, &unit.n) + 2;
  }
  if (mp_num_rounds_away(mode, negative, mp_num_odd_at(q, places), tail)) mp_num_bump(q, places);
  mp_num_normalize(q);
  if (negative && q->n.ndigits > 0) q->n.sign = NUMERIC_NEG;
  mp_num_set_scale(q, ask);
}

int mp_calc_places(const struct mp_num *a, const struct mp_num *b, int digits) {
  int places = digits - (a->n.weight - b->n.weight);
  if (a->n.ndigits == 0) places = digits;
  if (places < a->n.dscale) places = a->n.dscale;
  if (places < b->n.dscale) places = b->n.dscale;
  if (places < 0) places = 0;
  return places < MP_DECIMAL_DIGITS ? places : MP_DECIMAL_DIGITS - 1;
}

void mp_calc_too_big(lua_State *L) {
  luaL_error(L, "decimal: the power has %s; base:pow(exponent, places) gives it rounded",
             mp_num_too_big);
  __builtin_unreachable();
}

void mp_calc_power(lua_State *L, const struct mp_num *base, lua_Integer n, int places,
                   struct mp_num *out) {
  struct mp_num factor;
  mp_num_copy(&factor, base);
  mp_num_from_integer(out, 1);
  while (n > 0) {
    if (n & 1) mp_calc(L, PGTYPESnumeric_mul, out, &factor, out);
    n >>= 1;
    if (n > 0) mp_calc(L, PGTYPESnumeric_mul, &factor, &factor, &factor);
    if (out->n.dscale > places) mp_num_round(out, places, MP_NUM_HALF_EVEN);
    if (factor.n.dscale > places) mp_num_round(&factor, places, MP_NUM_HALF_EVEN);
    if (!mp_num_in_bounds(out) || (n > 0 && !mp_num_in_bounds(&factor))) mp_calc_too_big(L);
  }
}
