#include "svc/headers.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* "10.0.0.7:4711" and "[::1]:4711" without the port; an address of IPv6 alone stays. */
static struct mp_http_text without_port(struct mp_http_text text) {
  const char *colon = text.len ? memchr(text.at, ':', text.len) : NULL;
  if (text.len && text.at[0] == '[') {
    const char *end = memchr(text.at, ']', text.len);
    if (end) return (struct mp_http_text){text.at + 1, (size_t)(end - text.at) - 1};
  } else if (colon && !memchr(colon + 1, ':', text.len - (size_t)(colon + 1 - text.at))) {
    text.len = (size_t)(colon - text.at);
  }
  return text;
}

/* Writes the address in its canonical form. False: it is not an address; nothing was written. */
static bool write_address(struct mp_http_text given, char *out, size_t size) {
  static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff}, loopback[16] = {[15] = 1};
  char text[MP_ADDRESS_SIZE];
  unsigned char bytes[16];
  socklen_t len = (socklen_t)size;
  if (!given.len || given.len >= sizeof text) return false;
  copy(text, given);
  if (inet_pton(AF_INET, text, bytes) == 1) return inet_ntop(AF_INET, bytes, out, len);
  if (inet_pton(AF_INET6, text, bytes) != 1) return false;
  if (!memcmp(bytes, mapped, sizeof mapped))
    return inet_ntop(AF_INET, bytes + sizeof mapped, out, len);
  if (!memcmp(bytes, loopback, sizeof bytes)) return inet_ntop(AF_INET6, bytes, out, len);
  memset(bytes + 8, 0, 8);
  if (!inet_ntop(AF_INET6, bytes, out, len - 3)) return false;
  strcat(out, "/64");
  return true;
}

void mp_header_address(struct mp_http_request *request, char *out, size_t size) {
  struct mp_http_text forwarded;
  char peer[MP_ADDRESS_SIZE];
  mp_http_peer(request, peer, sizeof peer);
  if (!write_address((struct mp_http_text){peer, strlen(peer)}, out, size)) out[0] = '\0';
  bool local = !strncmp(out, "127.", 4) || !strcmp(out, "::1");
  if (!local || !mp_http_header_last(&request->message, "x-forwarded-for", &forwarded)) return;
  size_t at = forwarded.len;
  while (at && forwarded.at[at - 1] != ',') at--;
  struct mp_http_text last = {forwarded.at + at, forwarded.len - at};
  while (last.len && (*last.at == ' ' || *last.at == '\t')) last.at++, last.len--;
  (void)write_address(without_port(last), out, size);
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

/* The value of the parameter `name`, absent if there is none. */
static struct mp_http_text parameter(struct mp_http_text type, const char *name) {
  size_t len = strlen(name);
  for (size_t at = 0; at + len < type.len; at++) {
    if (type.at[at] != ';') continue;
    while (at + 1 < type.len && (type.at[at + 1] == ' ' || type.at[at + 1] == '\t')) at++;
    const char *from = type.at + at + 1;
    size_t left = type.len - at - 1;
    if (left <= len || strncasecmp(from, name, len) != 0 || from[len] != '=') continue;
    struct mp_http_text value = {from + len + 1, 0};
    while (value.len < left - len - 1 && !strchr("; \t", value.at[value.len])) value.len++;
    return value;
  }
  return (struct mp_http_text){0};
}

const char *mp_header_not_json(const struct mp_http_message *message) {
  struct mp_http_text type, coding, charset;
  if (mp_http_header(message, "content-encoding", &coding) &&
      !mp_http_text_is_nocase(coding, "identity"))
    return "the body is taken as it is, without Content-Encoding: do not compress it";
  if (!mp_http_header(message, "content-type", &type)) return NULL;
  charset = parameter(type, "charset");
  if (charset.at && !mp_http_text_is_nocase(charset, "utf-8") &&
      !mp_http_text_is_nocase(charset, "\"utf-8\""))
    return "JSON is text in UTF-8: leave the charset out of Content-Type";
  for (size_t i = 0; i < type.len; i++)
    if (strchr("; \t", type.at[i])) type.len = i;
  return mp_http_text_is_nocase(type, "application/json")
             ? NULL
             : "the input is JSON: Content-Type: application/json";
}
