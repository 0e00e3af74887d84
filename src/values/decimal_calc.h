/* decimal_calc.h: arithmetic on unpacked decimals, for decimal.c. All raise a Lua error when the
 * result is out of bounds or memory is short.
 *
 * What libpgtypes allocates hangs on one scratch per Lua state, a userdata, so that a raised error
 * leaks nothing: it is upvalue 1 of every C function that calls these. */
#ifndef MP_DECIMAL_CALC_H
#define MP_DECIMAL_CALC_H

#include <lua.h>

#include "util/attr.h"
#include "values/decimal_num.h"

/* [-0, +1] */
void mp_calc_push_scratch(lua_State *L);

typedef int (*mp_calc_op)(numeric *, numeric *, numeric *);

/* out = a op b, exact; `out` may be an operand. */
void mp_calc(lua_State *L, mp_calc_op op, struct mp_num *a, struct mp_num *b, struct mp_num *out);

/* q = a / b with `places` digits behind the point, rounded once, by the exact remainder. */
void mp_calc_divide(lua_State *L, struct mp_num *a, struct mp_num *b, int places,
                    enum mp_num_mode mode, struct mp_num *q);

/* The places of a quotient as the server chooses them: enough for `digits` significant ones, and
 * never fewer than an operand has. */
int mp_calc_places(const struct mp_num *a, const struct mp_num *b, int digits);

/* out = base^n, where every step is rounded to `places`. */
void mp_calc_power(lua_State *L, const struct mp_num *base, lua_Integer n, int places,
                   struct mp_num *out);

MP_NORETURN void mp_calc_too_big(lua_State *L);

#endif
