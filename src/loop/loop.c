#include "loop/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/log.h"
#include "util/metrics.h"

struct mp_loop {
  uv_loop_t *uv;
  bool owned;
  uv_loop_t own;
  uv_check_t check;          /* runs the turn after each poll */
  uv_prepare_t prepare;      /* the end of an iteration's work: before it polls again */
  struct mp_series *lag;     /* NULL: not measured */
  struct mp_series *longest; /* turn of this window and the one before */
  uint64_t window_ns, longest_ns[2];
  uint64_t polled_ns, idle_ns; /* when the last poll began; all time spent waiting in polls */
  uv_idle_t idle;              /* armed while a turn is wanted: keeps the poll from waiting */
  uv_timer_t timer;            /* for `earliest` */
  int handles_open;
  size_t jobs; /* on the thread pool */
  void (*at_end)(void *data);
  void *at_end_data;
  void (*on_left)(void *data); /* NULL: it is not leaving */
  void *left_data;
  bool wanted;
  mp_turn_cb turn;
  void *turn_data;
  struct mp_timer *earliest; /* the heap's root */
  unsigned char random[256]; /* drawn from the system in blocks */
  size_t random_left;
};

enum { WINDOW_S = 15 };

static void keep_longest(struct mp_loop *loop, uint64_t now_ns, uint64_t took_ns) {
  uint64_t *longest = loop->longest_ns;
  bool over = now_ns - loop->window_ns > WINDOW_S * UINT64_C(1000000000);
  if (!over && took_ns <= longest[0]) return;
  if (over) {
    loop->window_ns = now_ns;
    longest[1] = longest[0];
    longest[0] = 0;
  }
  if (took_ns > longest[0]) longest[0] = took_ns;
  mp_series_set(loop->longest, (double)(longest[0] > longest[1] ? longest[0] : longest[1]) / 1e9);
}

static void run_turn(struct mp_loop *loop) {
  if (!loop->wanted) return;
  loop->wanted = false;
  uv_idle_stop(&loop->idle);
  if (loop->turn) loop->turn(loop->turn_data);
}

static void on_check(uv_check_t *check) { run_turn(check->data); }
uint64_t mp_loop_busy_ns(struct mp_loop *loop) {
  if (!loop->polled_ns) return 0;
  uint64_t passed_ns = uv_hrtime() - loop->polled_ns;
  uint64_t waited_ns = uv_metrics_idle_time(loop->uv) - loop->idle_ns;
  return waited_ns < passed_ns ? passed_ns - waited_ns : 0;
}

uint64_t mp_loop_idle_ns(struct mp_loop *loop) { return uv_metrics_idle_time(loop->uv); }

static void measure(struct mp_loop *loop) {
  uint64_t now_ns = uv_hrtime(), idle_ns = uv_metrics_idle_time(loop->uv);
  uint64_t passed_ns = now_ns - loop->polled_ns, waited_ns = idle_ns - loop->idle_ns;
  if (loop->polled_ns && waited_ns <= passed_ns) {
    mp_series_observe(loop->lag, (double)(passed_ns - waited_ns) / 1e9);
    keep_longest(loop, now_ns, passed_ns - waited_ns);
  }
  loop->polled_ns = now_ns;
  loop->idle_ns = idle_ns;
}

static void on_prepare(uv_prepare_t *prepare) {
  struct mp_loop *loop = prepare->data;
  if (loop->lag) measure(loop);
  if (loop->at_end) loop->at_end(loop->at_end_data);
}

void mp_loop_at_end(struct mp_loop *loop, void (*fn)(void *data), void *data) {
  loop->at_end = fn;
  loop->at_end_data = data;
}

void mp_loop_measure(struct mp_loop *loop, struct mp_series *lag, struct mp_series *longest) {
  loop->lag = lag;
  loop->longest = longest;
}

static void on_idle(uv_idle_t *idle) { (void)idle; }

/* ---- timers: a pairing heap, whose links are in the timers: starting one needs no memory ---- */

/* The earlier of two roots; the other becomes its first child. */
static struct mp_timer *meld(struct mp_timer *a, struct mp_timer *b) {
  if (!a || !b) return a ? a : b;
  if (b->due_ms < a->due_ms) {
    struct mp_timer *earlier = b;
    b = a;
    a = earlier;
  }
  b->next = a->child;
  if (b->next) b->next->before = b;
  b->before = a;
  a->child = b;
  return a;
}

/* One root of a list of siblings: pairs from left to right, then all from right to left. */
static struct mp_timer *gather(struct mp_timer *first) {
  struct mp_timer *pairs = NULL, *root = NULL;
  while (first) {
    struct mp_timer *second = first->next, *rest = second ? second->next : NULL;
    first->next = first->before = NULL;
    if (second) second->next = second->before = NULL;
    struct mp_timer *pair = meld(first, second);
    pair->next = pairs;
    pairs = pair;
    first = rest;
  }
  while (pairs) {
    struct mp_timer *rest = pairs->next;
    pairs->next = NULL;
    root = meld(root, pairs);
    pairs = rest;
  }
  return root;
}

/* `before` is the sibling to the left, or the parent of the first child. */
static void cut(struct mp_timer *timer) {
  if (timer->before->child == timer)
    timer->before->child = timer->next;
  else
    timer->before->next = timer->next;
  if (timer->next) timer->next->before = timer->before;
  timer->next = timer->before = NULL;
}

static void on_timer(uv_timer_t *handle);

static void arm(struct mp_loop *loop) {
  if (!loop->earliest) {
    uv_timer_stop(&loop->timer);
    return;
  }
  uint64_t now = uv_now(loop->uv), due = loop->earliest->due_ms;
  uv_timer_start(&loop->timer, on_timer, due > now ? due - now : 0, 0);
}

static void on_timer(uv_timer_t *handle) {
  struct mp_loop *loop = handle->data;
  uint64_t now = uv_now(loop->uv);
  while (loop->earliest && loop->earliest->due_ms <= now) {
    struct mp_timer *timer = loop->earliest;
    mp_timer_stop(timer);
    timer->cb(timer);
  }
  arm(loop);
}

void mp_timer_init(struct mp_timer *timer, struct mp_loop *loop,
                   void (*cb)(struct mp_timer *timer)) {
  *timer = (struct mp_timer){.loop = loop, .cb = cb};
}

void mp_timer_start_at(struct mp_timer *timer, uint64_t due_ms) {
  struct mp_loop *loop = timer->loop;
  mp_timer_stop(timer);
  timer->due_ms = due_ms;
  timer->running = true;
  loop->earliest = meld(loop->earliest, timer);
  if (loop->earliest == timer) arm(loop);
}

void mp_timer_start(struct mp_timer *timer, uint64_t delay_ms) {
  mp_timer_start_at(timer, mp_loop_now_ms(timer->loop) + delay_ms);
}

void mp_timer_stop(struct mp_timer *timer) {
  if (!timer->running) return;
  struct mp_loop *loop = timer->loop;
  bool earliest = loop->earliest == timer;
  if (!earliest) cut(timer);
  struct mp_timer *children = gather(timer->child);
  loop->earliest = earliest ? children : meld(loop->earliest, children);
  timer->child = NULL;
  timer->running = false;
}

/* ---- the loop ---- */

int mp_loop_open(struct mp_loop **out, uv_loop_t *uv, struct mp_err *err) {
  struct mp_loop *loop = calloc(1, sizeof *loop);
  if (!loop) return mp_err_set(err, MP_ENOMEM, "no memory for an event loop");
  loop->owned = !uv;
  loop->uv = uv ? uv : &loop->own;
  int rv = uv ? 0 : uv_loop_init(&loop->own);
  if (rv) {
    free(loop);
    return mp_err_set(err, MP_EINTERNAL, "cannot make an event loop: %s", uv_strerror(rv));
  }
  (void)uv_loop_configure(loop->uv, UV_METRICS_IDLE_TIME); /* else waiting counts as work */
  uv_check_init(loop->uv, &loop->check);
  uv_prepare_init(loop->uv, &loop->prepare);
  uv_idle_init(loop->uv, &loop->idle);
  uv_timer_init(loop->uv, &loop->timer);
  loop->check.data = loop->prepare.data = loop->idle.data = loop->timer.data = loop;
  loop->handles_open = 4;
  uv_check_start(&loop->check, on_check);
  uv_prepare_start(&loop->prepare, on_prepare);
  /* These two handles do not keep the loop alive. An armed idle handle or timer does: something is
   * still to happen. */
  uv_unref((uv_handle_t *)&loop->check);
  uv_unref((uv_handle_t *)&loop->prepare);
  *out = loop;
  return 0;
}

static void free_left(struct mp_loop *loop) {
  if (!loop->on_left || loop->handles_open || loop->jobs) return;
  void (*on_left)(void *) = loop->on_left;
  void *data = loop->left_data;
  free(loop);
  on_left(data);
}

static void on_own_closed(uv_handle_t *handle) {
  struct mp_loop *loop = handle->data;
  loop->handles_open--;
  free_left(loop);
}

static void close_own(struct mp_loop *loop) {
  loop->lag = NULL;
  uv_close((uv_handle_t *)&loop->check, on_own_closed);
  uv_close((uv_handle_t *)&loop->prepare, on_own_closed);
  uv_close((uv_handle_t *)&loop->idle, on_own_closed);
  uv_close((uv_handle_t *)&loop->timer, on_own_closed);
}

void mp_loop_leave(struct mp_loop *loop, void (*on_closed)(void *data), void *data) {
  loop->on_left = on_closed;
  loop->left_data = data;
  close_own(loop);
}

static void name_open(uv_handle_t *handle, void *data) {
  char *names = data;
  size_t used = strlen(names);
  if (!uv_is_closing(handle))
    snprintf(names + used, 200 - used, "%s%s", used ? ", " : "", uv_handle_type_name(handle->type));
}

int mp_loop_close(struct mp_loop *loop, struct mp_err *err) {
  int rv = 0;
  close_own(loop);
  while (loop->handles_open) uv_run(loop->uv, UV_RUN_NOWAIT);
  if (loop->owned) {
    char names[200] = "";
    uv_walk(loop->uv, name_open, names);
    if (names[0]) {
      /* A handle that another part owns is still open: closing it here would not free that part's
       * memory, so the loop's memory must stay. */
      return mp_err_set(err, MP_EINTERNAL, "the event loop still has open handles: %s", names);
    }
    while (uv_loop_close(loop->uv) == UV_EBUSY) uv_run(loop->uv, UV_RUN_ONCE);
  }
  free(loop);
  return rv;
}

uv_loop_t *mp_loop_uv(struct mp_loop *loop) { return loop->uv; }
/* Not libuv's cached time: that is read once per iteration, and a script may have run for seconds
 * since. */
uint64_t mp_loop_now_ms(struct mp_loop *loop) {
  uv_update_time(loop->uv);
  return uv_now(loop->uv);
}

uint64_t mp_loop_clock_ns(struct mp_loop *loop) {
  (void)loop;
  return uv_hrtime();
}

uint64_t mp_thread_cpu_ns(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)) return 0;
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t mp_loop_wall_us(struct mp_loop *loop) {
  (void)loop;
  uv_timeval64_t now;
  if (uv_gettimeofday(&now)) return 0;
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_usec;
}

void mp_loop_random(struct mp_loop *loop, void *bytes, size_t n) {
  unsigned char *to = bytes;
  while (n) {
    if (!loop->random_left) {
      if (uv_random(NULL, NULL, loop->random, sizeof loop->random, 0, NULL)) abort();
      loop->random_left = sizeof loop->random;
    }
    size_t part = n < loop->random_left ? n : loop->random_left;
    loop->random_left -= part;
    memcpy(to, loop->random + loop->random_left, part);
    to += part;
    n -= part;
  }
}

void mp_loop_set_turn(struct mp_loop *loop, mp_turn_cb turn, void *data) {
  loop->turn = turn;
  loop->turn_data = data;
}

void mp_loop_wake(struct mp_loop *loop) {
  if (loop->wanted) return;
  loop->wanted = true;
  uv_idle_start(&loop->idle, on_idle);
}

void mp_loop_run(struct mp_loop *loop) {
  while (uv_run(loop->uv, UV_RUN_ONCE)) {}
}

bool mp_loop_run_once(struct mp_loop *loop, bool wait) {
  return uv_run(loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT) != 0;
}

/* ---- work ---- */

struct work {
  uv_work_t req;
  struct mp_loop *loop;
  void (*work)(void *data);
  void (*done)(void *data);
  void *data;
};

static void work_run(uv_work_t *req) {
  struct work *work = MP_CONTAINER_OF(req, struct work, req);
  work->work(work->data);
}

static void work_done(uv_work_t *req, int status) {
  struct work work = *MP_CONTAINER_OF(req, struct work, req);
  (void)status; /* never canceled: no part keeps the request */
  free(MP_CONTAINER_OF(req, struct work, req));
  work.loop->jobs--;
  work.done(work.data);
  free_left(work.loop);
}

int mp_loop_work(struct mp_loop *loop, void (*run)(void *data), void (*done)(void *data),
                 void *data, struct mp_err *err) {
  struct work *work = malloc(sizeof *work);
  if (!work) return mp_err_set(err, MP_ENOMEM, "no memory for a job of the thread pool");
  *work = (struct work){.loop = loop, .work = run, .done = done, .data = data};
  int rv = uv_queue_work(loop->uv, &work->req, work_run, work_done);
  if (rv) {
    free(work);
    return mp_err_set(err, MP_EINTERNAL, "cannot start a job of the thread pool: %s",
                      uv_strerror(rv));
  }
  loop->jobs++;
  return 0;
}
