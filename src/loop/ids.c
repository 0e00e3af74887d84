#include "loop/ids.h"

#include <string.h>
#include <time.h>

static char *hex(char *out, uint64_t value, int digits) {
  for (int i = digits; i-- > 0; value >>= 4) out[i] = "0123456789abcdef"[value & 15];
  return out + digits;
}

static void format_uuid(uint64_t high, uint64_t low, char out[37]) {
  char *at = hex(out, high >> 32, 8);
  *at++ = '-';
  at = hex(at, high >> 16, 4);
  *at++ = '-';
  at = hex(at, high, 4);
  *at++ = '-';
  at = hex(at, low >> 48, 4);
  *at++ = '-';
  *hex(at, low, 12) = '\0';
}

/* Version and variant: RFC 9562, 4.1 and 4.2. */
#define UUID_VERSION(high, version) (((high) & ~UINT64_C(0xf000)) | (uint64_t)(version) << 12)
#define UUID_VARIANT(low) (((low) & ~(UINT64_C(3) << 62)) | UINT64_C(2) << 62)

void mp_uuid7_format(uint64_t wall_us, const uint64_t random[2], char out[37]) {
  format_uuid(UUID_VERSION(wall_us / 1000 << 16 | (random[0] & 0xffff), 7), UUID_VARIANT(random[1]),
              out);
}

void mp_uuid4_format(const uint64_t random[2], char out[37]) {
  format_uuid(UUID_VERSION(random[0], 4), UUID_VARIANT(random[1]), out);
}

void mp_uuid_new(struct mp_loop *loop, char out[37]) {
  uint64_t random[2];
  mp_loop_random(loop, random, sizeof random);
  mp_uuid7_format(mp_loop_wall_us(loop), random, out);
}

void mp_timestamp_format(uint64_t wall_us, char out[32]) {
  time_t seconds = (time_t)(wall_us / 1000000);
  struct tm tm;
  gmtime_r(&seconds, &tm);
  size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
  unsigned micros = (unsigned)(wall_us % 1000000);
  out[n] = '.';
  for (size_t i = 6; i; i--, micros /= 10) out[n + i] = (char)('0' + micros % 10);
  memcpy(out + n + 7, "Z", 2);
}
