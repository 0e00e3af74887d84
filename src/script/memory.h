/* memory.h: the allocator of a Lua state: each block belongs to the account (account.h) of the task
 * that made it, and all of them together may have a limit. Sizes are those that blocks really take.
 * Owner: the VM. */
#ifndef MP_MEMORY_H
#define MP_MEMORY_H

#include <lua.h>

#include "script/slab.h"

struct mp_sched;

/* For tests: blocks that are refused although there is memory. */
enum mp_trial_kind { MP_TRIAL_NONE, MP_TRIAL_FAIL, MP_TRIAL_COLLECT, MP_TRIAL_LEARN };
struct mp_trial {
  enum mp_trial_kind kind;
  uint64_t number; /* FAIL: this one, from 1, and Lua's second try; COLLECT: each so many, once, so
                      that all is collected */
  uint64_t count;  /* FAIL: so many in a row */
  uint64_t asked;  /* blocks asked for during the trial */
  uint64_t refused;
  bool again;              /* the one that was just refused is asked for a second time */
  const void *not_retried; /* where Lua's library asks for its buffers, and only once */
};

struct mp_memory {
  struct mp_slab slab;
  struct mp_sched *sched;
  size_t used, limit;
  /* bytes up to which a block may grow without a question: the limit, but 0 in a trial */
  size_t line;
  struct mp_trial trial;
  void *reserve; /* used when the system has no memory; NULL: in use, and new calls are refused */
};

/* `limit`: bytes, 0: none. */
void mp_memory_init(struct mp_memory *memory, struct mp_sched *sched, size_t limit);
void mp_memory_fini(struct mp_memory *memory);
/* Whether the system has lately refused memory to the state of L. */
bool mp_memory_short(lua_State *L);
/* Returns some of the free pages of L's state to the system; true: none is left. */
bool mp_memory_trim(lua_State *L);

/* Begins a trial in the state of L, or ends it (NONE); gives the trial as it was until now. */
struct mp_trial mp_memory_trial(lua_State *L, enum mp_trial_kind kind, uint64_t number,
                                uint64_t count);

/* A lua_Alloc; `data` is the struct mp_memory. */
void *mp_memory_allocate(void *data, void *ptr, size_t old_size, size_t size);

#endif
