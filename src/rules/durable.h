/* durable.h: when is committed work safe from a crash of the server? Pure: no I/O, no clock.
 *
 * A COMMIT with `synchronous_commit = off` (a lazy one) is answered before its work is on disk, and
 * others may see the work from the moment in which that COMMIT is sent. Any synchronous commit of
 * something that writes, begun afterwards, flushes it too. So whoever did such work, or may have
 * seen it, waits for one flush that begins after he has: the next one. One is under way as long as
 * anybody waits.
 *
 *   APART --> OPENING --> IDLE <--> FLUSHING     APART: there is no connection to flush over
 *     ^__________/_________/___________/         OPENING: one is being opened
 *                                                IDLE: nobody waits
 *                                                FLUSHING: who comes now waits for the next flush
 *
 * A flush proves nothing about work from before its connection was opened: the server may have
 * crashed and started again in between. So connections are numbered (`epoch`). A wait names the one
 * that was there when its transaction sent COMMIT or ROLLBACK; when that one is gone, the wait is
 * lost, and so is perhaps the work.
 *
 * Owner: its driver (txn/wal_flush.h), or a simulator. */
#ifndef MP_DURABLE_H
#define MP_DURABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/list.h"
#include "util/sm.h"

#define MP_DURABLE_MAP(X)                                       \
  X(APART, MP_TO(MP_DURABLE_OPENING))                           \
  X(OPENING, MP_TO(MP_DURABLE_IDLE) | MP_TO(MP_DURABLE_APART))  \
  X(IDLE, MP_TO(MP_DURABLE_FLUSHING) | MP_TO(MP_DURABLE_APART)) \
  X(FLUSHING, MP_TO(MP_DURABLE_IDLE) | MP_TO(MP_DURABLE_APART))

enum mp_durable_state {
#define X(name, to) MP_DURABLE_##name,
  MP_DURABLE_MAP(X)
#undef X
};

/* A value in the caller's memory; on no list: it does not wait. */
struct mp_durable_wait {
  struct mp_list node;
  uint64_t epoch; /* of the connection that was there; 0: there was none */
  uint64_t mark;  /* lazy COMMITs that had been answered by then */
};

struct mp_durable {
  enum mp_durable_state state;
  uint64_t epoch;
  unsigned under_way; /* lazy COMMITs that were sent and have no answer yet */
  /* Lazy COMMITs, counted in the order of their answers: how many there were, the last that is
   * flushed, the last that the flush under way covers. */
  uint64_t answered, flushed, covers;
  struct mp_list next,
      current; /* struct mp_durable_wait: of the next flush; of the one under way */
};

void mp_durable_init(struct mp_durable *durable);

/* ---- its connection ---- */

bool mp_durable_open(struct mp_durable *durable); /* APART: one is to be opened now */
void mp_durable_opened(struct mp_durable *durable);
/* It could not be opened, or is gone; so are all waits, which are on the list `over` now. */
void mp_durable_lost(struct mp_durable *durable, struct mp_list *over);
static inline bool mp_durable_connected(const struct mp_durable *durable) {
  return durable->state == MP_DURABLE_IDLE || durable->state == MP_DURABLE_FLUSHING;
}

/* ---- work ---- */

void mp_durable_sent(struct mp_durable *durable);     /* a lazy COMMIT */
void mp_durable_answered(struct mp_durable *durable); /* or it was lost with its connection */
/* Could a crash undo work that others can see by now? */
bool mp_durable_pending(const struct mp_durable *durable);

/* The transaction is about to send its end. */
void mp_durable_note(const struct mp_durable *durable, struct mp_durable_wait *wait);
/* False: the wait is lost already. */
bool mp_durable_wait(struct mp_durable *durable, struct mp_durable_wait *wait);

/* ---- flushes ---- */

bool mp_durable_begin(struct mp_durable *durable); /* a flush is to be sent now */
/* It was answered; whoever waited for it is on the list `over` now. */
void mp_durable_flushed(struct mp_durable *durable, struct mp_list *over);
/* A transaction's own COMMIT has flushed what was committed when it was sent. */
void mp_durable_flushed_by(struct mp_durable *durable, const struct mp_durable_wait *wait);

#endif
