/* decimal_num.h: a decimal unpacked into digits, shaped so that libpgtypes can read it in place.
 * Lives on the C stack; owned by its caller. */
#ifndef MP_DECIMAL_NUM_H
#define MP_DECIMAL_NUM_H

#include <pgtypes_numeric.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_DECIMAL_DIGITS 1000 /* at most, on both sides of the point together */

/* A remainder: a quotient (3,000 digits at most) times its divisor, and room. */
enum { MP_NUM_CAP = 5 * MP_DECIMAL_DIGITS };

/* digits[0] != 0 has the place value 10^weight; no zeros at either end; zero has no digits. */
struct mp_num {
  numeric n;
  NumericDigit digits[MP_NUM_CAP];
};

enum mp_num_mode {
  MP_NUM_HALF_UP,
  MP_NUM_HALF_EVEN,
  MP_NUM_DOWN,
  MP_NUM_UP,
  MP_NUM_FLOOR,
  MP_NUM_CEIL
};

extern const char mp_num_too_big[];

static inline void mp_num_reset(struct mp_num *v) {
  v->n = (numeric){.sign = NUMERIC_POS};
  v->n.digits = v->digits;
}

static inline void mp_num_set_scale(struct mp_num *v, int scale) {
  v->n.dscale = v->n.rscale = scale;
}
static inline bool mp_num_negative(const struct mp_num *v) { return v->n.sign == NUMERIC_NEG; }
static inline bool mp_num_is_digit(char c) { return c >= '0' && c <= '9'; }

void mp_num_normalize(struct mp_num *v);
void mp_num_copy(struct mp_num *dst, const struct mp_num *src);
void mp_num_from_integer(struct mp_num *v, int64_t i);
bool mp_num_in_bounds(const struct mp_num *v);

/* Reads the text; answers NULL, or what is wrong with it. */
const char *mp_num_parse(struct mp_num *v, const char *text, size_t len);
/* Writes the canonical text, whose length it returns; with NULL it only measures. */
size_t mp_num_format(const struct mp_num *v, char *out);

/* Does the magnitude grow by one in the last place? tail: 0 nothing is cut off, 1 less than a half,
 * 2 a half, 3 more. */
bool mp_num_rounds_away(enum mp_num_mode mode, bool negative, bool odd, int tail);
bool mp_num_odd_at(const struct mp_num *v, int places);
/* Adds 10^-places to the magnitude of a number that has no digit behind that place. */
void mp_num_bump(struct mp_num *v, int places);
void mp_num_round(struct mp_num *v, int places, enum mp_num_mode mode);

/* out = base^n, exactly. False: it is out of bounds. */
bool mp_num_power(const struct mp_num *base, uint64_t n, struct mp_num *out);

/* NaN and infinities, which columns may hold and nothing can be calculated with: 0 for other texts;
 * else its place in PostgreSQL's order, -1 for -Infinity, 1 for Infinity, 2 for NaN. */
int mp_num_special(const char *text, size_t len);

#endif
