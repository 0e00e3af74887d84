/* order.h: what a call from outside of Lua asks for, and its answer. Callers include invoke.h. */
#ifndef MP_ORDER_H
#define MP_ORDER_H

#include <stdbool.h>
#include <stddef.h>

#include "util/log.h"

struct mp_invoke_options {
  const char *name;  /* of the operation */
  const char *entry; /* NULL, or a module of the host that serves in the operation's place:
                        function(name, input, options) -> text */
  const char *input; /* JSON; NULL: {} */
  size_t input_len;
  const char *tenant, *user, *scopes; /* the caller's; NULL: not known */
  const char *key;                    /* idempotency key; NULL: none */
  double timeout_s;                   /* 0: the operation's own */
  double waited_s;                    /* part of the timeout already used since the request came */
  bool far; /* over the network: internal operations are refused, errors carry the texts of codes.h,
               without place or detail */
  bool dry_run; /* does the work, answers, and rolls back; `key` is not looked at */
  const struct mp_log_about *about; /* the ids under which the caller knows it, or NULL */
  unsigned worker;                  /* not 0: the worker that is to have it (crew.h) */
  bool settled; /* it runs where it is, whichever worker owns its lane (crew.h) */
};

struct mp_invoke_answer {
  bool ok;
  const char *text; /* JSON, terminated: the result, or the error as the caller may see it */
  size_t len;
  int status;                 /* 200, or the error's */
  const char *code, *message; /* the error's, as in `text`; NULL if ok, or far */
  const char *detail;         /* the error for a log, with SQL and traceback; NULL if ok, or far */
  unsigned generation;
  bool moved;     /* not begun: its lane belongs to another worker ... */
  unsigned owner; /* ... to this one */
};

/* Runs on the loop, outside of Lua. The answer is valid until it returns. */
typedef void (*mp_invoke_cb)(void *data, const struct mp_invoke_answer *answer);

#endif
