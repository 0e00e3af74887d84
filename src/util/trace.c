#include "util/trace.h"

#include <string.h>

enum { LEN = 55 }; /* 00-<32>-<16>-<2> */

static bool is_hex(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    bool digit = text[i] >= '0' && text[i] <= '9', letter = text[i] >= 'a' && text[i] <= 'f';
    if (!digit && !letter) return false;
  }
  return true;
}

static bool is_zero(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (text[i] != '0') return false;
  return true;
}

static unsigned value(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

static void write_hex(char *out, const unsigned char *bytes, size_t len) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < len; i++) {
    *out++ = digits[bytes[i] >> 4];
    *out++ = digits[bytes[i] & 15];
  }
  *out = '\0';
}

bool mp_trace_parse(struct mp_trace *trace, const char *text, size_t len) {
  const char *id = text + 3, *parent = text + 36, *flags = text + 53;
  if (len < LEN || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  if (!is_hex(text, 2) || !memcmp(text, "ff", 2)) return false;
  /* A later version may add fields behind another hyphen. */
  if (len > LEN && (!memcmp(text, "00", 2) || text[LEN] != '-')) return false;
  if (!is_hex(id, 32) || is_zero(id, 32) || !is_hex(parent, 16) || is_zero(parent, 16) ||
      !is_hex(flags, 2))
    return false;
  memcpy(trace->trace_id, id, 32);
  memcpy(trace->parent_id, parent, 16);
  trace->trace_id[32] = trace->parent_id[16] = '\0';
  trace->flags = value(flags[0]) << 4 | value(flags[1]);
  return true;
}

void mp_trace_begin(struct mp_trace *trace, const unsigned char random[24]) {
  if (!trace->trace_id[0]) {
    write_hex(trace->trace_id, random, 16);
    trace->parent_id[0] = '\0';
    trace->flags = 0;
  }
  write_hex(trace->span_id, random + 16, 8);
}
