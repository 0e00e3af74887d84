/* work.h: what the parts of one transaction share: what was asked, how far its attempts are, its
 * calls, and why it failed. It decides nothing. */
#ifndef MP_TXN_WORK_H
#define MP_TXN_WORK_H

#include "txn/options.h"
#include "txn/wal_flush.h"
#include "util/list.h"
#include "util/sm.h"

struct mp_member;
struct mp_member_events;

/* The first failure of an attempt that counts, and whose it is. */
struct mp_work_failure {
  struct mp_failure failure;
  struct mp_member *member; /* NULL: of no single call */
  unsigned depth;           /* of savepoints */
  bool by_host;             /* a statement of the host's own failed */
};

/* How many calls the transaction serves.
 *
 *   SOLO --> OPEN --> CLOSING --> OPEN     SOLO: one call. OPEN: several, one after another
 *                                          CLOSING: all have returned; the last answers are due */
#define MP_GROUP_MAP(X)            \
  X(SOLO, MP_TO(MP_GROUP_OPEN))    \
  X(OPEN, MP_TO(MP_GROUP_CLOSING)) \
  X(CLOSING, MP_TO(MP_GROUP_OPEN))

enum mp_group_state {
#define X(name, to) MP_GROUP_##name,
  MP_GROUP_MAP(X)
#undef X
};

struct mp_work {
  struct mp_host *host;
  struct mp_txn *txn;            /* for the `tx` of scripts; opaque to the parts */
  uint64_t purse;                /* of the budget for retries: the first call's */
  struct mp_txn_options options; /* the first call's, for what all have in common */
  struct mp_txn_calls calls;
  struct mp_tx tx;
  struct mp_list members; /* struct mp_member, in the order in which they run */
  struct mp_member *m;    /* whose script runs, or ran last */
  const struct mp_member_events *member_events;
  unsigned nmembers;
  enum mp_group_state group; /* group.h moves it */
  bool savepoints;           /* in a group: each script of this attempt runs in one */
  struct mp_work_failure failed;
  /* merge.h. MOVED: in this attempt inserts went before earlier statements. OFF: each statement
   * goes by itself and in its place from now on, because one of the others has failed. */
  enum { MP_MERGE_ON, MP_MERGE_MOVED, MP_MERGE_OFF } merging;
  unsigned round_trips, statements; /* of this attempt */
  struct mp_flush_wait flush;       /* its wait for the shared flush */
};

uint64_t mp_work_purse(const struct mp_txn_options *options);
struct mp_tx_now mp_work_now(const struct mp_work *work);
static inline uint64_t mp_work_now_ms(const struct mp_work *work) {
  return mp_loop_now_ms(work->host->loop);
}
static inline bool mp_work_grouped(const struct mp_work *work) {
  return work->group != MP_GROUP_SOLO;
}
/* Several scripts of which none can be undone by itself: if one fails, the attempt starts again
 * with savepoints. */
static inline bool mp_work_bound(const struct mp_work *work) {
  return mp_work_grouped(work) && !work->savepoints;
}
/* For the answer to one question about a lost COMMIT: a part of what is left, so that another
 * connection can be asked when this one is silent. */
uint64_t mp_work_question_ms(const struct mp_work *work);
/* That of the database that it works in; NULL: it has none. */
struct mp_wal_flush *mp_work_wal_flush(const struct mp_work *work);
void mp_work_forgive(struct mp_work *work); /* nothing has failed */

#endif
