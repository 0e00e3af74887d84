/* loop.h: one libuv loop with what every layer needs of it: clock, randomness, and a turn.
 *
 * Callbacks of libuv and libpq never run user code. They note that something is ready and call
 * mp_loop_wake; the loop then runs the turn callback once, after all I/O of this iteration.
 * Owner: the runtime. Thread: the one that runs the loop. */
#ifndef MP_LOOP_H
#define MP_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "util/err.h"

struct mp_loop;

/* Uses `uv`, or makes a loop of its own when it is NULL. */
int mp_loop_open(struct mp_loop **out, uv_loop_t *uv, struct mp_err *err) MP_MUST_CHECK;
/* Ends the loop's own handles and, if the uv loop is its own, runs it dry and frees it. If a handle
 * was left open, returns -MP_EINTERNAL and names it in the error; the memory is freed in any case.
 */
int mp_loop_close(struct mp_loop *loop, struct mp_err *err);

/* The same on a uv loop that others run: `on_closed` is called when all of it is gone, jobs of
 * mp_loop_work included. */
void mp_loop_leave(struct mp_loop *loop, void (*on_closed)(void *data), void *data);

uv_loop_t *mp_loop_uv(struct mp_loop *loop);     /* borrowed */
uint64_t mp_loop_now_ms(struct mp_loop *loop);   /* monotonic, the clock of timers */
uint64_t mp_loop_clock_ns(struct mp_loop *loop); /* monotonic, read now */
uint64_t mp_thread_cpu_ns(void); /* CPU time of the calling thread, which may be any */
uint64_t mp_loop_wall_us(struct mp_loop *loop); /* microseconds since 1970-01-01 UTC */
void mp_loop_random(struct mp_loop *loop, void *bytes, size_t n); /* from the system's generator */

typedef void (*mp_turn_cb)(void *data);
void mp_loop_set_turn(struct mp_loop *loop, mp_turn_cb turn, void *data);
/* Runs the turn callback once in this iteration of the loop, however often this is called. */
void mp_loop_wake(struct mp_loop *loop);

/* Calls `fn` at the end of each iteration, before the loop waits for events; NULL: no longer. */
void mp_loop_at_end(struct mp_loop *loop, void (*fn)(void *data), void *data);

/* Measures the loop's lag: observes for each iteration the time between two polls, in which no
 * event was handled, and keeps the longest of about the last 30 s. The series must outlive the
 * loop. */
struct mp_series;
void mp_loop_measure(struct mp_loop *loop, struct mp_series *lag, struct mp_series *longest);
/* How long the loop has been at work since it began to wait for events; 0 where it is not measured.
 * Whoever has more to do and can go on later does so past MP_LOOP_GIVE_WAY_NS. */
uint64_t mp_loop_busy_ns(struct mp_loop *loop);
#define MP_LOOP_GIVE_WAY_NS UINT64_C(5000000)
/* How long it has waited for events, in all. Any thread. */
uint64_t mp_loop_idle_ns(struct mp_loop *loop);

/* Runs until nothing is left to wait for. */
void mp_loop_run(struct mp_loop *loop);
/* One iteration; waits for an event when `wait`. False: nothing is left to wait for. */
bool mp_loop_run_once(struct mp_loop *loop, bool wait);

/* A one-shot timer, a value in its owner's memory: starting it cannot fail, and stop is
 * immediate and may be repeated, so a stopped timer's memory is free at once. */
struct mp_timer {
  struct mp_loop *loop;
  uint64_t due_ms;
  struct mp_timer *child, *next, *before; /* in the loop's heap */
  bool running;
  void (*cb)(struct mp_timer *timer);
};
void mp_timer_init(struct mp_timer *timer, struct mp_loop *loop,
                   void (*cb)(struct mp_timer *timer));
/* At or after `due_ms` on the loop's clock; restarts a running timer. */
void mp_timer_start_at(struct mp_timer *timer, uint64_t due_ms);
void mp_timer_start(struct mp_timer *timer, uint64_t delay_ms);
void mp_timer_stop(struct mp_timer *timer);
static inline bool mp_timer_running(const struct mp_timer *timer) { return timer->running; }

/* Work that blocks, on libuv's thread pool: `work` runs there and touches nothing but `data`;
 * `done` runs on the loop's thread. Never calls back before it returns. */
int mp_loop_work(struct mp_loop *loop, void (*work)(void *data), void (*done)(void *data),
                 void *data, struct mp_err *err) MP_MUST_CHECK;

#endif
