/* invoke.h: calls an operation of the current generation by name, JSON text in, JSON text out: for
 * HTTP, for embedding, for the host's own jobs. No Lua value crosses from one state to another.
 *
 * The call belongs to the generation that was current when it began. It is answered once, unless it
 * is canceled, and frees itself then. */
#ifndef MP_INVOKE_H
#define MP_INVOKE_H

#include "ops/generation.h"

struct mp_invocation;

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
  const struct mp_log_about *about; /* the ids under which the caller knows it, or NULL */
};

struct mp_invoke_answer {
  bool ok;
  const char *text; /* JSON: the result, or the error as the caller may see it */
  size_t len;
  int status;         /* 200, or the error's */
  const char *detail; /* the error for a log, with SQL and traceback; NULL if ok, or far */
  unsigned generation;
};

/* Runs on the loop, outside of Lua. The answer is valid until it returns. */
typedef void (*mp_invoke_cb)(void *data, const struct mp_invoke_answer *answer);

/* MP_ECLOSED: the host is stopping, or has no generation yet. All strings are copied. */
int mp_invoke(struct mp_invocation **out, struct mp_generations *set,
              const struct mp_invoke_options *options, mp_invoke_cb on_answer, void *data,
              struct mp_err *err) MP_MUST_CHECK;
/* A new call's id, for `about`. */
void mp_invoke_new_id(struct mp_generations *set, char id[37]);
/* The caller is gone: ends the work, which rolls back unless it is committed; on_answer is not
 * called. */
void mp_invoke_cancel(struct mp_invocation *call);

/* Adds the table `generations` to "moonpool.host" on top, for lua/moonpool/generations.lua. [-0,
 * +0] */
void mp_generations_lua(lua_State *L, struct mp_generations *set);

#endif
