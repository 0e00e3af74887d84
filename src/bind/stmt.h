/* stmt.h: one statement of a script, from the call that queued it to its result, and what is known of a
 * failed one. A statement is reference-counted: the queue or the wire holds it, and so do its rows. */
#ifndef MP_STMT_H
#define MP_STMT_H

#include <lua.h>

#include "bind/text.h"
#include "pg/conn.h"
#include "util/list.h"

enum mp_stmt_state { MP_STMT_QUEUED, MP_STMT_SENT, MP_STMT_DONE, MP_STMT_FAILED };

struct mp_stmt {
  struct mp_req req;
  struct mp_list node; /* of the queue, then of the batch under way */
  int refs;
  enum mp_stmt_state state;
  bool one;                 /* exactly one row is promised */
  bool guessed;             /* a list was sent as JSON without knowing the parameter's type */
  struct mp_text *text;
  struct mp_result *result; /* DONE, or FAILED with what the server said */
  struct mp_err err;        /* FAILED */
  const char *missing;      /* message when `one` finds no row, or NULL */
  uint64_t sent_ns;
  void *owner;              /* of the driver that sends it */
  char where[96];           /* "scripts/create_deal.lua:41" */
};

/* Builds a statement from the Lua call on the stack: SQL text at `sql_idx`, parameters from `params_idx` on (one
 * table for $name, or the values themselves for $1). Raises INVALID_ARGUMENT naming `what`.
 * NULL: a parameter's form depends on its type: have the text described (mp_stmt_describe), then call again.
 * With `may_guess`, what is a list of JSON is sent as JSON although its parameter might be an array: that saves a
 * round trip, and where it is wrong the server refuses (22P02) and a new attempt knows better (text->ask). */
struct mp_stmt *mp_stmt_new(lua_State *L, const char *what, int sql_idx, int params_idx, bool may_guess);
struct mp_stmt *mp_stmt_insert(lua_State *L, const char *what, int table_idx, int values_idx, bool may_guess);
/* Asks for the parameter types of the text; the result fills text->types. */
struct mp_stmt *mp_stmt_describe(lua_State *L, struct mp_text *text);
/* Called by the driver when a description has arrived. */
void mp_stmt_described(struct mp_stmt *stmt);
/* `one` without a row: the message that makes it a 404; copied. */
void mp_stmt_set_missing(struct mp_stmt *stmt, const char *message);

void mp_stmt_ref(struct mp_stmt *stmt);
void mp_stmt_unref(struct mp_stmt *stmt);

/* Why something failed, with all that an error object tells. */
struct mp_failure {
  struct mp_err err;
  char code[48];            /* "" : by err */
  int status;
  struct mp_result *result; /* the server's report, or NULL */
  struct mp_text *text;
  char where[96];
};

void mp_failure_clear(struct mp_failure *failure);
/* From a failed statement, or from one whose promise of a row was broken. */
void mp_failure_of_stmt(struct mp_failure *out, struct mp_stmt *stmt);
/* Does the statement keep its promise? If not, the failure. */
bool mp_stmt_broken_promise(struct mp_stmt *stmt, struct mp_failure *out);
/* Pushes the error object; `errors_ref`: a registry reference to { constraint = { code, status } }, or LUA_NOREF. */
void mp_failure_push(lua_State *L, const struct mp_failure *failure, int errors_ref);

#endif
