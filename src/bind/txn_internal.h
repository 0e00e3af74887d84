/* txn_internal.h: struct mp_txn, for txn.c (the driver), txn_wire.c (what travels) and txn_look.c (what
 * scripts wait for). */
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
  struct mp_req begin, set_tenant, commit, rollback, lock, unlock;
  struct mp_sync sync, lock_sync, unlock_sync;
  char key_text[24];
  const char *key_values[1];
  struct mp_failure failure; /* the first of the attempt that counts */
  bool frame_failed, commit_sent,
      committed; /* BEGIN, SET or COMMIT failed; COMMIT's tag was COMMIT */
  struct mp_err frame_err;

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

#endif
