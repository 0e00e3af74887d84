#include "svc/cors.h"

#include <stdlib.h>
#include <string.h>

/* scheme "://" host [ ":" port ], as browsers send it: lower case, without a path (RFC 6454,
 * 6.2). */
static bool is_origin(const char *text, size_t len) {
  static const char *const schemes[] = {"https://", "http://"};
  size_t at = 0;
  for (size_t i = 0; i < MP_ARRAY_LEN(schemes) && !at; i++) {
    size_t n = strlen(schemes[i]);
    if (len > n && !memcmp(text, schemes[i], n)) at = n;
  }
  if (!at || len >= MP_CORS_ORIGIN) return false;
  for (; at < len; at++) {
    char c = text[at];
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-.:[]", c))) return false;
  }
  return true;
}

int mp_cors_init(struct mp_cors *cors, const char *list, struct mp_err *err) {
  static const char blanks[] = ", \t";
  *cors = (struct mp_cors){.any = list && !strcmp(list, "*")};
  if (!list || cors->any) return 0;
  char *out = cors->origins = calloc(1, strlen(list) + 2);
  if (!out) return mp_err_set(err, MP_ENOMEM, "no memory for the list of origins");
  for (const char *at = list + strspn(list, blanks); *at; at += strspn(at, blanks)) {
    size_t len = strcspn(at, blanks);
    if (!is_origin(at, len)) {
      mp_cors_fini(cors);
      return mp_err_set(
          err, MP_EINVAL,
          "MOONPOOL_CORS_ORIGINS names \"%.*s\"; an origin is like https://desk.example or "
          "http://localhost:3000, without a path; several with commas; or * alone",
          (int)(len < 100 ? len : 100), at);
    }
    memcpy(out, at, len);
    out += len + 1;
    at += len;
  }
  return 0;
}

void mp_cors_fini(struct mp_cors *cors) {
  free(cors->origins);
  cors->origins = NULL;
  cors->any = false;
}

static bool listed(const struct mp_cors *cors, struct mp_http_text origin) {
  if (cors->any) return true;
  for (const char *at = cors->origins; *at; at += strlen(at) + 1)
    if (mp_http_text_is(origin, at)) return true;
  return false;
}

static void add(struct mp_cors_answer *out, const char *name, const char *value) {
  out->fields[out->len++] = (struct mp_http_field){name, value};
}

void mp_cors_judge(const struct mp_cors *cors, const struct mp_http_message *message,
                   struct mp_cors_answer *out) {
  struct mp_http_text origin, asked;
  out->kind = MP_CORS_PLAIN;
  out->len = 0;
  if (!cors->origins && !cors->any) return;
  if (!cors->any)
    add(out, "Vary", "Origin"); /* also without an Origin header: caches must not mix the answers */
  if (mp_http_header(message, "origin", &origin) != 1 || origin.len >= sizeof out->origin) return;
  bool preflight = message->method == MP_HTTP_OPTIONS &&
                   mp_http_header(message, "access-control-request-method", &asked);
  if (!listed(cors, origin)) {
    if (preflight) out->kind = MP_CORS_REFUSED;
    return;
  }
  memcpy(out->origin, origin.at, origin.len);
  out->origin[origin.len] = '\0';
  add(out, "Access-Control-Allow-Origin", cors->any ? "*" : out->origin);
  if (!preflight) {
    add(out, "Access-Control-Expose-Headers", "X-Request-Id, X-Call-Id, Retry-After");
    return;
  }
  out->kind = MP_CORS_PREFLIGHT;
  add(out, "Access-Control-Allow-Methods", "GET, POST");
  add(out, "Access-Control-Allow-Headers",
      "Authorization, Content-Type, Idempotency-Key, Request-Timeout, X-Request-Id, traceparent");
  add(out, "Access-Control-Max-Age", "600");
}
