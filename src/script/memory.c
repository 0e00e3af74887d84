#include "script/memory.h"

#include <lauxlib.h>
#include <malloc.h>
#include <stdlib.h>

#include "script/task_priv.h"

enum {
  RESERVE = 8 << 20,
  TRIM_PAGES = 256, /* that are returned in one turn of the loop */
};

/* The header of each Lua block. */
struct block {
  struct mp_account *owner; /* or NULL: nobody's */
};

static size_t size_with_head(size_t size) { return mp_slab_size(size + sizeof(struct block)); }

static void release(struct mp_memory *memory, struct block *block, size_t size) {
  mp_slice_settle(&memory->sched->slice); /* the watchdog may be reading it */
  memory->used -= size;
  if (block->owner) mp_account_change(block->owner, size, 0);
  mp_slab_drop(&memory->slab, block, size);
}

/* ---- trials ---- */

static bool refuses(struct mp_trial *trial, const void *caller) {
  bool again = trial->again;
  trial->again = false;
  if (trial->kind == MP_TRIAL_LEARN) {
    trial->not_retried = caller;
    return false;
  }
  if (trial->kind == MP_TRIAL_COLLECT) {
    if (again || caller == trial->not_retried) return false;
    trial->again = ++trial->asked % trial->number == 0;
    trial->refused += trial->again;
    return trial->again;
  }
  if (again) return true;
  trial->asked++;
  trial->again = trial->asked >= trial->number && trial->asked - trial->number < trial->count;
  trial->refused += trial->again;
  return trial->again;
}

/* Lets Lua's library ask for a buffer: `not_retried` is the last place that asked. */
static int make_buffer(lua_State *L) {
  luaL_Buffer b;
  luaL_buffinitsize(L, &b, 4 * (size_t)LUAL_BUFFERSIZE);
  return 0;
}

struct mp_trial mp_memory_trial(lua_State *L, enum mp_trial_kind kind, uint64_t number,
                                uint64_t count) {
  void *data;
  lua_getallocf(L, &data);
  struct mp_memory *memory = data;
  struct mp_trial before = memory->trial;
  memory->trial = (struct mp_trial){.kind = MP_TRIAL_LEARN};
  memory->line = 0;
  if (kind != MP_TRIAL_NONE) {
    lua_pushcfunction(L, make_buffer);
    lua_call(L, 0, 0);
  }
  memory->trial.kind = kind;
  memory->trial.number = number;
  memory->trial.count = count;
  if (kind == MP_TRIAL_NONE) memory->line = memory->limit;
  return before;
}

/* ---- blocks ---- */

/* Whether the limits of the state and of the account allow `size` more bytes. */
static bool ask(struct mp_memory *memory, struct mp_account *owner, size_t counted, size_t size,
                const void *caller) {
  struct mp_sched *sched = memory->sched;
  if (memory->trial.kind && refuses(&memory->trial, caller)) return false;
  bool granted = !owner || mp_account_grant(owner, counted, size);
  granted = granted && memory->used + size <= memory->limit;
  if (!granted) mp_task_short(sched);
  if (owner && mp_account_out_of_memory(owner)) mp_task_out_of_memory(sched, !granted);
  if (owner && granted && mp_account_wants_collection(owner)) mp_task_interrupt(sched);
  return granted;
}

static inline bool may_have(struct mp_memory *memory, struct mp_account *owner, size_t counted,
                            size_t size, const void *caller) {
  if (memory->used + size <= memory->line &&
      (!owner || owner->used - counted + size <= owner->line))
    return true;
  return ask(memory, owner, counted, size, caller);
}

/* The system has no memory. The reserve lets other tasks go on while the task that was refused is
 * ended and garbage is collected step by step. Without it Lua would run a full collection for each
 * refused block, for minutes. */
static bool use_reserve(struct mp_memory *memory) {
  struct mp_sched *sched = memory->sched;
  if (!memory->reserve) return false;
  free(memory->reserve);
  memory->reserve = NULL;
  if (sched->running && sched->running->account) mp_task_out_of_memory(sched, false);
  if (sched->running) mp_task_collect(sched->running);
  return true;
}

static inline void *make(struct mp_memory *memory, size_t size, const void *caller) {
  struct mp_account *owner = memory->sched->owner;
  if (!may_have(memory, owner, 0, size, caller)) return NULL;
  struct block *block = mp_slab_take(&memory->slab, size);
  if (!block && use_reserve(memory)) block = mp_slab_take(&memory->slab, size);
  if (!block) return NULL;
  memory->used += size;
  block->owner = owner;
  if (owner) owner->used += size;
  return block + 1;
}

/* The task that makes a block grow owns it from then on. */
static inline void *grow(struct mp_memory *memory, struct block *block, size_t old_size,
                         size_t size, const void *caller) {
  struct mp_account *owner = memory->sched->owner, *before = block->owner;
  size_t counted = owner == before ? old_size : 0; /* in the new owner's account */
  if (!may_have(memory, owner, counted, size, caller)) return NULL;
  struct block *grown = mp_slab_resize(&memory->slab, block, old_size, size);
  if (!grown && use_reserve(memory)) grown = mp_slab_resize(&memory->slab, block, old_size, size);
  if (!grown) return NULL;
  block = grown;
  memory->used = memory->used - old_size + size;
  block->owner = owner;
  if (owner) mp_account_change(owner, counted, size);
  if (before && before != owner) mp_account_change(before, old_size, 0);
  return block + 1;
}

static void *shrink(struct mp_memory *memory, struct block *block, size_t old_size, size_t size) {
  struct block *moved = mp_slab_resize(&memory->slab, block, old_size, size);
  if (!moved) return NULL; /* the system has no page: Lua raises an error then */
  memory->used = memory->used - old_size + size;
  if (moved->owner) mp_account_change(moved->owner, old_size, size);
  return moved + 1;
}

void *mp_memory_allocate(void *data, void *ptr, size_t old_size, size_t size) {
  struct mp_memory *memory = data;
  struct block *block = ptr ? (struct block *)ptr - 1 : NULL;
  const void *caller = __builtin_return_address(0);
  if (!block)
    return size ? make(memory, size_with_head(size), caller) : NULL; /* old_size: a type */
  old_size = size_with_head(old_size);
  if (!size) {
    release(memory, block, old_size);
    return NULL;
  }
  size = size_with_head(size);
  return size > old_size ? grow(memory, block, old_size, size, caller)
                         : shrink(memory, block, old_size, size);
}

void mp_memory_init(struct mp_memory *memory, struct mp_sched *sched, size_t limit) {
  mp_slab_init(&memory->slab);
  memory->sched = sched;
  memory->used = 0;
  memory->limit = memory->line = limit ? limit : SIZE_MAX;
  memory->trial = (struct mp_trial){.kind = MP_TRIAL_NONE};
  memory->reserve = malloc(RESERVE);
}

void mp_memory_fini(struct mp_memory *memory) {
  mp_slab_fini(&memory->slab);
  free(memory->reserve);
}

bool mp_memory_short(lua_State *L) {
  void *data;
  lua_getallocf(L, &data);
  struct mp_memory *memory = data;
  struct mp_sched *sched = memory->sched;
  if (!memory->reserve && !sched->collect) memory->reserve = malloc(RESERVE);
  if (!memory->reserve && !sched->collect) mp_sched_collect(sched, L); /* until there is room */
  return !memory->reserve;
}

bool mp_memory_trim(lua_State *L) {
  void *data;
  lua_getallocf(L, &data);
  struct mp_memory *memory = data;
  if (!mp_slab_trim(&memory->slab, TRIM_PAGES)) return false;
  malloc_trim(0);
  if (!memory->reserve) memory->reserve = malloc(RESERVE);
  return true;
}
