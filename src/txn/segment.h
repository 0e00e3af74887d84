/* segment.h: what a transaction sends at once: the statements that its scripts have queued, framed
 * by BEGIN and COMMIT as work->tx.frame says; or ROLLBACK. The server answers a segment as one
 * unit; on_end reports how it ended.
 *
 *   IDLE --> SENT --> IDLE               SENT: until the server has answered its end
 *    |  \     \--> TYPES --> IDLE        TYPES: answered; unknown types are asked for
 *    |   \--> UNDOING --> IDLE           UNDOING: a ROLLBACK is on its way
 *
 * Owner: the transaction. on_end never comes before the function that causes it has returned. */
#ifndef MP_SEGMENT_H
#define MP_SEGMENT_H

#include "sql/stmt.h"
#include "sql/types.h"
#include "txn/link.h"
#include "txn/witness.h"

#define MP_SEGMENT_MAP(X)                                     \
  X(IDLE, MP_TO(MP_SEGMENT_SENT) | MP_TO(MP_SEGMENT_UNDOING)) \
  X(SENT, MP_TO(MP_SEGMENT_IDLE) | MP_TO(MP_SEGMENT_TYPES))   \
  X(TYPES, MP_TO(MP_SEGMENT_IDLE))                            \
  X(UNDOING, MP_TO(MP_SEGMENT_IDLE))

enum mp_segment_state {
#define X(name, to) MP_SEGMENT_##name,
  MP_SEGMENT_MAP(X)
#undef X
};

enum mp_commit {
  MP_COMMIT_NONE,     /* the segment carries none */
  MP_COMMIT_HARMLESS, /* of work that changed nothing, or on a connection that was lost already */
  MP_COMMIT_SENT,     /* its work may be stored: only the answer tells */
};

/* How a segment ended. */
struct mp_segment_end {
  enum {
    MP_END_DONE,
    MP_END_FAILED,      /* a statement (work->failed), or the frame */
    MP_END_NOT_RUN,     /* it came behind a failed transaction: nothing of it was done */
    MP_END_LOST,        /* with its connection; what was sent is still in `batch` */
    MP_END_ROLLED_BACK, /* the answer to ROLLBACK */
  } how;
  struct mp_err err; /* FAILED, NOT_RUN, LOST */
  enum mp_commit commit;
  bool committed; /* the server has answered COMMIT with COMMIT */
};

struct mp_segment {
  struct mp_work *work;
  struct mp_link *link;
  void (*on_end)(struct mp_segment *segment, const struct mp_segment_end *end);
  enum mp_segment_state state;
  struct mp_list queue;              /* struct mp_stmt: not sent */
  struct mp_list batch;              /* sent */
  struct mp_types_question question; /* what the types of its results are */
  struct mp_req begin, set_tenant, set_timeout, set_lock_timeout, set_flush, commit, rollback;
  char timeout_sql[64], lock_timeout_sql[64];
  struct mp_sync sync;
  struct mp_witness witness;
  struct mp_err
      frame_err; /* BEGIN, a setting, the witness or COMMIT failed; code 0: they did not */
  enum mp_commit commit_state;
  bool committed;
  uint64_t number; /* of the one that was sent last, of all in this VM */
  bool only_asks;  /* all that was sent asks for parameter types: not counted as a round trip of
                      the script */
};

void mp_segment_init(struct mp_segment *segment, struct mp_work *work, struct mp_link *link,
                     void (*on_end)(struct mp_segment *segment, const struct mp_segment_end *end));
void mp_segment_fini(struct mp_segment *segment); /* IDLE */

/* Takes over the caller's reference, for the call whose script runs. */
void mp_segment_queue(struct mp_segment *segment, struct mp_stmt *stmt);
/* Nobody can look at rows of what the call has queued. */
void mp_segment_unseen(struct mp_segment *segment, const struct mp_member *member);
void mp_segment_drop_queue(struct mp_segment *segment);
static inline bool mp_segment_queued(const struct mp_segment *segment) {
  return !mp_list_empty(&segment->queue);
}
bool mp_segment_unchecked(
    const struct mp_segment *segment); /* a queued statement promises a row (tx:one) */
bool mp_segment_leaves_state(
    const struct mp_segment *segment); /* a statement that was sent left state in the session */

void mp_segment_send(struct mp_segment *segment);
void mp_segment_send_rollback(struct mp_segment *segment); /* and drops the queue */

/* Stores the results' types and drops the batch. After MP_END_LOST the owner must call it. */
void mp_segment_settle(struct mp_segment *segment);
/* Lets go of statements: those that have no result have failed. */
void mp_segment_drop(struct mp_list *statements);

/* key_result.c: the key's row gets the result of the call, as the last statement. False: it cannot
 * be kept; the call's error_ref tells. */
bool mp_segment_keep_result(struct mp_segment *segment, struct mp_member *member,
                            struct mp_err *err);

#endif
