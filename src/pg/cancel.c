#include "pg/cancel.h"

#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/log.h"

struct mp_cancel {
  PGcancel *pg;
  char error[256];
  atomic_bool over;
  atomic_int owners; /* the connection and the thread */
};

/* The process's threads, whichever runtime they belong to. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t ended;
  unsigned count;
} under_way = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void count(int by) {
  pthread_mutex_lock(&under_way.lock);
  under_way.count += (unsigned)by;
  if (!under_way.count) pthread_cond_broadcast(&under_way.ended);
  pthread_mutex_unlock(&under_way.lock);
}

void mp_cancels_wait(unsigned timeout_ms) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until); /* the wall clock may be set meanwhile */
  until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
  until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_mutex_lock(&under_way.lock);
  while (under_way.count && pthread_cond_clockwait(&under_way.ended, &under_way.lock,
                                                   CLOCK_MONOTONIC, &until) != ETIMEDOUT) {}
  pthread_mutex_unlock(&under_way.lock);
}

static void leave(struct mp_cancel *cancel) {
  if (atomic_fetch_sub(&cancel->owners, 1) > 1) return;
  PQfreeCancel(cancel->pg);
  free(cancel);
}

static void *run(void *data) {
  struct mp_cancel *cancel = data;
  if (PQcancel(cancel->pg, cancel->error, sizeof cancel->error)) cancel->error[0] = '\0';
  atomic_store(&cancel->over, true);
  leave(cancel);
  count(-1);
  return NULL;
}

bool mp_cancel_over(const struct mp_cancel *cancel) { return atomic_load(&cancel->over); }

void mp_cancel_leave(struct mp_cancel *cancel) {
  if (!cancel) return;
  if (mp_cancel_over(cancel) && cancel->error[0])
    mp_log(MP_LOG_WARN, "pool", "cancel failed: %s", cancel->error);
  leave(cancel);
}

int mp_cancel_start(struct mp_cancel **out, struct pg_conn *pg, struct mp_err *err) {
  struct mp_cancel *cancel = calloc(1, sizeof *cancel);
  pthread_attr_t detached;
  pthread_t thread;
  if (cancel) cancel->pg = PQgetCancel(pg);
  if (!cancel || !cancel->pg) {
    free(cancel);
    return mp_err_set(err, MP_ENOMEM, "no memory for a cancel request");
  }
  atomic_init(&cancel->over, false);
  atomic_init(&cancel->owners, 2);
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  count(1);
  int rv = pthread_create(&thread, &detached, run, cancel);
  pthread_attr_destroy(&detached);
  if (rv) {
    count(-1);
    PQfreeCancel(cancel->pg);
    free(cancel);
    return mp_err_set(err, MP_EINTERNAL, "cannot start a thread for a cancel request: %s",
                      strerror(rv));
  }
  *out = cancel;
  return 0;
}
