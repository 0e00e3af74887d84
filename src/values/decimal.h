/* decimal.h: the Lua module "moonpool.decimal": exact money by PostgreSQL's own numeric arithmetic
 * (libpgtypes).
 *
 * A decimal is a userdata that keeps nothing but its canonical text ("28500.00"), so one made from
 * a column costs a copy and needs no finalizer. Digits are unpacked only while arithmetic is done.
 * Bounds: at most MP_DECIMAL_DIGITS digits (decimal_num.h), counted on both sides of the point.
 * What lies out of bounds is refused, never rounded. NaN and infinities come from columns only:
 * they can be compared, as PostgreSQL does, written and sent back, but not calculated with. */
#ifndef MP_DECIMAL_H
#define MP_DECIMAL_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* Pushes the module's table (and registers the metatable "moonpool.decimal"). */
int mp_open_decimal(lua_State *L);

/* Pushes a decimal read from `text`: [+-]digits[.digits][e[+-]digits]. Raises a Lua error that
 * tells what is wrong. Fast when the text is canonical, as PostgreSQL sends it. */
void mp_decimal_push(lua_State *L, const char *text, size_t len);

/* The same, but answers NULL, or what is wrong with the text and pushes nothing. Raises for memory
 * only. */
const char *mp_decimal_try_push(lua_State *L, const char *text, size_t len);

/* The same for a number of a JSON text: it leaves as a number where other decimals leave as
 * strings. What is computed from it is a decimal as any other. */
const char *mp_decimal_try_push_json(lua_State *L, const char *text, size_t len);
bool mp_decimal_from_json(lua_State *L, int idx);

/* The same for the text of a column, which may also be NaN, Infinity or -Infinity. */
const char *mp_decimal_try_push_column(lua_State *L, const char *text, size_t len);
/* Is the decimal's text one of those three? In JSON it is a string. */
bool mp_decimal_text_special(const char *text, size_t len);

bool mp_decimal_is(lua_State *L, int idx);

/* Pushes the decimal's text as a Lua string and returns it; NULL, pushing nothing, if it is
 * none. */
const char *mp_decimal_text(lua_State *L, int idx, size_t *len);

/* The decimal's text, terminated and owned by the value at `idx`; NULL if it is none. Never
 * raises. */
const char *mp_decimal_peek(lua_State *L, int idx, size_t *len);

#endif
