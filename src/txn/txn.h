/* txn.h: drives one transaction: does with a pooled connection and a script's tasks what
 * rules/attempts.h decides.
 *
 * Each attempt is a fresh task with a fresh `tx`. The script's statements are queued here; a look
 * sends them. Owner: itself. It answers exactly once, and frees itself when the connection has been
 * given back too, which may be later (a cancel, a rollback). */
#ifndef MP_TXN_H
#define MP_TXN_H

#include <lauxlib.h>

#include "rules/attempts.h"
#include "sql/state.h"
#include "sql/stmt.h"
#include "watch/recorder.h"

struct mp_txn;

/* txn's part of one VM. Raises. */
void mp_txns_open(struct mp_host *host, lua_State *L);
void mp_txns_fini(struct mp_host *host);

struct mp_txn_options {
  struct mp_pool *pool; /* NULL: the default database's */
  struct mp_tx_options tx;
  const char *name;         /* shown in reports: "create_deal"; copied */
  const char *tenant_field; /* the setting app.<field> ... */
  const char *tenant;       /* ... is set to this for the transaction; NULL: none. Both copied. */
  bool lock; /* hold the session lock `lock_key` around the transaction, so that other hosts' ... */
  int64_t lock_key; /* ... work under the same key waits instead of colliding */
  struct mp_own own;
  int caller_ref;           /* registry reference of the table tx.caller, or LUA_NOREF; borrowed */
  struct mp_flight *flight; /* where the call is recorded, or NULL; a reference is taken */
  bool restricted;          /* an operation: only statements that an operation may send */
  uint64_t statement_timeout_ms,
      lock_timeout_ms; /* for this transaction; 0: as the session has it */
  uint64_t purse;      /* of the budget for retries (rules/budget.h); 0: by name and tenant */
  /* The call's idempotency key, NULL: none. The key's row is `key_id` (a UUID) and keeps the
   * result; it stands for the input whose hash (text) is `input_hash`. Both copied. */
  const char *key_id, *input_hash;
  /* Of the script, all 0: a trusted one; its hooks get the same anew. wall_ms: of what it leaves
   * behind, and of hooks. */
  struct mp_task_limits limits;
  /* Of the task that asks for it, whose limits the script and its hooks then share: an operation's
   * call, or what it has started. Both NULL: nobody's. Borrowed; references are taken. */
  struct mp_scope *scope;
  struct mp_account *account;
  unsigned group;    /* this many calls may share a transaction (mp_txn_calls.join); 0, 1: none */
  uint64_t group_ms; /* nobody joins later than this after the first began */
};

/* What one call is told, once. */
struct mp_txn_answer {
  enum mp_tx_outcome outcome;
  struct mp_err err; /* unless committed: why */
  /* Of the registry: committed: the script's first result; else the error object. It is given back
   * after on_answer, unless that took it (mp_txn_answer_take). */
  int ref;
  unsigned attempts, round_trips,
      statements; /* the last two: of the last attempt, BEGIN to COMMIT */
  unsigned retries_serialization, retries_deadlock, retries_connection;
  unsigned group;       /* calls that shared the transaction */
  bool retry_ungrouped; /* they share a failure that may be one call's alone: do it again, without
                         * the others. Nothing else of the answer counts. */
  bool recalled;        /* the key was used before: the answer is the text that it kept */
  bool resolved;        /* a COMMIT was lost, and its outcome found out */
  uint64_t duration_us;
};
static inline int mp_txn_answer_take(struct mp_txn_answer *answer) {
  int ref = answer->ref;
  answer->ref = LUA_NOREF;
  return ref;
}
/* "committed" …: static storage */
const char *mp_txn_outcome_text(const struct mp_txn_answer *answer);

struct mp_txn_calls {
  /* Pushes the script's function and its arguments (without tx, which comes first); returns how
   * many. Called protected, once per attempt: what it gives must be fresh each time. */
  int (*push_script)(lua_State *L, void *data);
  /* With a key: the script's result is on top; replaces it by the text that the key keeps. Called
   * protected. */
  void (*encode_result)(lua_State *L, void *data);
  /* Another call that may share the transaction of the call `data`, the last that joined: fills in
   * its options and gives its data, or NULL. May be NULL. */
  void *(*join)(struct mp_txn *txn, void *data, struct mp_txn_options *options);
  /* COMMIT of the call `data` is on its way, and another transaction may be started behind it, with
   * mp_txn_start_behind. May be NULL. */
  void (*committing)(struct mp_txn *txn, void *data);
  /* The answer to the call `data`, which has nothing to do with the transaction any more. */
  void (*on_answer)(void *data, struct mp_txn_answer *answer);
};

int mp_txn_start(struct mp_txn **out, struct mp_host *host, const struct mp_txn_options *options,
                 const struct mp_txn_calls *calls, void *data, struct mp_err *err) MP_MUST_CHECK;
/* The same, at once, on the connection of `before`, in whose `committing` we are; if
 * mp_txn_fits_behind. */
int mp_txn_start_behind(struct mp_txn **out, struct mp_txn *before,
                        const struct mp_txn_options *options, const struct mp_txn_calls *calls,
                        void *data, struct mp_err *err) MP_MUST_CHECK;
bool mp_txn_fits_behind(const struct mp_txn *txn, const struct mp_txn_options *options);
/* The caller `data` went away. on_answer comes, mostly before it returns; while COMMIT is under way
 * when that is over. */
void mp_txn_abort(struct mp_txn *txn, void *data, const struct mp_err *err);

/* ---- for the Lua side ---- */

/* The transaction whose script runs on L, or NULL. */
struct mp_txn *mp_txn_of(lua_State *L);
/* Raises unless `txn` can take statements from the code on L: it is over, or another task's, or
 * doomed. */
void mp_txn_check(lua_State *L, struct mp_txn *txn, const char *what);
/* Queues; takes over the caller's reference. */
void mp_txn_queue(struct mp_txn *txn, struct mp_stmt *stmt);
/* Asks for the types of the parameters of `text`, then continues with k. What is queued stays
 * queued, but for what is in front of the last savepoint: the question must not fail outside of it.
 * Not counted as a round trip: the first use of a text on a host is as any other. */
int mp_txn_ask_types(lua_State *L, struct mp_txn *txn, const char *what, struct mp_text *text,
                     lua_KContext ctx, lua_KFunction k);
/* Sends what is queued and continues with k when it has been answered, at once if nothing is queued
 * or under way. A failed transaction raises its error instead. `return mp_txn_look(...)`. */
int mp_txn_look(lua_State *L, struct mp_txn *txn, const char *what, lua_KContext ctx,
                lua_KFunction k);
/* The same, but k runs in any case; it looks for itself whether the transaction is doomed. */
int mp_txn_look_anyway(lua_State *L, struct mp_txn *txn, const char *what, lua_KContext ctx,
                       lua_KFunction k);
/* Pushes the error of a doomed transaction. [-0, +1] */
void mp_txn_push_failure(lua_State *L, struct mp_txn *txn);
/* The innermost savepoint is being undone: forgets what failed since and what is queued. True if
 * the server has seen the savepoint and must roll back to it. */
bool mp_txn_undo_savepoint(struct mp_txn *txn);
bool mp_txn_restricted(const struct mp_txn *txn);
unsigned mp_txn_attempt(const struct mp_txn *txn);
const struct mp_txn_options *mp_txn_options(const struct mp_txn *txn);
struct mp_tx *mp_txn_machine(struct mp_txn *txn); /* for savepoints */
/* Pushes the table { after_commit = {...}, on_rollback = {...} } of the attempt. [-0, +1] */
void mp_txn_push_hooks(lua_State *L, struct mp_txn *txn);
/* What tx:now, tx:uuid and tx:random give: the n-th draw is the same on each attempt. */
uint64_t mp_txn_started_us(const struct mp_txn *txn);
void mp_txn_uuid(struct mp_txn *txn, int version, char out[37]); /* version 4 or 7 */
double mp_txn_random(struct mp_txn *txn);
/* Of the database that it speaks to. */
struct mp_types *mp_txn_types(const struct mp_txn *txn);
bool mp_txn_queued(const struct mp_txn *txn);

/* tx.c: the transaction behind argument 1, a tx that is good; else it raises. */
struct mp_txn *mp_txn_of_tx(lua_State *L, const char *what);
/* Pushes the tx of the running attempt, or nil outside of a transaction. [-0, +1] */
void mp_tx_lua_current(lua_State *L);
/* tx.c: the userdata that scripts get; emptied when the attempt is over. */
void mp_tx_lua_push(lua_State *L, struct mp_txn *txn); /* [-0, +1] */
void mp_tx_lua_empty(lua_State *L, int ref);

/* guard.c: replaces the globals pcall and xpcall. [-0, +0] */
void mp_guard_open(lua_State *L);

#endif
