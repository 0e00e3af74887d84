/* offload.h: long work on libuv's thread pool: a limited number of pieces at a time, so that other
 * work finds threads; the rest queues. The task that wants it is suspended, and pays for it. The
 * waiting task and the working thread share a piece; the one that lets go last frees it, so a task
 * may be killed, and the VM closed, at any moment. */
#ifndef MP_OFFLOAD_H
#define MP_OFFLOAD_H

#include "script/task.h"
#include "util/list.h"

struct mp_offload;

/* The first member of what a piece of work needs. */
struct mp_piece {
  struct mp_list node;
  struct mp_offload *offload;
  struct mp_token token;
  /* the waiting task's holder, and the thread's; counted on the loop's thread only */
  unsigned refs;
  bool abandoned;            /* no task waits for it any more */
  uint64_t cpu_ns;           /* what the thread took, and what `work` adds: the waiting task's */
  struct mp_err err;         /* why the work could not be started */
  void (*work)(void *piece); /* on the thread: touches nothing but the piece */
  void (*fini)(void *piece); /* on the loop, before it is freed */
};

/* Pushes a queue that the Lua state owns; `noun` names the waiting pieces in messages ("passwords
 * wait to be hashed"). [-0, +1] */
struct mp_offload *mp_offload_push(lua_State *L, struct mp_sched *sched, unsigned running,
                                   unsigned waiting, const char *noun);
/* Pushes a new piece of `size` bytes, zeroed, on a holder that lets go of it when the task is done
 * with it. [-0, +1] */
void *mp_piece_push(lua_State *L, struct mp_offload *offload, size_t size,
                    void (*work)(void *piece), void (*fini)(void *piece));
/* The piece on top of the stack is worked on, or waits for its turn. Continues with k, the holder
 * still on top. */
int mp_piece_submit(lua_State *L, const char *what, lua_KContext ctx, lua_KFunction k);
/* The piece of the holder on top, unless it could not be started: that raises. Its CPU time is
 * charged to the task. */
void *mp_piece_finished(lua_State *L);

#endif
