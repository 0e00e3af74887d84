#include "http/message.h"

#include <string.h>
#include <strings.h>

bool mp_http_text_is(struct mp_http_text text, const char *other) {
  size_t len = strlen(other);
  return text.at && text.len == len && !memcmp(text.at, other, len);
}

bool mp_http_text_is_nocase(struct mp_http_text text, const char *other) {
  size_t len = strlen(other);
  return text.at && text.len == len && !strncasecmp(text.at, other, len);
}

size_t mp_http_header(const struct mp_http_message *message, const char *name,
                      struct mp_http_text *value) {
  size_t found = 0;
  *value = (struct mp_http_text){0};
  for (size_t i = 0; i < message->headers_len; i++) {
    if (!mp_http_text_is_nocase(message->headers[i].name, name)) continue;
    if (!found++) *value = message->headers[i].value;
  }
  return found;
}

size_t mp_http_header_last(const struct mp_http_message *message, const char *name,
                           struct mp_http_text *value) {
  size_t found = 0;
  *value = (struct mp_http_text){0};
  for (size_t i = 0; i < message->headers_len; i++) {
    if (!mp_http_text_is_nocase(message->headers[i].name, name)) continue;
    found++;
    *value = message->headers[i].value;
  }
  return found;
}

/* clang-format off */
#define STATUS_MAP(X)                                                        \
  X(200, "OK", "OK")                                                         \
  X(201, "Created", "CREATED")                                               \
  X(202, "Accepted", "ACCEPTED")                                             \
  X(204, "No Content", "NO_CONTENT")                                         \
  X(304, "Not Modified", "NOT_MODIFIED")                                     \
  X(400, "Bad Request", "BAD_REQUEST")                                       \
  X(401, "Unauthorized", "UNAUTHORIZED")                                     \
  X(403, "Forbidden", "FORBIDDEN")                                           \
  X(404, "Not Found", "NOT_FOUND")                                           \
  X(405, "Method Not Allowed", "METHOD_NOT_ALLOWED")                         \
  X(408, "Request Timeout", "REQUEST_TIMEOUT")                               \
  X(409, "Conflict", "CONFLICT")                                             \
  X(410, "Gone", "GONE")                                                     \
  X(413, "Content Too Large", "CONTENT_TOO_LARGE")                           \
  X(414, "URI Too Long", "URI_TOO_LONG")                                     \
  X(415, "Unsupported Media Type", "UNSUPPORTED_MEDIA_TYPE")                 \
  X(417, "Expectation Failed", "EXPECTATION_FAILED")                         \
  X(421, "Misdirected Request", "MISDIRECTED_REQUEST")                       \
  X(422, "Unprocessable Content", "UNPROCESSABLE_CONTENT")                   \
  X(429, "Too Many Requests", "TOO_MANY_REQUESTS")                           \
  X(431, "Request Header Fields Too Large", "HEADERS_TOO_LARGE")             \
  X(499, "Client Closed Request", "CANCELED")                                \
  X(500, "Internal Server Error", "INTERNAL_ERROR")                          \
  X(501, "Not Implemented", "NOT_IMPLEMENTED")                               \
  X(503, "Service Unavailable", "BUSY")                                      \
  X(504, "Gateway Timeout", "DEADLINE_EXCEEDED")                             \
  X(505, "HTTP Version Not Supported", "HTTP_VERSION_NOT_SUPPORTED")
/* clang-format on */

const char *mp_http_reason(int status) {
  switch (status) {
#define X(number, reason, code) \
  case number: return reason;
    STATUS_MAP(X)
#undef X
    default: return "";
  }
}

const char *mp_http_code(int status) {
  switch (status) {
#define X(number, reason, code) \
  case number: return code;
    STATUS_MAP(X)
#undef X
    default: return "ERROR";
  }
}

bool mp_http_is_token(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c && strchr("!#$%&'*+-.^_`|~", c));
}
