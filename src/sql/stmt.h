/* stmt.h: one statement of a script, from the call that queued it to its result, and what is known
 * of a failed one. A statement is reference-counted: the queue or the wire holds it, and so do its
 * rows. */
#ifndef MP_STMT_H
#define MP_STMT_H

#include <lua.h>

#include "pg/conn.h"
#include "script/charge.h"
#include "sql/failure.h"
#include "sql/text.h"
#include "util/list.h"

struct mp_types;

enum mp_stmt_state { MP_STMT_QUEUED, MP_STMT_SENT, MP_STMT_DONE, MP_STMT_FAILED };

struct mp_stmt;
/* What a lazy row asks of the driver that its statement is queued at. */
struct mp_stmt_driver {
  /* Sends what is queued and continues with `k` when this statement is answered. Suspends; to be
   * returned. */
  int (*flush)(lua_State *L, struct mp_stmt *stmt, lua_KFunction k);
};

struct mp_stmt {
  struct mp_req req;
  struct mp_list node; /* of the queue, then of the batch under way */
  int refs;
  enum mp_stmt_state state;
  bool one;                /* the script expects exactly one row */
  struct mp_charge charge; /* what it takes itself */
  bool refused;            /* the rows were too large; reading them raises `err` */
  bool control;            /* the host's own: a savepoint's */
  bool unseen;             /* see mp_stmt_unseen */
  bool patient;            /* it may take long: not reported as slow */
  struct mp_text *text;
  size_t bytes;             /* of its values, without the statement itself */
  struct mp_result *result; /* DONE, or FAILED with what the server said */
  /* Its row in a result that `shared` inserts have in common; shared 0: the result is its own. */
  unsigned row, shared;
  unsigned depth;      /* of savepoints, where it was queued */
  const char *missing; /* message when `one` finds no row, or NULL; in the same block */
  uint64_t sent_ns;
  /* NULL: its rows are not lazy, or its driver has let go of it */
  const struct mp_stmt_driver *driver;
  void *owner;       /* the driver's own */
  unsigned types_of; /* of a description: mp_types_id of its database */
  void *part;        /* the driver's: the call that it belongs to */
  /* When FAILED, or refused. Behind what each statement has: its texts are not even cleared. */
  struct mp_err err;
  char where[96];  /* "scripts/create_deal.lua:41" */
  char caller[96]; /* of a module that `where` is in; or "" */
};

/* Builds a statement of `text` from the Lua call on the stack: parameters from `params_idx` on (one
 * table for $name, or the values themselves for $1). Raises INVALID_ARGUMENT naming `what`.
 * `types`: of the database (types.h); NULL for a text of mp_text_own, or without parameters.
 * NULL: a parameter's form depends on its type: have the text described (mp_stmt_describe), then
 * call again. */
struct mp_stmt *mp_stmt_new(lua_State *L, const char *what, struct mp_types *types,
                            struct mp_text *text, int params_idx);
/* The same for a statement that must give one row; `missing`: the message of the 404 if there is
 * none, or NULL. */
struct mp_stmt *mp_stmt_one(lua_State *L, const char *what, struct mp_types *types,
                            struct mp_text *text, int params_idx, const char *missing);
/* A statement of the host's own; the values are copied. NULL: no memory. Does not raise. */
struct mp_stmt *mp_stmt_control(struct mp_text *text, int nparams, const char *const *values);
/* Asks for the parameter types of the text; the result fills text->types. */
struct mp_stmt *mp_stmt_describe(lua_State *L, const struct mp_types *types, struct mp_text *text);
static inline bool mp_stmt_asks(const struct mp_stmt *stmt) {
  return stmt->req.flags & MP_REQ_DESCRIBE;
}
/* Nobody can look at its row any more. An insert of the host's writing then goes without RETURNING:
 * half of what it costs the server is spared. Before it is sent. */
void mp_stmt_unseen(struct mp_stmt *stmt);
struct mp_host;
/* No statement is being built: the buffer for parameters is free again, also when building raised.
 */
void mp_stmt_scratch_free(struct mp_host *host);
/* The server's answer has come: settles the state and keeps the result. */
void mp_stmt_answer(struct mp_host *host, struct mp_stmt *stmt, struct mp_result *result,
                    const struct mp_err *err);

void mp_stmt_ref(struct mp_stmt *stmt);
void mp_stmt_unref(struct mp_stmt *stmt);
void mp_stmt_let_go(struct mp_stmt *stmt); /* the driver lets go: a row that holds the statement no
                                              longer finds the driver */

/* From a failed statement, or from one whose promise of a row was broken. */
void mp_failure_of_stmt(struct mp_failure *out, struct mp_stmt *stmt);
/* True if two columns have the same name; columns are read by name, so one would be hidden. `err`
 * names them. */
bool mp_stmt_names_clash(const PGresult *pg, struct mp_err *err);
/* Raises why the statement has no rows: it failed, or it was never sent. */
MP_NORETURN void mp_stmt_raise(lua_State *L, struct mp_stmt *stmt);
/* True if the statement should have given one row and did not; `out` gets the failure. */
bool mp_stmt_broken_promise(struct mp_stmt *stmt, struct mp_failure *out);
/* An insert of the host's writing that stored no row: a trigger or a rule kept it away. Only a
 * script that reads its row gets an error. */
bool mp_stmt_swallowed(struct mp_stmt *stmt, struct mp_failure *out);
#endif
