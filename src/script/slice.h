/* slice.h: how long a script may keep the loop's thread. A watchdog (one thread per scheduler,
 * asleep while nothing runs) looks at the clock; the scripts pay nothing until a slice is over.
 * Then it arms a count hook on the coroutine that runs, and the hook (slice_hook.c) makes the task
 * yield, or ends it.
 *
 * lua_sethook from another thread is sound by this protocol only. It walks the coroutine's CallInfo
 * list and sets `trap` in those of Lua functions, and that word is `old_errfunc` in the frame of a
 * C function. So while `arming` is set, the loop's thread stops (mp_slice_settle) where the walk
 * could meet what is not there any more: before another coroutine becomes current, before Lua's
 * memory is freed, and before lua_pcallk keeps the error function in its frame. The watchdog sets
 * `arming`, has all threads of the process pass a memory barrier (membarrier(2)), then reads: so
 * the loop's thread needs no fence of its own. Owner: the scheduler. All but the watchdog run on
 * the loop's thread. */
#ifndef MP_SLICE_H
#define MP_SLICE_H

#include <lua.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  MP_SLICE_MS = 10, /* at most */
  MP_SLICE_TICK_MS = 2,
  MP_SLICE_SEEN_MS =
      MP_SLICE_MS - MP_SLICE_TICK_MS, /* it may have begun up to one tick before it was seen */
};

struct mp_slice {
  /* set by the loop's thread */
  _Atomic(lua_State *) current; /* what runs Lua code now; NULL: nothing that may be armed */
  _Atomic uint64_t number;      /* odd: a slice is under way */
  /* set by the watchdog */
  atomic_bool arming, asleep;
  _Atomic uint64_t seen; /* number of the slice that these two are of */
  _Atomic uint64_t seen_ns,
      seen_cpu_ns; /* clock, and CPU time of the loop's thread, when it was first seen */
  /* of the loop's thread */
  bool fences;       /* the kernel has no membarrier */
  uint64_t begin_ns; /* the clock when the slice began; 0: not measured */
  uint64_t reported; /* number of the slice that was reported as too long */
  uint64_t report_ns;
  /* Not 0: only <close> variables of a task that is being ended run; CPU time of the thread when
   * the first began. */
  uint64_t close_ns;
  uint64_t overruns;
  lua_Hook hook;
  /* the watchdog */
  bool started, stop;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  clockid_t cpu_clock;
};

/* `hook` is what the watchdog arms (slice_hook.c). */
void mp_slice_init(struct mp_slice *slice, lua_Hook hook);
void mp_slice_fini(struct mp_slice *slice);

/* Waits until the watchdog has let go. */
void mp_slice_settle_slow(struct mp_slice *slice);
static inline void mp_slice_settle(struct mp_slice *slice) {
  if (slice->fences) atomic_thread_fence(memory_order_seq_cst);
  atomic_signal_fence(memory_order_seq_cst);
  if (atomic_load_explicit(&slice->arming, memory_order_relaxed)) mp_slice_settle_slow(slice);
}

/* Notes that `L` runs from here on; returns the coroutine that ran before. */
static inline lua_State *mp_slice_switch(struct mp_slice *slice, lua_State *L) {
  lua_State *before = atomic_load_explicit(&slice->current, memory_order_relaxed);
  atomic_store_explicit(&slice->current, L, memory_order_relaxed);
  mp_slice_settle(slice);
  return before;
}

/* `counted`: its CPU time is wanted. */
void mp_slice_begin(struct mp_slice *slice, lua_State *L, bool counted);
/* Gives the CPU time that it has used, in ns. */
uint64_t mp_slice_end(struct mp_slice *slice);
/* CPU time of the slice under way: exact since the watchdog first saw it, and the wall time before
 * that, which is nearly the same. (Reading the thread's CPU clock costs a system call, the wall
 * clock does not.) */
uint64_t mp_slice_cpu_ns(struct mp_slice *slice);
uint64_t mp_slice_wall_ns(struct mp_slice *slice);

/* The clock that slices are measured with. */
uint64_t mp_slice_clock_ns(void);
/* From here on only <close> variables run, and not for long. Nothing happens if that is so. */
void mp_slice_closing(struct mp_slice *slice);
uint64_t mp_slice_closing_ns(const struct mp_slice *slice); /* the CPU time that they have taken */

/* The hook runs at L's next instruction. */
static inline void mp_slice_arm(const struct mp_slice *slice, lua_State *L) {
  lua_sethook(L, slice->hook, LUA_MASKCOUNT, 1);
}

#endif
