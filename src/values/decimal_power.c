/* decimal_power.c: exact integer powers. libpgtypes multiplies digit by digit, which takes longer
 * for a loan's interest over five years than all else that a transaction computes; GMP's low-level
 * functions read and write the same digits, and take no memory. */
#include <gmp.h>
#include <string.h>

#include "values/decimal_num.h"

/* 1000 digits are 3322 bits; a product that is judged afterwards has twice as many. */
enum { LIMBS = MP_DECIMAL_DIGITS * 10 / 3 / GMP_NUMB_BITS + 2 };

struct natural {
  mp_limb_t limbs[2 * LIMBS + 2];
  mp_size_t len; /* without leading zeros */
};

/* to = a * b; `to` is none of the two. False: it is too large. */
static bool multiply(struct natural *to, const struct natural *a, const struct natural *b) {
  if (a == b)
    mpn_sqr(to->limbs, a->limbs, a->len);
  else if (a->len >= b->len)
    mpn_mul(to->limbs, a->limbs, a->len, b->limbs, b->len);
  else
    mpn_mul(to->limbs, b->limbs, b->len, a->limbs, a->len);
  to->len = a->len + b->len;
  to->len -= !to->limbs[to->len - 1];
  return to->len <= LIMBS;
}

bool mp_num_power(const struct mp_num *base, uint64_t n, struct mp_num *out) {
  struct natural factor, power = {.limbs = {1}, .len = 1}, product;
  unsigned char text[(2 * LIMBS + 2) * GMP_NUMB_BITS * 3 / 10 + 8];
  int64_t exponent = (int64_t)n * (base->n.weight - base->n.ndigits + 1);
  int64_t scale = (int64_t)n * base->n.dscale;
  bool negative = mp_num_negative(base) && n % 2;
  mp_num_from_integer(out, n == 0);
  if (scale > MP_DECIMAL_DIGITS) return false;
  mp_num_set_scale(out, (int)scale);
  if (n == 0 || base->n.ndigits == 0) return true;
  if (base->n.ndigits > MP_DECIMAL_DIGITS) return false;
  memcpy(text, base->digits, (size_t)base->n.ndigits);
  factor.len = mpn_set_str(factor.limbs, text, (size_t)base->n.ndigits, 10);
  for (; n > 0; n >>= 1) {
    if (n & 1) {
      if (!multiply(&product, &power, &factor)) return false;
      power = product;
    }
    if (n == 1) break;
    if (!multiply(&product, &factor, &factor)) return false;
    factor = product;
  }
  size_t len = mpn_get_str(text, 10, power.limbs, power.len);
  if (len > MP_NUM_CAP) return false;
  memcpy(out->digits, text, len);
  out->n.ndigits = (int)len;
  out->n.weight = (int)((int64_t)len - 1 + exponent);
  out->n.sign = negative ? NUMERIC_NEG : NUMERIC_POS;
  mp_num_normalize(out); /* mpn_get_str may begin with zeros */
  return mp_num_in_bounds(out);
}
