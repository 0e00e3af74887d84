/* message.h: a request as its handler sees it, and an answer. Values only; the texts are borrowed
 * views, not terminated. */
#ifndef MP_HTTP_MESSAGE_H
#define MP_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

/* Everything else is refused with 501. */
#define MP_HTTP_METHOD_MAP(X) X(GET) X(HEAD) X(POST) X(PUT) X(PATCH) X(DELETE) X(OPTIONS)

enum mp_http_method {
#define X(name) MP_HTTP_##name,
  MP_HTTP_METHOD_MAP(X)
#undef X
};

struct mp_http_text {
  const char *at; /* NULL: absent */
  size_t len;
};

struct mp_http_header {
  struct mp_http_text name, value; /* blanks around the value are gone */
};

struct mp_http_message {
  enum mp_http_method method;
  int minor;                 /* of the version: HTTP/1.minor */
  struct mp_http_text path;  /* as sent (not decoded), from "/"; "*" for OPTIONS */
  struct mp_http_text query; /* behind "?"; absent without one */
  struct mp_http_text body;  /* chunks are put together */
  struct mp_http_header *headers;
  size_t headers_len;
  bool keep_alive; /* the client wants to go on with the connection */
  bool expects;    /* the client waits for "100 Continue" before it sends the body */
};

/* How many headers have this name (of ASCII letters, any case); `value` is the first one's, absent
 * if none. */
size_t mp_http_header(const struct mp_http_message *message, const char *name,
                      struct mp_http_text *value);
/* The value of the last header of that name: the nearest proxy added it. */
size_t mp_http_header_last(const struct mp_http_message *message, const char *name,
                           struct mp_http_text *value);
bool mp_http_text_is(struct mp_http_text text, const char *other); /* exactly */
bool mp_http_text_is_nocase(struct mp_http_text text, const char *other);

struct mp_http_field {
  const char *name,
      *value; /* a field with a control character in it is left out: it would split the answer */
};

struct mp_http_answer {
  int status;
  const char *content_type; /* NULL: no body, or application/json */
  /* further headers; not Date, Connection or what frames the body */
  const struct mp_http_field *fields;
  size_t fields_len;
  const char *body;
  size_t body_len;
};

const char *mp_http_reason(int status); /* "Not Found"; "" if unknown */
const char *mp_http_code(int status);   /* "NOT_FOUND", as errors of the server itself are named */

bool mp_http_is_token(unsigned char c); /* may stand in a method's or header's name */

#endif
