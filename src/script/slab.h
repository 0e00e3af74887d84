/* slab.h: the memory of one Lua state. Lua passes a block's size when it frees it, so small blocks
 * have no header: they come from pages of equal blocks, at a few instructions each. Large blocks
 * come from malloc. Empty pages can be returned to the system (mp_slab_trim). Under
 * AddressSanitizer all blocks come from malloc. For one thread. Owner: the VM. */
#ifndef MP_SLAB_H
#define MP_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/list.h"

enum {
  MP_SLAB_STEP = 16, /* block sizes are multiples of it */
  MP_SLAB_MAX = 512, /* the largest of them */
  MP_SLAB_CLASSES = MP_SLAB_MAX / MP_SLAB_STEP,
  MP_SLAB_PAGE = 1 << 14,
  MP_SLAB_ARENA = 1 << 20, /* asked of the system at once, aligned to its size */
};

struct mp_slab_page {
  void *free;    /* its first free block; each holds the next */
  unsigned live; /* blocks in use */
  bool full;     /* on no list, because it has no free block */
  bool dirty;    /* empty, and not returned to the system */
  unsigned class;
  char *fresh; /* from here on blocks were never given out */
  struct mp_list node;
};

struct mp_slab {
  struct mp_slab_page *current[MP_SLAB_CLASSES]; /* where the next block comes from */
  struct mp_list partial[MP_SLAB_CLASSES];       /* other pages with free blocks */
  struct mp_list empty;                          /* pages of no class */
  struct mp_list arenas;
};

void mp_slab_init(struct mp_slab *slab);
void mp_slab_fini(struct mp_slab *slab); /* all small blocks are gone with it */
/* Returns empty pages to the system, at most so many; true: none is left. */
bool mp_slab_trim(struct mp_slab *slab, unsigned most);

/* What a block of `size` bytes really takes: the size that all calls below are given. */
static inline size_t mp_slab_size(size_t size) {
  return (size + MP_SLAB_STEP - 1) & ~(size_t)(MP_SLAB_STEP - 1);
}

void *mp_slab_take_slow(struct mp_slab *slab, size_t size);
void mp_slab_drop_slow(struct mp_slab *slab, struct mp_slab_page *page);
void *mp_slab_take_large(size_t size);
void mp_slab_drop_large(void *block);
/* As realloc; NULL: no memory, and the block is as it was. */
void *mp_slab_resize(struct mp_slab *slab, void *block, size_t old, size_t size);

#ifdef __SANITIZE_ADDRESS__
#define MP_SLAB_IS_SMALL(size) ((void)(size), false)
#else
#define MP_SLAB_IS_SMALL(size) ((size) <= MP_SLAB_MAX)
#endif

/* Its arena begins with the pages' heads. */
static inline struct mp_slab_page *mp_slab_page_of(void *block) {
  uintptr_t at = (uintptr_t)block, arena = at & ~(uintptr_t)(MP_SLAB_ARENA - 1);
  return (struct mp_slab_page *)arena + (at - arena) / MP_SLAB_PAGE;
}

static inline void *mp_slab_take(struct mp_slab *slab, size_t size) {
  if (!MP_SLAB_IS_SMALL(size)) return mp_slab_take_large(size);
  struct mp_slab_page *page = slab->current[size / MP_SLAB_STEP - 1];
  void **block = page->free;
  if (!block) return mp_slab_take_slow(slab, size);
  page->free = *block;
  page->live++;
  return block;
}

static inline void mp_slab_drop(struct mp_slab *slab, void *block, size_t size) {
  if (!MP_SLAB_IS_SMALL(size)) {
    mp_slab_drop_large(block);
    return;
  }
  struct mp_slab_page *page = mp_slab_page_of(block);
  *(void **)block = page->free;
  page->free = block;
  if (--page->live == 0 || page->full) mp_slab_drop_slow(slab, page);
}

#endif
