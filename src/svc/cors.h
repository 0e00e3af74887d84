/* cors.h: which pages of other origins may read answers in a browser (Fetch standard, 3.2 "CORS
 * protocol"). It protects users of browsers only; tokens decide who may call. */
#ifndef MP_CORS_H
#define MP_CORS_H

#include "http/message.h"
#include "util/err.h"

struct mp_cors {
  char *origins; /* one after another, each ended by a zero byte; NULL: off */
  bool any;      /* "*" */
};

/* "https://desk.example, https://desk.example:8443", or "*", or NULL. MP_EINVAL names the entry
 * that is not an origin. */
int mp_cors_init(struct mp_cors *cors, const char *list, struct mp_err *err) MP_MUST_CHECK;
void mp_cors_fini(struct mp_cors *cors);

enum { MP_CORS_FIELDS = 6, MP_CORS_ORIGIN = 300 };

enum mp_cors_kind {
  MP_CORS_PLAIN,     /* an ordinary request; `fields` go with its answer */
  MP_CORS_PREFLIGHT, /* a browser's question; answered by 204 and `fields` */
  MP_CORS_REFUSED,   /* the same, from an origin that is not in the list */
};

struct mp_cors_answer {
  enum mp_cors_kind kind;
  size_t len;
  struct mp_http_field fields[MP_CORS_FIELDS];
  char origin[MP_CORS_ORIGIN];
};

/* The request's headers are not needed afterwards. */
void mp_cors_judge(const struct mp_cors *cors, const struct mp_http_message *message,
                   struct mp_cors_answer *out);

#endif
