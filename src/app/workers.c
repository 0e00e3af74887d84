#include "app/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/sm.h"

#define WORKER_STATES(X)                                   \
  X(STARTING, MP_TO(WORKER_RUNNING) | MP_TO(WORKER_ENDED)) \
  X(RUNNING, MP_TO(WORKER_STOPPING) | MP_TO(WORKER_ENDED)) \
  X(STOPPING, MP_TO(WORKER_ENDED))                         \
  X(ENDED, 0)

enum worker_state {
#define X(name, moves) WORKER_##name,
  WORKER_STATES(X)
#undef X
};

/* After the drain timeout, for a worker to close its connections. */
enum { END_MS = 10000 };

MP_SM_TABLE(machine, "worker", WORKER_STATES, NULL);

struct worker_thread {
  struct mp_workers *workers;
  unsigned number;
  pthread_t thread;
  bool started;            /* the thread */
  enum worker_state state; /* under the lock while STARTING, then the front's */
  struct mp_err failure;   /* why it ended while STARTING */
  struct mp_runtime *rt;   /* its thread's */
  struct mp_letter stop, ended, release;
  bool released; /* its thread's: no letter comes any more */
};

struct mp_workers {
  struct mp_crew *crew;
  struct mp_loop *front;
  const struct mp_runtime_options *options; /* while they start */
  uint64_t drain_ms;
  struct mp_seat seat; /* the front's */
  const struct mp_worker_life *life;
  pthread_mutex_t lock;
  pthread_cond_t started;
  unsigned count; /* with the front */
  struct worker_thread list[];
};

static void move(struct worker_thread *worker, enum worker_state to) {
  if (mp_sm_may(&machine, worker->state, to)) worker->state = to;
}

/* ---- the settings ---- */

static uint64_t share_of(uint64_t all, unsigned workers, unsigned worker, uint64_t least) {
  uint64_t share = all / workers + (worker < all % workers);
  return all && share < least ? least : share;
}

void mp_workers_share(struct mp_config *config, unsigned worker) {
  unsigned n = (unsigned)config->workers;
  if (n < 2) return;
#define SHARE(field, least) config->field = share_of(config->field, n, worker, least)
  SHARE(pool_max, 1);
  SHARE(pool_min, 0);
  SHARE(queue_limit, 1);
  SHARE(memory_limit_mb, 16);
  SHARE(result_memory_mb, 1);
#undef SHARE
}

/* ---- a worker's thread ---- */

static void tell_started(struct worker_thread *worker, enum worker_state state) {
  struct mp_workers *workers = worker->workers;
  pthread_mutex_lock(&workers->lock);
  move(worker, state);
  pthread_cond_signal(&workers->started);
  pthread_mutex_unlock(&workers->lock);
}

static void on_ended(struct mp_letter *letter) {
  move(MP_CONTAINER_OF(letter, struct worker_thread, ended), WORKER_ENDED);
}

static void on_release(struct mp_letter *letter) {
  MP_CONTAINER_OF(letter, struct worker_thread, release)->released = true;
}

static void *run(void *data) {
  struct worker_thread *worker = data;
  struct mp_workers *workers = worker->workers;
  struct mp_crew *crew = workers->crew;
  const struct mp_worker_life *life = workers->life;
  struct mp_seat seat = workers->seat;
  seat.crew = crew;
  seat.worker = worker->number;
  struct mp_loop *loop;
  char name[16];
  snprintf(name, sizeof name, "worker %u", worker->number);
  pthread_setname_np(pthread_self(), name); /* for top and gdb */
  if (life->open(&worker->rt, workers->options, &seat, &loop, &worker->failure)) {
    tell_started(worker, WORKER_ENDED);
    return NULL;
  }
  tell_started(worker, WORKER_RUNNING);
  life->run(worker->rt, worker->number);
  /* The front may still recall calls: it says when nothing comes any more. */
  worker->ended.open = on_ended;
  mp_crew_send(crew, 0, &worker->ended);
  mp_crew_hold(crew, worker->number, true);
  while (!worker->released && mp_loop_run_once(loop, true)) {}
  mp_crew_leave(crew, worker->number);
  life->close(worker->rt, worker->number);
  return NULL;
}

/* ---- the front ---- */

/* Signals are for the front's thread. */
static int start_thread(struct worker_thread *worker, struct mp_err *err) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rv = pthread_create(&worker->thread, NULL, run, worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rv)
    return mp_err_set(err, MP_EIO, "cannot start worker %u: %s", worker->number, strerror(rv));
  worker->started = true;
  return 0;
}

/* 0: it takes calls. */
static int await_start(struct worker_thread *worker, struct mp_err *err) {
  struct mp_workers *workers = worker->workers;
  pthread_mutex_lock(&workers->lock);
  while (worker->state == WORKER_STARTING) pthread_cond_wait(&workers->started, &workers->lock);
  pthread_mutex_unlock(&workers->lock);
  if (worker->state == WORKER_RUNNING) return 0;
  *err = worker->failure;
  return -(int)err->code;
}

int mp_workers_open(struct mp_workers **out, struct mp_loop *front, const struct mp_config *config,
                    const struct mp_runtime_options *options, const struct mp_worker_life *life,
                    struct mp_seat *seat, struct mp_err *err) {
  unsigned count = (unsigned)config->workers;
  struct mp_workers *workers = calloc(1, sizeof *workers + count * sizeof *workers->list);
  if (!workers) return mp_err_set(err, MP_ENOMEM, "no memory for workers");
  workers->front = front;
  workers->options = options;
  workers->count = count;
  workers->seat = *seat;
  workers->life = life;
  workers->drain_ms = config->drain_ms;
  pthread_mutex_init(&workers->lock, NULL);
  pthread_cond_init(&workers->started, NULL);
  int rv = mp_crew_new(&workers->crew, front, count, err);
  seat->crew = workers->crew;
  for (unsigned i = 1; i < count; i++) {
    struct worker_thread *worker = &workers->list[i];
    worker->workers = workers;
    worker->number = i;
    if (!rv) rv = start_thread(worker, err);
  }
  for (unsigned i = 1; i < count; i++) {
    struct mp_err failure;
    if (!workers->list[i].started || !await_start(&workers->list[i], &failure)) continue;
    if (!rv) *err = failure;
    rv = -(int)failure.code;
  }
  struct mp_err close_err;
  if (!rv) {
    *out = workers;
    return 0;
  }
  (void)mp_workers_close(workers, &close_err);
  seat->crew = NULL;
  return rv;
}

static void on_stop(struct mp_letter *letter) {
  struct worker_thread *worker = MP_CONTAINER_OF(letter, struct worker_thread, stop);
  worker->workers->life->stop(worker->rt);
}

void mp_workers_stop(struct mp_workers *workers) {
  for (unsigned i = 1; i < workers->count; i++) {
    struct worker_thread *worker = &workers->list[i];
    if (!worker->started || worker->state != WORKER_RUNNING) continue;
    move(worker, WORKER_STOPPING);
    worker->stop.open = on_stop;
    mp_crew_send(workers->crew, i, &worker->stop);
  }
}

static bool all_ended(const struct mp_workers *workers) {
  for (unsigned i = 1; i < workers->count; i++)
    if (workers->list[i].started && workers->list[i].state != WORKER_ENDED) return false;
  return true;
}

static void on_late(struct mp_timer *timer) { (void)timer; } /* wakes the loop */

/* Runs the front's loop until all workers have ended, or the time is over. */
static bool await_end(struct mp_workers *workers) {
  struct mp_timer limit;
  mp_timer_init(&limit, workers->front, on_late);
  mp_timer_start(&limit, workers->drain_ms + END_MS);
  if (workers->crew) mp_crew_hold(workers->crew, 0, true);
  while (!all_ended(workers) && mp_timer_running(&limit) &&
         mp_loop_run_once(workers->front, true)) {}
  mp_timer_stop(&limit);
  if (workers->crew) mp_crew_hold(workers->crew, 0, false);
  return all_ended(workers);
}

int mp_workers_close(struct mp_workers *workers, struct mp_err *err) {
  if (!workers) return 0;
  mp_workers_stop(workers);
  if (!await_end(workers)) /* it may still use what they share: nothing is freed */
    return mp_err_set(err, MP_EINTERNAL, "a worker does not end; the process ends without it");
  for (unsigned i = 1; i < workers->count; i++) {
    struct worker_thread *worker = &workers->list[i];
    if (!worker->started) continue;
    worker->release.open = on_release;
    if (!worker->failure.code) mp_crew_send(workers->crew, i, &worker->release);
    pthread_join(worker->thread, NULL);
  }
  mp_loop_run_once(workers->front, false); /* their last letters */
  mp_crew_free(workers->crew);
  pthread_cond_destroy(&workers->started);
  pthread_mutex_destroy(&workers->lock);
  free(workers);
  return 0;
}
