/* slice.c: the watchdog's side of slice.h, and the slices' beginning and end. */
#include "script/slice.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"
#include "util/log.h"

enum { IDLE_TICKS = 50 }; /* then it sleeps until a slice begins */

static uint64_t read_ns(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now)) return 0;
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t mp_slice_clock_ns(void) { return read_ns(CLOCK_MONOTONIC); }

void mp_slice_closing(struct mp_slice *slice) {
  if (!slice->close_ns) slice->close_ns = mp_thread_cpu_ns();
}

uint64_t mp_slice_closing_ns(const struct mp_slice *slice) {
  return mp_thread_cpu_ns() - slice->close_ns;
}

static bool membarrier_is(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }

/* ---- the watchdog ---- */

static void barrier(struct mp_slice *slice) {
  if (slice->fences || !membarrier_is(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
    atomic_thread_fence(memory_order_seq_cst);
}

static void arm(struct mp_slice *slice) {
  atomic_store(&slice->arming, true);
  barrier(slice);
  lua_State *L = atomic_load(&slice->current);
  /* A hook of another tool, for example for coverage, stays. */
  if (L && (!lua_gethook(L) || lua_gethook(L) == slice->hook)) mp_slice_arm(slice, L);
  atomic_store(&slice->arming, false);
}

static void look(struct mp_slice *slice, uint64_t number) {
  uint64_t now = read_ns(CLOCK_MONOTONIC);
  if (atomic_load(&slice->seen) != number) {
    atomic_store(&slice->seen_ns, now);
    atomic_store(&slice->seen_cpu_ns, read_ns(slice->cpu_clock));
    atomic_store(&slice->seen, number);
  } else if (now - atomic_load(&slice->seen_ns) >= (uint64_t)MP_SLICE_SEEN_MS * 1000000) {
    arm(slice);
  }
}

/* With the mutex. */
static void sleep_until_woken(struct mp_slice *slice, uint64_t number) {
  atomic_store(&slice->asleep, true);
  barrier(slice);
  while (!slice->stop && atomic_load(&slice->asleep) && atomic_load(&slice->number) == number)
    pthread_cond_wait(&slice->wake, &slice->mutex);
  atomic_store(&slice->asleep, false);
}

static void *watch(void *data) {
  struct mp_slice *slice = data;
  const struct timespec tick = {.tv_nsec = MP_SLICE_TICK_MS * 1000000L};
  uint64_t last = 0;
  unsigned idle = 0;
  pthread_mutex_lock(&slice->mutex);
  while (!slice->stop) {
    pthread_mutex_unlock(&slice->mutex);
    nanosleep(&tick, NULL);
    uint64_t number = atomic_load(&slice->number);
    idle = number == last && !(number & 1) ? idle + 1 : 0;
    last = number;
    if (number & 1) look(slice, number);
    pthread_mutex_lock(&slice->mutex);
    if (idle >= IDLE_TICKS) sleep_until_woken(slice, number), idle = 0;
  }
  pthread_mutex_unlock(&slice->mutex);
  return NULL;
}

static void start(struct mp_slice *slice) {
  sigset_t all, before;
  slice->started = true;
  pthread_getcpuclockid(pthread_self(), &slice->cpu_clock);
  sigfillset(&all); /* signals are for the program's own threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rv = pthread_create(&slice->thread, NULL, watch, slice);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!rv) return;
  slice->stop = true; /* nothing to join */
  mp_log(MP_LOG_ERROR, "script", "no thread for the watchdog: a script that spins blocks the host");
}

static void wake(struct mp_slice *slice) {
  pthread_mutex_lock(&slice->mutex);
  atomic_store(&slice->asleep, false);
  pthread_cond_signal(&slice->wake);
  pthread_mutex_unlock(&slice->mutex);
}

/* ---- the loop's thread ---- */

void mp_slice_init(struct mp_slice *slice, lua_Hook hook) {
  *slice = (struct mp_slice){.hook = hook};
  pthread_mutex_init(&slice->mutex, NULL);
  pthread_cond_init(&slice->wake, NULL);
  slice->fences = !membarrier_is(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

void mp_slice_fini(struct mp_slice *slice) {
  if (slice->started && !slice->stop) {
    pthread_mutex_lock(&slice->mutex);
    slice->stop = true;
    pthread_cond_signal(&slice->wake);
    pthread_mutex_unlock(&slice->mutex);
    pthread_join(slice->thread, NULL);
  }
  pthread_cond_destroy(&slice->wake);
  pthread_mutex_destroy(&slice->mutex);
}

void mp_slice_settle_slow(struct mp_slice *slice) {
  while (atomic_load_explicit(&slice->arming, memory_order_acquire)) sched_yield();
}

static void count(struct mp_slice *slice) {
  uint64_t number = atomic_load_explicit(&slice->number, memory_order_relaxed);
  atomic_store_explicit(&slice->number, number + 1, memory_order_relaxed);
}

void mp_slice_begin(struct mp_slice *slice, lua_State *L, bool counted) {
  if (!slice->started) start(slice); /* here, because this is the thread that runs the loop */
  atomic_store_explicit(&slice->current, L, memory_order_relaxed);
  slice->begin_ns = counted ? read_ns(CLOCK_MONOTONIC) : 0;
  count(slice);
  if (slice->fences) atomic_thread_fence(memory_order_seq_cst);
  atomic_signal_fence(memory_order_seq_cst);
  if (atomic_load_explicit(&slice->asleep, memory_order_relaxed)) wake(slice);
}

/* The CPU time from the slice's begin until the watchdog first saw it: at most the wall time,
 * because other processes may have had the CPU. */
static uint64_t unseen_ns(const struct mp_slice *slice, uint64_t end_ns) {
  const uint64_t most = 2 * MP_SLICE_TICK_MS * UINT64_C(1000000);
  if (!slice->begin_ns) return 0;
  return end_ns - slice->begin_ns < most ? end_ns - slice->begin_ns : most;
}

uint64_t mp_slice_cpu_ns(struct mp_slice *slice) {
  if (atomic_load_explicit(&slice->seen, memory_order_acquire) !=
      atomic_load_explicit(&slice->number, memory_order_relaxed))
    return slice->begin_ns ? unseen_ns(slice, read_ns(CLOCK_MONOTONIC)) : 0;
  return unseen_ns(slice, atomic_load(&slice->seen_ns)) + mp_thread_cpu_ns() -
         atomic_load(&slice->seen_cpu_ns);
}

uint64_t mp_slice_wall_ns(struct mp_slice *slice) {
  if (atomic_load_explicit(&slice->seen, memory_order_acquire) !=
      atomic_load_explicit(&slice->number, memory_order_relaxed))
    return 0;
  return read_ns(CLOCK_MONOTONIC) - atomic_load(&slice->seen_ns);
}

uint64_t mp_slice_end(struct mp_slice *slice) {
  uint64_t cpu = mp_slice_cpu_ns(slice);
  mp_slice_switch(slice, NULL);
  count(slice);
  return cpu;
}
