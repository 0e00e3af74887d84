#include "util/utf8.h"

#include <stdint.h>
#include <string.h>

size_t mp_utf8_valid(const char *text, size_t len) {
  const unsigned char *s = (const unsigned char *)text;
  size_t i = 0;
  while (i < len) {
    if (s[i] < 0x80) {
      uint64_t word;
      while (len - i >= 8 && (memcpy(&word, s + i, 8), !(word & 0x8080808080808080u))) i += 8;
      while (i < len && s[i] < 0x80) i++;
      continue;
    }
    unsigned char c = s[i], low = 0x80, high = 0xBF;
    size_t n;
    if (c >= 0xC2 && c <= 0xDF)
      n = 1;
    else if (c >= 0xE0 && c <= 0xEF)
      n = 2;
    else if (c >= 0xF0 && c <= 0xF4)
      n = 3;
    else
      return i;
    if (len - i <= n) return i;
    if (c == 0xE0)
      low = 0xA0; /* overlong */
    else if (c == 0xED)
      high = 0x9F; /* surrogates */
    else if (c == 0xF0)
      low = 0x90; /* overlong */
    else if (c == 0xF4)
      high = 0x8F; /* beyond U+10FFFF */
    if (s[i + 1] < low || s[i + 1] > high) return i;
    for (size_t k = 2; k <= n; k++)
      if ((s[i + k] & 0xC0) != 0x80) return i;
    i += n + 1;
  }
  return len;
}
