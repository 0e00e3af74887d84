/* crew.h: the workers of one host. A worker is a thread with a runtime of its own: loop, scheduler,
 * pool, generations. Worker 0 is the front: the thread that has HTTP, the control socket and the
 * host's own jobs. It hands calls to the others and answers for them.
 *
 *   front: mp_invoke --> errand.c --letter--> worker: mp_invoke --> its generation
 *   front: on_answer <-- errand.c <--letter-- worker: on_answer
 *
 * Nothing else crosses: no Lua value, no connection. The calls of a lane of width 1 run at one
 * worker (mp_crew_owner), so that one can hand its connection to the next; a call that comes to
 * another worker first is sent on when its lane is known.
 *
 * Owner: the front's runtime. The front creates the crew, the workers join it and leave it, and the
 * front frees it when all threads have ended. Functions run on the front's thread unless they say
 * otherwise. */
#ifndef MP_CREW_H
#define MP_CREW_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/mail.h"

#define MP_WORKERS_MAX 64

struct mp_cache;
struct mp_crew;
struct mp_flush_crew;
struct mp_generations;
struct mp_lanes;

/* A worker's place in the crew, for its runtime. */
struct mp_seat {
  struct mp_crew *crew;
  unsigned worker; /* 0: the front */
  /* The front's, borrowed: */
  struct mp_cache *cache;
  struct mp_lanes *lanes;
  struct mp_flush_crew *flushes;
  const char *otlp_endpoint; /* where each worker sends the traces of its calls; NULL: nowhere */
};

/* `workers` with the front among them: 2 to MP_WORKERS_MAX. */
int mp_crew_new(struct mp_crew **out, struct mp_loop *front, unsigned workers,
                struct mp_err *err) MP_MUST_CHECK;
void mp_crew_free(struct mp_crew *crew); /* NULL is fine */
unsigned mp_crew_workers(const struct mp_crew *crew);

/* The worker at which the calls of a lane of width 1 run. Any thread. */
unsigned mp_crew_owner(const struct mp_crew *crew, const char *lane, size_t len);
/* The worker that has the least to do. */
unsigned mp_crew_choose(struct mp_crew *crew);
/* A call more. Whoever answers it says so, on his thread: a worker that answers while the front is
 * busy with HTTP is free for the front's next calls. */
void mp_crew_take(struct mp_crew *crew, unsigned worker);
void mp_crew_done(struct mp_crew *crew, unsigned worker); /* any thread */

/* ---- the workers' side ---- */

/* On the worker's own thread: letters to it are opened there from now on. Before any other thread
 * sends to it. */
int mp_crew_join(struct mp_crew *crew, unsigned worker, struct mp_loop *loop,
                 struct mp_generations *set, struct mp_err *err) MP_MUST_CHECK;
/* On the worker's own thread, when nobody sends to it any more. */
void mp_crew_leave(struct mp_crew *crew, unsigned worker);
struct mp_generations *mp_crew_generations(struct mp_crew *crew,
                                           unsigned worker); /* its thread's */

/* On the worker's own thread: its loop runs on while it waits for letters. */
void mp_crew_hold(struct mp_crew *crew, unsigned worker, bool hold);

/* Any thread, while the receiver has joined. */
void mp_crew_send(struct mp_crew *crew, unsigned worker, struct mp_letter *letter);

#endif
