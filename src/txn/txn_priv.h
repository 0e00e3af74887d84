/* txn_priv.h: struct mp_txn, for txn.c (the driver), segment.c (what travels), look.c
 * (what scripts wait for) and outcome.c (whether the work is committed already). */
#ifndef MP_TXN_INTERNAL_H
#define MP_TXN_INTERNAL_H

#include "sql/types.h"
#include "txn/answer.h"
#include "txn/link.h"
#include "txn/txn.h"
#include "txn/txns.h"

struct mp_txn {
  struct mp_work work;
  struct mp_link link;
  struct mp_member first;
  bool answered;
  struct mp_timer backoff; /* then the next attempt may ask for a connection */
  struct mp_timer grace;   /* then COMMIT's outcome is told as unknown */
  struct mp_timer
      orphaned; /* the coroutine that waited for statements was ended: told on the next turn */

  bool grouped, closing; /* several members; all have returned and their last statements are seen */
  uint64_t group_until_ms;
  const char *tenant_in_force; /* a member's set_tenant_sql; borrowed */

  /* the segment under way */
  struct mp_list queue;              /* struct mp_stmt: not sent */
  struct mp_list batch;              /* sent */
  struct mp_types_question question; /* what the types of its results are */
  bool asking;                       /* it only asks for the types of a text's parameters */
  struct mp_req begin, set_tenant, set_timeout, set_lock_timeout, commit, rollback;
  char timeout_sql[64], lock_timeout_sql[64];
  struct mp_sync sync;
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
};

/* txn.c: carries out MP_TX_DO_* bits. The transaction may be gone when it returns. */
void mp_txn_act(struct mp_txn *txn, unsigned actions);
bool mp_txn_unchecked(const struct mp_txn *txn); /* a promise of a row is among what is queued */
/* COMMIT was answered, or is `lost` with its connection: the one behind has the connection now.
 * Returns what is left to do of `actions`. */
unsigned mp_txn_hand_over(struct mp_txn *txn, bool lost, unsigned actions);
/* segment.c */
void mp_txn_send_segment(struct mp_txn *txn);
void mp_txn_send_rollback(struct mp_txn *txn);
void mp_txn_drop_list(struct mp_list *list);

/* keep.c: the key's row gets the result, as the last statement. False: it cannot be kept; error_ref
 * tells. */
bool mp_member_keep_result(struct mp_member *member, struct mp_err *err);

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
