/* options.h: what a transaction is started with, what it calls back for while it runs, and what
 * each call is answered. */
#ifndef MP_TXN_OPTIONS_H
#define MP_TXN_OPTIONS_H

#include <lauxlib.h>

#include "rules/attempts.h"
#include "sql/failure.h"
#include "sql/state.h"
#include "watch/recorder.h"

struct mp_txn;

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
  bool merge;               /* inserts of many rows may go as one statement (merge.h) */
  bool shared_flush;        /* its COMMIT leaves the flush to a shared one (rules/durable.h) */
  bool restricted;          /* an operation: only statements that an operation may send */
  uint64_t statement_timeout_ms,
      lock_timeout_ms; /* for this transaction; 0: as the session has it */
  uint64_t purse;      /* of the budget for retries (rules/budget.h); 0: by name and tenant */
  /* The call's idempotency key, NULL: none. The key's row is `key_id` (a UUID) and keeps the
   * result, for which the script gives a text; it stands for the input whose hash (text) is
   * `input_hash`. Both copied. */
  const char *key_id, *input_hash;
  /* The script's limits; all 0: a trusted script. Its hooks get the same limits once more. wall_ms:
   * for tasks that the script leaves running, and for hooks. */
  struct mp_task_limits limits;
  /* Those of the task that starts the transaction (an operation's call, or what that has started);
   * the script and its hooks share its limits. Both NULL: no
   * such task. Borrowed; references are taken. */
  struct mp_scope *scope;
  struct mp_account *account;
  unsigned group;    /* this many calls may share a transaction (mp_txn_calls.join); 0, 1: none */
  uint64_t group_ms; /* no call joins later than this after the first began */
};

/* What one call is told, once. */
struct mp_txn_answer {
  enum mp_tx_outcome outcome;
  struct mp_err err; /* unless committed: why */
  /* A registry reference: the script's first result if committed, else the error object. Freed
   * after on_answer, unless on_answer took it (mp_txn_answer_take). */
  int ref;
  unsigned attempts, round_trips,
      statements; /* the last two: of the last attempt, BEGIN to COMMIT */
  unsigned retries_serialization, retries_deadlock, retries_connection;
  enum mp_tx_retries retry_refused; /* MP_TX_MAY_RETRY: none was */
  unsigned group;                   /* calls that shared the transaction */
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
  /* Another call that may share the transaction of the call `data`, the last that joined: fills in
   * its options and gives its data, or NULL. May be NULL. */
  void *(*join)(struct mp_txn *txn, void *data, struct mp_txn_options *options);
  /* COMMIT of the call `data` is on its way, and another transaction may be started behind it, with
   * mp_txn_start_behind. May be NULL. */
  void (*committing)(struct mp_txn *txn, void *data);
  /* The call `data` only waits for the shared flush: all that its transaction held is free.
   * `conflicts`: retries because of other transactions. May be NULL. */
  void (*over)(void *data, unsigned conflicts);
  /* The answer to the call `data`, which has nothing to do with the transaction any more. */
  void (*on_answer)(void *data, struct mp_txn_answer *answer);
};

#endif
