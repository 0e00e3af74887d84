/* json_number.c: the text of a JSON number to a Lua value: an integer of 64 bits, a float that
 * loses nothing, or a decimal. */
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/buf.h"
#include "values/decimal.h"
#include "values/json.h"

static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Most numbers have few digits: a whole number of less than 16 divided by a power of ten. Both are
 * exact doubles, so the quotient is the double that this text means; no shorter one means it. 0: it
 * is none of those. */
static size_t format_short(double value, char *out) {
  double size = fabs(value);
  if (size >= 1e15 || (size < 1e-4 && size > 0)) return 0; /* those have an exponent */
  for (unsigned places = 0; places <= 6 && size * tens[places] < 1e15; places++) {
    int64_t digits = (int64_t)(size * tens[places] + 0.5);
    if ((double)digits / tens[places] != size) continue;
    int64_t scale = (int64_t)tens[places], rest = digits % scale;
    size_t n = 0;
    if (signbit(value)) out[n++] = '-';
    n += mp_format_int(out + n, digits / scale);
    out[n++] = '.';
    for (scale /= 10; scale > 0; rest %= scale, scale /= 10) out[n++] = (char)('0' + rest / scale);
    if (!places) out[n++] = '0';
    return n;
  }
  return 0;
}

size_t mp_json_format_number(double value, char *out) {
  char text[40];
  if (!isfinite(value)) return 0;
  size_t few = format_short(value, out);
  if (few) return few;
  int n = 0;
  for (int digits = 15; digits <= 17; digits++) {
    n = snprintf(text, sizeof text, "%.*g", digits, value);
    if (digits == 17 || strtod(text, NULL) == value) break;
  }
  bool marked = false;
  char point = *localeconv()->decimal_point;
  for (int i = 0; i < n; i++) {
    if (text[i] == point) text[i] = '.';
    marked |= text[i] == '.' || text[i] == 'e';
  }
  if (!marked) { /* 1234567890123456 as %.16g: keep it a float for the reader */
    text[n++] = '.';
    text[n++] = '0';
  }
  memcpy(out, text, (size_t)n);
  return (size_t)n;
}

struct digits { /* a number's significant digits, no zeros at the ends; the first stands at
                   10^exponent */
  char text[18];
  /* beyond 17, the most that a double's shortest text has, they are counted, not kept */
  size_t count;
  long exponent;
};

static void read_digits(const char *s, size_t len, struct digits *out) {
  size_t i = 0, zeros = 0, count = 0;
  long before =
      0; /* place value of the first significant digit, if it stood in front of the point */
  bool point = false;
  out->exponent = 0;
  for (; i < len && s[i] != 'e' && s[i] != 'E'; i++) {
    if (s[i] == '.') {
      point = true;
    } else if (s[i] >= '1' && s[i] <= '9') {
      for (; zeros > 0 && count > 0; zeros--, count++)
        if (count < 17) out->text[count] = '0';
      zeros = 0;
      if (count < 17) out->text[count] = s[i];
      if (count++ == 0)
        before = point ? before - 1 : 0;
      else if (!point)
        before++;
    }
    if (s[i] != '0') continue;
    if (count > 0) zeros++;
    if (count > 0 && !point) before++;
    if (count == 0 && point) before--;
  }
  out->count = count;
  if (count == 0) return;
  /* zeros between the first digit and the point were counted into `before` as they came */
  out->exponent = before;
  if (i < len) {
    bool minus = s[++i] == '-';
    long e = 0;
    if (s[i] == '-' || s[i] == '+') i++;
    for (; i < len && e < 100000000; i++) e = e * 10 + (s[i] - '0');
    out->exponent += minus ? -e : e;
  }
}

/* Pushes the float that the text means, if its shortest text is the same number. */
static bool push_exact_float(lua_State *L, const char *s, size_t len) {
  struct digits want, got;
  char text[48];
  read_digits(s, len, &want);
  if (want.count > 17) return false;
  if (want.count == 0) {
    lua_pushnumber(L, s[0] == '-' ? -0.0 : 0.0);
    return true;
  }
  if (want.exponent > 400 || want.exponent < -400) return false;
  long scale = want.exponent - (long)want.count + 1;
  if (want.count <= 15 && scale >= -22 &&
      scale <= 22) { /* both factors are exact, so one rounding */
    int64_t whole = 0;
    for (size_t i = 0; i < want.count; i++) whole = whole * 10 + (want.text[i] - '0');
    double value = (double)whole;
    value = scale < 0 ? value / tens[-scale] : value * tens[scale];
    lua_pushnumber(L, s[0] == '-' ? -value : value);
    return true;
  }
  snprintf(text, sizeof text, "%s%.*se%ld", s[0] == '-' ? "-" : "", (int)want.count, want.text,
           scale);
  if (!lua_stringtonumber(L, text)) return false;
  if (want.count <= 15 && want.exponent < 300 && want.exponent > -290)
    return true; /* always exact */
  char room[48];
  size_t n = mp_json_format_number(lua_tonumber(L, -1), room);
  read_digits(room, n, &got);
  if (n > 0 && got.count == want.count && got.exponent == want.exponent &&
      memcmp(got.text, want.text, want.count) == 0)
    return true;
  lua_pop(L, 1);
  return false;
}

static bool push_integer(lua_State *L, const char *s, size_t len) {
  uint64_t u = 0, limit = (uint64_t)LUA_MAXINTEGER + (s[0] == '-');
  for (size_t i = s[0] == '-'; i < len; i++) {
    unsigned digit = (unsigned)(s[i] - '0');
    if (digit > 9 || u > (limit - digit) / 10) return false;
    u = u * 10 + digit;
  }
  lua_pushinteger(L, (lua_Integer)(s[0] == '-' ? 0 - u : u));
  return true;
}

bool mp_json_push_number(lua_State *L, const char *text, size_t len, unsigned flags) {
  if (push_integer(L, text, len)) return true;
  if (!(flags & MP_JSON_DECIMALS) && push_exact_float(L, text, len)) return true;
  if (flags & MP_JSON_OWN) return !mp_decimal_try_push(L, text, len);
  return !mp_decimal_try_push_json(L, text, len);
}
