/* workers.h: the threads of `moonpool serve --workers N`. Each runs a runtime of its own for calls
 * that the front hands to it (ops/crew.h); settings that bound the whole host are shared out.
 *
 *   STARTING --> RUNNING --> STOPPING --> ENDED --> (joined)
 *
 * Owner: the front's runtime. Functions run on the front's thread. */
#ifndef MP_WORKERS_H
#define MP_WORKERS_H

#include "app/config.h"
#include "ops/crew.h"

struct mp_runtime;
struct mp_runtime_options;
struct mp_workers;

/* A worker's runtime, on its own thread but for `stop`, which is called on the worker's loop. */
struct mp_worker_life {
  /* Opens it and joins the crew; `front` are the front's options. */
  int (*open)(struct mp_runtime **out, const struct mp_runtime_options *front,
              const struct mp_seat *seat, struct mp_loop **loop, struct mp_err *err);
  void (*run)(struct mp_runtime *rt, unsigned worker); /* until it is stopped and drained */
  void (*stop)(struct mp_runtime *rt);
  void (*close)(struct mp_runtime *rt, unsigned worker);
};

/* Makes the crew and starts all workers but the front; returns when each of them takes calls, or
 * with the first error. `front` is the front's loop; `config` and `options` are the front's,
 * borrowed until this returns; `life` stays. `seat` is the front's: its cache is given, its crew is
 * set. */
int mp_workers_open(struct mp_workers **out, struct mp_loop *front, const struct mp_config *config,
                    const struct mp_runtime_options *options, const struct mp_worker_life *life,
                    struct mp_seat *seat, struct mp_err *err) MP_MUST_CHECK;

/* The share of worker `worker` in the settings that bound the whole host. */
void mp_workers_share(struct mp_config *config, unsigned worker);

/* Each worker ends its work within the drain timeout. */
void mp_workers_stop(struct mp_workers *workers);
/* Stops them, runs the front's loop until all have ended, and frees them; no call may be away.
 * -MP_EINTERNAL: one does not end, and the crew's memory stays in use. NULL is fine. */
int mp_workers_close(struct mp_workers *workers, struct mp_err *err);

#endif
