/* memory.h: the allocator of a Lua state: each block belongs to the account (account.h) of the task that made it, and all
 * of them together may have a limit. Sizes are what blocks really take. Owner: the VM. */
#ifndef MP_MEMORY_H
#define MP_MEMORY_H

#include <lua.h>

#include "script/slab.h"

struct mp_sched;

struct mp_memory {
  struct mp_slab slab;
  struct mp_sched *sched;
  size_t used;
  size_t line; /* bytes up to which a block may grow without a question */
};

/* `limit`: bytes, 0: none. */
void mp_memory_init(struct mp_memory *memory, struct mp_sched *sched, size_t limit);
void mp_memory_fini(struct mp_memory *memory);
/* Of the state of L: gives the system back what can be. */
void mp_memory_trim(lua_State *L);

/* A lua_Alloc; `data` is the struct mp_memory. */
void *mp_memory_allocate(void *data, void *ptr, size_t old_size, size_t size);

#endif
