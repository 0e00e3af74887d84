/* failure.h: the reason of a failure with all that an error object shows, and the error objects
 * made of it. */
#ifndef MP_FAILURE_H
#define MP_FAILURE_H

#include <lua.h>

#include "pg/conn.h"
#include "sql/text.h"
#include "util/err.h"

struct mp_failure {
  struct mp_err err;
  char *message;            /* where it is longer than err holds, or NULL */
  struct mp_result *result; /* the server's report, or NULL */
  struct mp_text *text;
  char where[96], caller[96]; /* stmt.h */
};

/* An operation's own errors for constraints; registry references, borrowed, or LUA_NOREF. */
struct mp_own {
  int errors_ref; /* { constraint = { code, status, message } } */
  int input_ref;  /* the checked input, which messages take values from */
};

void mp_failure_clear(struct mp_failure *failure);
/* Pushes the error object. `own` may be NULL. [-0, +1] */
void mp_failure_push(lua_State *L, const struct mp_failure *failure, const struct mp_own *own);

/* host.own_error(e, errors, input): gives the error object e the code, status and message that
 * `errors` has for its constraint. */
int mp_failure_own_lua(lua_State *L);

#endif
