/* txn_internal.h: struct mp_txn, for txn.c (the driver), txn_wire.c (what travels), txn_look.c (what
 * scripts wait for) and txn_resolve.c (whether the work is committed already). */
#ifndef MP_TXN_INTERNAL_H
#define MP_TXN_INTERNAL_H

#include "bind/txn.h"

struct mp_txn {
  struct mp_bind *bind;
  struct mp_txn_options options;
  struct mp_txn_calls calls;
  void *data;
  char name[64];
  char *tenant, *set_tenant_sql; /* NULL: none */
  struct mp_tx tx;
  bool answered;
  struct mp_timer deadline, wait, cleanup;
  uint64_t started_ns, started_us;

  /* the connection */
  struct mp_lease lease;
  bool leased, waiting, refused, overdue;
  unsigned syncs_open; /* segments not answered */
  bool release_wanted, discard;
  bool
      discard_after; /* a statement left session state behind: nobody else may get the connection */
  bool lock_held;

  /* the segment under way */
  struct mp_list queue; /* struct mp_stmt: not sent */
  struct mp_list batch; /* sent */
  struct mp_req begin, set_tenant, set_timeout, set_lock_timeout, commit, rollback, lock, unlock;
  char timeout_sql[64], lock_timeout_sql[64];
  struct mp_sync sync, lock_sync, unlock_sync;
  char lock_text[24];
  const char *lock_values[1];
  struct mp_failure failure; /* the first of the attempt that counts */
  bool frame_failed, commit_sent,
      committed; /* BEGIN, SET or COMMIT failed; COMMIT's tag was COMMIT */
  struct mp_err frame_err;

  /* the witness: a row that COMMIT stores, by which a lost COMMIT is resolved; the key's row (txn_resolve.c) */
  bool changed; /* the attempt has queued something that may change data */
  struct mp_req witness, asks_witness, set_key, claim_key;
  char witness_id[37], key_id[37], input_hash[68], set_key_sql[80];
  const char *witness_values[3], *claim_values[4];
  struct mp_list lost; /* statements whose answers were lost with COMMIT's */
  int old_backend;     /* who may still be at it; 0: nobody */
  struct mp_resolve *resolve;
  bool encoded, recalled;
  char *stored; /* recalled: the text that the key kept */

  /* the script */
  struct mp_task *script;
  int tx_ref, hooks_ref;
  struct mp_token look;
  bool finished, killing, orphaned;
  int result_ref, error_ref;
  unsigned round_trips, statements;

  /* what is the same on each attempt: one seed, a count per attempt */
  unsigned char
      seed[32];        /* a key of ChaCha20: what a script draws tells nothing of what comes next */
  uint64_t stream[32]; /* its block of 256 bytes number drawn / 32 */
  uint64_t drawn;
};

/* txn.c: carries out MP_TX_DO_* bits. The transaction may be gone when it returns. */
void mp_txn_act(struct mp_txn *txn, unsigned actions);
struct mp_tx_now mp_txn_now(struct mp_txn *txn);
void mp_txn_free_if_done(struct mp_txn *txn);

/* txn_wire.c */
void mp_txn_send_segment(struct mp_txn *txn);
void mp_txn_send_rollback(struct mp_txn *txn);
/* Gives the connection back once nothing is under way on it. */
void mp_txn_release_when_quiet(struct mp_txn *txn);
void mp_txn_drop_list(struct mp_list *list);

/* txn_resolve.c */
void mp_txn_send_resolve(struct mp_txn *txn);
void mp_txn_send_witness(struct mp_txn *txn);
void mp_txn_send_key(struct mp_txn *txn); /* in front of the attempt's statements */
/* Is there a table for witnesses? It must be known before COMMIT. */
bool mp_txn_witness_unknown(const struct mp_txn *txn);
void mp_txn_ask_witness(struct mp_txn *txn);
/* Statements whose rows somebody holds are kept until it is known what became of them. */
void mp_txn_keep_lost(struct mp_txn *txn);

#endif
