/* wal_flush.h: the flush of the write-ahead log that the answers of all calls share: carries out
 * what rules/durable.h says, on one connection of its own to the default database.
 *
 * A flush is a tiny commit (an update of a row of moonpool.witness, because a commit flushes only
 * if it has written something), so it waits for synchronous standbys as any other. It comes from
 * the session's own synchronous_commit.
 *
 * Owner: the runtime. Thread: the loop's. No wait ends before the function that begins it has
 * returned. */
#ifndef MP_WAL_FLUSH_H
#define MP_WAL_FLUSH_H

#include <stdatomic.h>

#include "pool/pool.h"
#include "rules/durable.h"

struct mp_wal_flush;

/* What the runtimes of one host (its workers) tell each other: each has a flush of its own, and all
 * see each other's work. Owner: the first of them. */
struct mp_flush_crew {
  atomic_uint unflushed; /* runtimes with work that a crash can undo (mp_durable_pending) */
  atomic_bool used;      /* by any of them, ever */
};

struct mp_flush_wait {
  struct mp_durable_wait wait;
  /* `lost` NULL: what was committed before the wait began is flushed. Else it may be or not. */
  void (*on_end)(struct mp_flush_wait *wait, const struct mp_err *lost);
  bool astray; /* see mp_wal_flush_astray */
};

/* `pool`: to the same database; it and `crew` outlive this. `answer_ms`: the limit for one flush.
 */
int mp_wal_flush_new(struct mp_wal_flush **out, struct mp_loop *loop, struct mp_pool *pool,
                     struct mp_flush_crew *crew, uint64_t answer_ms,
                     struct mp_err *err) MP_MUST_CHECK;
/* Closes its connection; the loop must run until mp_wal_flush_closed. May be NULL. */
void mp_wal_flush_close(struct mp_wal_flush *flush);
bool mp_wal_flush_closed(const struct mp_wal_flush *flush);
void mp_wal_flush_free(struct mp_wal_flush *flush);

/* Could a crash undo work of this host that others can see by now? May be NULL: false. */
bool mp_wal_flush_pending(const struct mp_wal_flush *flush);
/* A transaction is about to send its end (COMMIT, ROLLBACK) on `conn`. True: a shared flush can
 * cover it. Else, if anybody has ever wanted one, a connection for it is opened, for later ones. */
bool mp_wal_flush_note(struct mp_wal_flush *flush, struct mp_flush_wait *wait,
                       const struct mp_conn *conn, bool wanted);
void mp_wal_flush_sent(struct mp_wal_flush *flush); /* a COMMIT that does not flush */
void mp_wal_flush_answered(struct mp_wal_flush *flush);
/* It was lost with its connection: the server may carry it out later, and others may see that. It
 * counts as under way until the transaction's outcome is known, or given up. */
static inline void mp_wal_flush_astray(struct mp_flush_wait *wait) { wait->astray = true; }
void mp_wal_flush_settled(struct mp_wal_flush *flush, struct mp_flush_wait *wait);
/* A COMMIT that has flushed by itself was answered. */
void mp_wal_flush_own(struct mp_wal_flush *flush, const struct mp_flush_wait *wait);
/* on_end follows. -MP_ECONN: the connection that mp_wal_flush_note saw is gone; as if it had
 * followed with that error. */
int mp_wal_flush_wait(struct mp_wal_flush *flush, struct mp_flush_wait *wait,
                      struct mp_err *err) MP_MUST_CHECK;
static inline void mp_flush_wait_stop(struct mp_flush_wait *wait) {
  mp_list_remove(&wait->wait.node);
}

#endif
