/* decimal_num.c: reading, writing and rounding of unpacked decimals. Pure: no Lua, no memory. */
#include "values/decimal_num.h"

#include <string.h>

const char mp_num_too_big[] = "more than 1000 digits";

void mp_num_normalize(struct mp_num *v) {
  int lead = 0;
  while (lead < v->n.ndigits && v->digits[lead] == 0) lead++;
  if (lead > 0) {
    v->n.ndigits -= lead;
    v->n.weight -= lead;
    memmove(v->digits, v->digits + lead, (size_t)v->n.ndigits);
  }
  while (v->n.ndigits > 0 && v->digits[v->n.ndigits - 1] == 0) v->n.ndigits--;
  if (v->n.ndigits == 0) {
    v->n.weight = 0;
    v->n.sign = NUMERIC_POS;
  }
}

void mp_num_copy(struct mp_num *dst, const struct mp_num *src) {
  dst->n = src->n;
  dst->n.digits = dst->digits;
  memcpy(dst->digits, src->digits, (size_t)src->n.ndigits);
}

void mp_num_from_integer(struct mp_num *v, int64_t i) {
  mp_num_reset(v);
  uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
  NumericDigit tmp[20];
  int n = 0;
  for (; u; u /= 10) tmp[n++] = (NumericDigit)(u % 10);
  for (int k = 0; k < n; k++) v->digits[k] = tmp[n - 1 - k];
  v->n.ndigits = n;
  v->n.weight = n - 1;
  if (i < 0) v->n.sign = NUMERIC_NEG;
  mp_num_normalize(v);
}

static int int_digits(const struct mp_num *v) { return v->n.weight >= 0 ? v->n.weight + 1 : 1; }

bool mp_num_in_bounds(const struct mp_num *v) {
  return v->n.dscale <= MP_DECIMAL_DIGITS && int_digits(v) + v->n.dscale <= MP_DECIMAL_DIGITS;
}

const char *mp_num_parse(struct mp_num *v, const char *text, size_t len) {
  static const char malformed[] = "not a decimal number";
  const char *p = text, *end = text + len;
  mp_num_reset(v);
  if (len == 0) return "empty text is not a decimal number";
  if (len > 2 * MP_DECIMAL_DIGITS) return mp_num_too_big;
  bool negative = *p == '-';
  if (*p == '-' || *p == '+') p++;
  int n = 0, before = 0, after = 0;
  for (; p < end && mp_num_is_digit(*p); p++, before++) v->digits[n++] = (NumericDigit)(*p - '0');
  if (p < end && *p == '.')
    for (p++; p < end && mp_num_is_digit(*p); p++, after++)
      v->digits[n++] = (NumericDigit)(*p - '0');
  if (n == 0) return malformed;
  int exponent = 0;
  if (p < end && (*p == 'e' || *p == 'E')) {
    bool minus = ++p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (p == end || !mp_num_is_digit(*p)) return malformed;
    for (; p < end && mp_num_is_digit(*p); p++)
      if (exponent < 100000) exponent = exponent * 10 + (*p - '0');
    if (minus) exponent = -exponent;
  }
  if (p != end) return malformed;
  v->n.ndigits = n;
  v->n.weight = before - 1 + exponent;
  v->n.sign = negative ? NUMERIC_NEG : NUMERIC_POS;
  mp_num_set_scale(v, after > exponent ? after - exponent : 0);
  mp_num_normalize(v);
  return mp_num_in_bounds(v) ? NULL : mp_num_too_big;
}

size_t mp_num_format(const struct mp_num *v, char *out) {
  size_t at = 0;
  int top = int_digits(v) - 1;
  if (mp_num_negative(v)) {
    if (out) out[at] = '-';
    at++;
  }
  if (!out) return at + (size_t)top + 1 + (v->n.dscale > 0 ? (size_t)v->n.dscale + 1 : 0);
  for (int place = top; place >= -v->n.dscale; place--) {
    int i = v->n.weight - place;
    if (place == -1) out[at++] = '.';
    out[at++] = (char)('0' + (i >= 0 && i < v->n.ndigits ? v->digits[i] : 0));
  }
  return at;
}

bool mp_num_rounds_away(enum mp_num_mode mode, bool negative, bool odd, int tail) {
  switch (mode) {
    case MP_NUM_HALF_UP: return tail >= 2;
    case MP_NUM_HALF_EVEN: return tail == 3 || (tail == 2 && odd);
    case MP_NUM_DOWN: return false;
    case MP_NUM_UP: return tail > 0;
    case MP_NUM_FLOOR: return negative && tail > 0;
    case MP_NUM_CEIL: return !negative && tail > 0;
  }
  return false;
}

bool mp_num_odd_at(const struct mp_num *v, int places) {
  int i = v->n.weight + places;
  return i >= 0 && i < v->n.ndigits && (v->digits[i] & 1);
}

void mp_num_bump(struct mp_num *v, int places) {
  int i = v->n.weight + places; /* index of the last place kept */
  if (v->n.ndigits == 0 || i < 0) {
    v->digits[0] = 1;
    v->n.ndigits = 1;
    v->n.weight = -places;
    return;
  }
  while (v->n.ndigits <= i) v->digits[v->n.ndigits++] = 0;
  while (i >= 0 && v->digits[i] == 9) v->digits[i--] = 0;
  if (i >= 0) {
    v->digits[i]++;
  } else { /* 999 -> 1000: all digits are zero now */
    v->digits[0] = 1;
    v->n.weight++;
  }
}

void mp_num_round(struct mp_num *v, int places, enum mp_num_mode mode) {
  int keep = v->n.weight + 1 + places, tail = 0;
  bool negative = mp_num_negative(v);
  if (v->n.ndigits > 0 && keep < v->n.ndigits) {
    if (keep < 0 || v->digits[keep] < 5)
      tail = 1;
    else
      tail = v->digits[keep] == 5 && keep + 1 == v->n.ndigits ? 2 : 3;
    bool away = mp_num_rounds_away(mode, negative, mp_num_odd_at(v, places), tail);
    v->n.ndigits = keep > 0 ? keep : 0;
    if (away) mp_num_bump(v, places);
    mp_num_normalize(v);
    if (v->n.ndigits > 0 && negative) v->n.sign = NUMERIC_NEG;
  }
  mp_num_set_scale(v, places > 0 ? places : 0);
}

int mp_num_special(const char *text, size_t len) {
  if (len == 3 && !memcmp(text, "NaN", 3)) return 2;
  if (len == 8 && !memcmp(text, "Infinity", 8)) return 1;
  return len == 9 && !memcmp(text, "-Infinity", 9) ? -1 : 0;
}
