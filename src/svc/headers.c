#include "svc/headers.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

bool mp_text_in_set(struct mp_http_text text, const char *more) {
  for (size_t i = 0; i < text.len; i++) {
    char c = text.at[i];
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
          strchr(more, c)))
      return false;
  }
  return text.len > 0;
}

static void copy(char *out, struct mp_http_text text) {
  memcpy(out, text.at, text.len);
  out[text.len] = '\0';
}

void mp_header_request_id(const struct mp_http_message *message, struct mp_loop *loop,
                          char out[MP_REQUEST_ID_LEN + 1]) {
  struct mp_http_text given;
  unsigned char random[12];
  if (mp_http_header(message, "x-request-id", &given) == 1 && given.len <= MP_REQUEST_ID_LEN &&
      mp_text_in_set(given, "-_.:")) {
    copy(out, given);
    return;
  }
  mp_loop_random(loop, random, sizeof random);
  sodium_bin2hex(out, MP_REQUEST_ID_LEN + 1, random, sizeof random);
}

void mp_header_trace(const struct mp_http_message *message, struct mp_loop *loop,
                     struct mp_trace *out) {
  struct mp_http_text given;
  unsigned char random[24];
  *out = (struct mp_trace){.flags = 0};
  if (mp_http_header(message, "traceparent", &given) == 1)
    (void)mp_trace_parse(out, given.at, given.len);
  mp_loop_random(loop, random, sizeof random);
  mp_trace_begin(out, random);
}

void mp_header_address(struct mp_http_request *request, char *out, size_t size) {
  struct mp_http_text forwarded;
  mp_http_peer(request, out, size);
  bool local = !strncmp(out, "127.", 4) || !strcmp(out, "::1");
  if (!local || !mp_http_header(&request->message, "x-forwarded-for", &forwarded)) return;
  size_t at = forwarded.len;
  while (at && forwarded.at[at - 1] != ',' && forwarded.at[at - 1] != ' ') at--;
  struct mp_http_text last = {forwarded.at + at, forwarded.len - at};
  if (last.len < size && mp_text_in_set(last, ".:[]")) copy(out, last);
}

bool mp_header_timeout(const struct mp_http_message *message, double *seconds) {
  struct mp_http_text given;
  char text[24], *end;
  *seconds = 0;
  size_t n = mp_http_header(message, "request-timeout", &given);
  if (!n) return true;
  if (n > 1 || !given.len || given.len >= sizeof text) return false;
  copy(text, given);
  for (const char *p = text; *p; p++)
    if (!((*p >= '0' && *p <= '9') || *p == '.')) return false;
  *seconds = strtod(text, &end);
  return !*end && *seconds > 0 && *seconds <= 86400;
}

bool mp_header_key(const struct mp_http_message *message, char out[MP_KEY_LEN + 1]) {
  struct mp_http_text given;
  size_t n = mp_http_header(message, "idempotency-key", &given);
  out[0] = '\0';
  if (!n) return true;
  if (n > 1 || !given.len || given.len > MP_KEY_LEN) return false;
  copy(out, given);
  return true;
}

bool mp_header_is_json(const struct mp_http_message *message) {
  struct mp_http_text type;
  if (!mp_http_header(message, "content-type", &type)) return true;
  for (size_t i = 0; i < type.len; i++)
    if (type.at[i] == ';' || type.at[i] == ' ') type.len = i;
  return mp_http_text_is_nocase(type, "application/json");
}
