/* utf8.h: checks and repairs UTF-8, for text of unknown origin. */
#ifndef MP_UTF8_H
#define MP_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The number of bytes of the well-formed character at `at` (RFC 3629, 4); 0: it is not well-formed.
 * `at` is terminated. */
static inline size_t mp_utf8_len(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  if (at[0] < 0x80) return 1;
  if (at[0] < 0xC2 || at[0] > 0xF4) return 0;
  size_t n = at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < n; i++)
    if ((at[i] & 0xC0) != 0x80) return 0;
  bool overlong = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xF0 && at[1] < 0x90);
  bool beyond = (at[0] == 0xED && at[1] > 0x9F) || (at[0] == 0xF4 && at[1] > 0x8F);
  return overlong || beyond ? 0 : n;
}

/* Makes a terminated text valid UTF-8: an incomplete character at the end is removed, every other
 * invalid byte becomes `?`. */
static inline void mp_utf8_mend(char *text) {
  for (size_t n; *text; text += n ? n : 1) {
    n = mp_utf8_len(text);
    if (n) continue;
    const unsigned char lead = (unsigned char)*text;
    size_t rest = 1, needs = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    while (rest < needs && ((unsigned char)text[rest] & 0xC0) == 0x80) rest++;
    bool cut = lead >= 0xC2 && rest < needs && !text[rest];
    *text = cut ? '\0' : '?';
    if (cut) return;
  }
}

/* The length of valid UTF-8 at the start of the text: `len` if all is well. */
size_t mp_utf8_valid(const char *text, size_t len);

#endif
