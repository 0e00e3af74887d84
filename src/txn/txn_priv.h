/* txn_priv.h: struct mp_txn, for txn.c (the driver), segment.c (what travels), look.c
 * (what scripts wait for) and outcome.c (whether the work is committed already). */
#ifndef MP_TXN_INTERNAL_H
#define MP_TXN_INTERNAL_H

#include "sql/types.h"
#include "txn/link.h"
#include "txn/txn.h"

/* One call of a transaction: its script, what it drew, and what it will hear. A transaction has
 * one; a group has several, whose scripts run one after another, each in a savepoint of its own.
 *
 *   WAITING --> RUNNING --> RETURNED          FAILED: its work is undone, the others' is not
 *      ^           |  \______/   |            A new attempt starts with all of them WAITING.
 *      \___________|_____________|
 *                  \--> FAILED <-/ */
enum mp_member_state {
  MP_MEMBER_WAITING,
  MP_MEMBER_RUNNING,
  MP_MEMBER_RETURNED,
  MP_MEMBER_FAILED,
  MP_MEMBER_GONE, /* has its answer */
};

struct mp_member {
  struct mp_list node; /* of txn->members, in the order in which they run */
  struct mp_txn *txn;
  struct mp_txn_options options;
  void *data; /* the caller's */
  char name[64];
  char *tenant, *set_tenant_sql; /* NULL: none */
  enum mp_member_state state;
  struct mp_timer deadline;
  bool overdue; /* its deadline passed, but the pool's own answer was due too */
  bool late;    /* ... while COMMIT was under way */
  uint64_t started_ns, started_us;

  struct mp_task *script;
  bool finished; /* the script has returned */
  bool changed;  /* it has queued something that may change data */
  int tx_ref, hooks_ref, result_ref, error_ref;
  struct mp_stmt *savepoint;         /* in a group: while it is queued; borrowed */
  unsigned fault_number, fault_sent; /* fault.h; 0: nobody counts */

  char key_id[37], input_hash[68], set_key_sql[80];
  bool encoded, recalled; /* the result's text is made; it comes from the key's row */
  char *stored;           /* that text */

  /* What is the same on each attempt: one seed, a count per attempt. A key of ChaCha20: what a
   * script draws tells nothing of what comes next. */
  unsigned char seed[32];
  uint64_t stream[32]; /* its block of 256 bytes number drawn / 32 */
  uint64_t drawn;
};

/* Statements of the host's own, for transactions of several calls. */
enum mp_control {
  MP_CONTROL_SAVEPOINT,
  MP_CONTROL_RELEASE,
  MP_CONTROL_UNDO,
  MP_CONTROL_WITNESS,
  MP_CONTROLS
};

/* What the transactions of one VM share. */
struct mp_txns {
  struct mp_text *controls[MP_CONTROLS]; /* NULL until needed */
  void *spare[32];                       /* blocks of transactions that are over */
  size_t nspare;
  struct mp_fault *fault; /* fault.h; NULL unless a spec wants something to fail */
};

struct mp_txn {
  struct mp_host *host;
  uint64_t purse;                /* of the budget for retries: the first call's */
  struct mp_txn_options options; /* the first member's, for what all have in common */
  struct mp_txn_calls calls;
  struct mp_tx tx;
  bool answered;
  struct mp_timer backoff; /* then the next attempt may ask for a connection */
  struct mp_timer grace;   /* then COMMIT's outcome is told as unknown */
  struct mp_timer
      orphaned; /* the coroutine that waited for statements was ended: told on the next turn */

  struct mp_member first;
  struct mp_list members;
  struct mp_member *m; /* whose script runs, or ran last */
  unsigned nmembers;
  bool grouped, closing; /* several members; all have returned and their last statements are seen */
  uint64_t group_until_ms;
  const char *tenant_in_force; /* a member's set_tenant_sql; borrowed */

  struct mp_link link;

  /* the segment under way */
  struct mp_list queue;              /* struct mp_stmt: not sent */
  struct mp_list batch;              /* sent */
  struct mp_types_question question; /* what the types of its results are */
  bool asking;                       /* it only asks for the types of a text's parameters */
  struct mp_req begin, set_tenant, set_timeout, set_lock_timeout, commit, rollback;
  char timeout_sql[64], lock_timeout_sql[64];
  struct mp_sync sync;
  struct mp_failure failure;       /* the first of the attempt that counts */
  struct mp_member *failed_member; /* whose it is; NULL: nobody's in particular */
  unsigned failed_depth;           /* of savepoints */
  bool control_failed;             /* it is a statement of the host's own */
  bool frame_failed, commit_sent,
      committed; /* BEGIN, SET or COMMIT failed; COMMIT's tag was COMMIT */
  struct mp_err frame_err;

  /* the witness: a row that COMMIT stores, by which a lost COMMIT is resolved; the key's row
   * (outcome.c) */
  struct mp_req witness, asks_witness, set_key, claim_key;
  char witness_id[37]; /* in a group: one of them */
  const char *witness_values[3], *claim_values[4];
  struct mp_list lost; /* statements whose answers were lost with COMMIT's */
  int old_backend;     /* who may still be at it; 0: nobody */
  uint64_t old_opened_ms;
  struct mp_resolve *resolve;

  /* the script that waits */
  struct mp_token look;
  bool killing;
  unsigned round_trips, statements;
};

/* txns.c */
struct mp_txn *mp_txns_alloc(struct mp_txns *txns); /* zeroes; NULL: no memory */
void mp_txns_free(struct mp_txns *txns, struct mp_txn *txn);

/* txn.c: carries out MP_TX_DO_* bits. The transaction may be gone when it returns. */
void mp_txn_act(struct mp_txn *txn, unsigned actions);
void mp_txn_script_done(struct mp_task *task, lua_State *co, bool ok, void *data);
void mp_txn_script_killed(struct mp_txn *txn);     /* by others than the transaction */
void mp_txn_member_late(struct mp_member *member); /* its deadline has passed */
bool mp_txn_unchecked(const struct mp_txn *txn);   /* a promise of a row is among what is queued */
struct mp_tx_now mp_txn_now(struct mp_txn *txn);
uint64_t mp_txn_purse(const struct mp_txn_options *options);
/* COMMIT was answered, or is `lost` with its connection: the one behind has the connection now.
 * Returns what is left to do of `actions`. */
unsigned mp_txn_hand_over(struct mp_txn *txn, bool lost, unsigned actions);
/* What log lines of the call whose script runs, or ran last, are about. */
static inline const struct mp_log_about *mp_txn_about(const struct mp_txn *txn) {
  return mp_label_about(mp_flight_label(txn->m->options.flight));
}

/* segment.c */
void mp_txn_send_segment(struct mp_txn *txn);
void mp_txn_send_rollback(struct mp_txn *txn);
void mp_txn_drop_list(struct mp_list *list);

/* member.c */
int mp_member_init(struct mp_member *member, struct mp_txn *txn,
                   const struct mp_txn_options *options, void *data,
                   struct mp_err *err) MP_MUST_CHECK;
void mp_member_fini(struct mp_member *member);
void mp_member_reset(struct mp_member *member); /* nothing of an attempt before counts any more */
void mp_member_unref(struct mp_member *member, int *ref);
/* Starts its script as a task. False: no memory for that. */
bool mp_member_run(struct mp_member *member);
void mp_member_over(struct mp_member *member); /* the script is: its tx is good for nothing more */
void mp_member_kill(struct mp_member *member);
/* Calls `fn` protected with `argument`, which mp_member_argument gives it; its stack is empty then.
 * False: it raised, and that is logged. */
bool mp_member_pcall(struct mp_member *member, lua_CFunction fn, void *argument);
void *mp_member_argument(lua_State *L);
void mp_member_set_ref(lua_State *L, int *ref); /* to what is on top, which goes [-1, +0] */
/* answer.c: sets error_ref to what the caller shall hear: the script's own error if there is one,
 * else `err`. */
void mp_member_make_error(struct mp_member *member, const struct mp_err *err);
/* The key's row gets the result, as the last statement. False: it cannot be kept; error_ref
 * tells. */
bool mp_member_keep_result(struct mp_member *member, struct mp_err *err);

/* answer.c */
/* Tells the caller; `err` unless committed. */
void mp_member_answer(struct mp_member *member, enum mp_tx_outcome outcome,
                      const struct mp_err *err);
/* Tells the caller to do it again, without a group. */
void mp_member_retry_ungrouped(struct mp_member *member);

/* group.c */
/* The first script of an attempt starts. */
bool mp_txn_start_scripts(struct mp_txn *txn);
/* In a group: the script returned, raised, or what it had queued has been seen. */
void mp_txn_member_returned(struct mp_txn *txn);
void mp_txn_member_failed(struct mp_txn *txn);
/* An earlier member's statement failed while another's script was at work. */
void mp_txn_earlier_failed(struct mp_txn *txn);
/* The member will not be waited for any more; the others go on, from the top if its work was
 * begun. */
void mp_txn_drop_member(struct mp_member *member, const struct mp_err *err);

/* outcome.c */
unsigned mp_txn_send_resolve(struct mp_txn *txn); /* MP_TX_DO_*: it cannot be sent */
void mp_txn_send_witness(struct mp_txn *txn);
void mp_txn_send_key(struct mp_txn *txn); /* in front of the attempt's statements */
/* Is there a table for witnesses? It must be known before COMMIT. */
bool mp_txn_witness_unknown(const struct mp_txn *txn);
bool mp_txn_witness_there(const struct mp_txn *txn); /* and the transaction leaves one */
void mp_txn_ask_witness(struct mp_txn *txn);
/* Statements whose rows somebody holds are kept until it is known what became of them. */
void mp_txn_keep_lost(struct mp_txn *txn);

#endif
