/* batch.h: reads of several callers as one segment on one connection. To the server a Sync costs
 * more than a read by key, so a read that is granted a connection takes further ones along.
 *
 * A segment is one transaction: a failure skips what follows, and only what is committed may be
 * handed out. So if anything fails, nothing of it counts, and each read is sent again alone. The
 * same happens to all of a segment that is not answered in some milliseconds, and to the neighbours
 * of a read that is huge or canceled; a text that is slow again and again does not share for a
 * while. The last reader that is left takes the
 * connection over, with the answer that is still due.
 *
 * Owner: itself; it is gone when its segment has ended. Thread: the loop's. */
#ifndef MP_BATCH_H
#define MP_BATCH_H

#include "pool/pool.h"
#include "sql/state.h"
#include "sql/stmt.h"

struct mp_batch;
struct mp_batch_place;
struct mp_batch_seat;

struct mp_batch_end {
  struct mp_result *result, *sync_result; /* borrowed; may be NULL */
  const struct mp_err *err, *sync_err;    /* NULL: success */
};

/* Exactly one of on_alone, on_answer and on_last is called for each seat, unless it is left before.
 * The seat is empty then. */
struct mp_batch_events {
  /* Nothing of the batch counts for this read: it is to be sent alone. */
  void (*on_alone)(struct mp_batch_seat *seat);
  /* It is answered and committed; `result` is borrowed. */
  void (*on_answer)(struct mp_batch_seat *seat, struct mp_result *result);
  /* All others are gone, and so its own failure is told too. The connection may be taken over
   * (mp_pool_pass_on), else it is released. */
  void (*on_last)(struct mp_batch_seat *seat, struct mp_lease *lease,
                  const struct mp_batch_end *end);
};

/* In the memory of whoever reads, until it is empty. */
struct mp_batch_seat {
  struct mp_batch_place *place; /* NULL: empty */
  struct mp_stmt *stmt;         /* borrowed until the seat is empty */
  const struct mp_batch_events *events;
};

/* May the text share now? */
bool mp_batch_takes(const struct mp_text *text, uint64_t now_ms);
/* How many of `waiting` reads are to share a connection. */
unsigned mp_batch_size(unsigned waiting);
/* A batch that is filled at once and then sent. NULL: no memory. */
struct mp_batch *mp_batch_new(struct mp_loop *loop);
void mp_batch_add(struct mp_batch *batch, struct mp_batch_seat *seat); /* up to mp_batch_size */
/* Takes the connection over from `lease`. */
void mp_batch_send(struct mp_batch *batch, struct mp_lease *lease);

/* The others go alone: what happens to the connection now is this seat's business only. */
void mp_batch_disperse(struct mp_batch_seat *seat);
/* The seat is empty without an event. False: it is the last one, and stays until its answer is
 * here. */
bool mp_batch_leave(struct mp_batch_seat *seat);

#endif
