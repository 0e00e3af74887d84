/* slab.c: pages and arenas of slab.h. An arena's first page holds the heads of all its pages,
 * itself included. */
#include "script/slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/pre.h"

enum {
  PAGES = MP_SLAB_ARENA / MP_SLAB_PAGE,
  AT_ONCE = 2048, /* bytes that are cut into blocks at a time; the rest of a page stays untouched */
};

struct arena {
  /* [0]: the node of the arena; its `live`: pages that are not empty */
  struct mp_slab_page pages[PAGES];
};
_Static_assert(sizeof(struct arena) <= MP_SLAB_PAGE, "the heads fit into a page");

/* Stands where a class has no page yet. */
static struct mp_slab_page nobody = {.class = MP_SLAB_CLASSES};

static size_t size_of(const struct mp_slab_page *page) {
  return (page->class + 1) * (size_t)MP_SLAB_STEP;
}

static struct arena *arena_of(const struct mp_slab_page *page) {
  return (struct arena *)((uintptr_t)page & ~(uintptr_t)(MP_SLAB_ARENA - 1));
}

static char *start_of(const struct mp_slab_page *page) {
  struct arena *arena = arena_of(page);
  return (char *)arena + (page - arena->pages) * MP_SLAB_PAGE;
}

void mp_slab_init(struct mp_slab *slab) {
  for (int i = 0; i < MP_SLAB_CLASSES; i++) {
    slab->current[i] = &nobody;
    mp_list_init(&slab->partial[i]);
  }
  mp_list_init(&slab->empty);
  mp_list_init(&slab->arenas);
}

void mp_slab_fini(struct mp_slab *slab) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&slab->arenas)))
    munmap(start_of(MP_LIST_ENTRY(node, struct mp_slab_page, node)), MP_SLAB_ARENA);
}

static bool add_arena(struct mp_slab *slab) {
  char *area = mmap(NULL, 2 * (size_t)MP_SLAB_ARENA, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return false;
  size_t before = -(uintptr_t)area & (MP_SLAB_ARENA - 1);
  if (before) munmap(area, before);
  munmap(area + before + MP_SLAB_ARENA, MP_SLAB_ARENA - before);
  struct arena *arena = (struct arena *)(void *)(area + before);
  mp_list_push_back(&slab->arenas, &arena->pages[0].node);
  for (int i = 1; i < PAGES; i++) mp_list_push_back(&slab->empty, &arena->pages[i].node);
  return true;
}

/* Gives the next blocks of the page out. False: there are none. */
static bool extend(struct mp_slab_page *page) {
  size_t size = size_of(page);
  size_t room = (size_t)(start_of(page) + MP_SLAB_PAGE - page->fresh) / size;
  size_t count = AT_ONCE / size < room ? AT_ONCE / size : room;
  for (size_t i = count; i-- > 0;) {
    char *block = page->fresh + i * size;
    *(void **)(void *)block = page->free;
    page->free = block;
  }
  page->fresh += count * size;
  return count > 0;
}

static struct mp_slab_page *empty_page(struct mp_slab *slab, unsigned class) {
  if (mp_list_empty(&slab->empty) && !add_arena(slab)) return NULL;
  struct mp_slab_page *page =
      MP_LIST_ENTRY(mp_list_pop_front(&slab->empty), struct mp_slab_page, node);
  arena_of(page)->pages[0].live++;
  page->free = NULL;
  page->live = 0;
  page->full = page->dirty = false;
  page->class = class;
  page->fresh = start_of(page);
  extend(page);
  return page;
}

void *mp_slab_take_slow(struct mp_slab *slab, size_t size) {
  unsigned class = (unsigned)(size / MP_SLAB_STEP) - 1;
  struct mp_slab_page *page = slab->current[class];
  if (page == &nobody || !extend(page)) {
    struct mp_list *node = mp_list_pop_front(&slab->partial[class]);
    struct mp_slab_page *next =
        node ? MP_LIST_ENTRY(node, struct mp_slab_page, node) : empty_page(slab, class);
    if (!next) return NULL;
    if (page != &nobody) page->full = true; /* all threads have that one */
    slab->current[class] = page = next;
  }
  void **block = page->free;
  PRE(block); /* the page was extended, or is a partial one */
  page->free = *block;
  page->live++;
  return block;
}

/* It has just got a block back: it was full, or is empty now. */
void mp_slab_drop_slow(struct mp_slab *slab, struct mp_slab_page *page) {
  if (page == slab->current[page->class]) return;
  if (page->full) mp_list_push_front(&slab->partial[page->class], &page->node);
  page->full = false;
  if (page->live) return;
  mp_list_remove(&page->node);
  page->dirty = true;
  arena_of(page)->pages[0].live--;
  mp_list_push_front(&slab->empty, &page->node);
}

void *mp_slab_take_large(size_t size) { return malloc(size); }
void mp_slab_drop_large(void *block) { free(block); }

void *mp_slab_resize(struct mp_slab *slab, void *block, size_t old, size_t size) {
  if (old == size) return block;
  void *moved;
  if (!MP_SLAB_IS_SMALL(old) && !MP_SLAB_IS_SMALL(size)) {
    moved = realloc(block, size);
    return moved || size > old ? moved : block;
  }
  moved = mp_slab_take(slab, size);
  if (!moved) return NULL;
  memcpy(moved, block, old < size ? old : size);
  mp_slab_drop(slab, block, old);
  return moved;
}

/* Address space may be what is short. False: there may be more. */
static bool drop_empty_arenas(struct mp_slab *slab, unsigned most) {
  MP_LIST_EACH_SAFE(node, &slab->arenas) {
    struct arena *arena = arena_of(MP_LIST_ENTRY(node, struct mp_slab_page, node));
    if (arena->pages[0].live) continue;
    if (!most--) return false;
    mp_list_remove(node);
    for (int i = 1; i < PAGES; i++) mp_list_remove(&arena->pages[i].node);
    munmap(arena, MP_SLAB_ARENA);
  }
  return true;
}

bool mp_slab_trim(struct mp_slab *slab, unsigned most) {
  if (!drop_empty_arenas(slab, most / PAGES + 1)) return false;
  while (!mp_list_empty(&slab->empty)) {
    struct mp_slab_page *page = MP_LIST_ENTRY(slab->empty.next, struct mp_slab_page, node);
    if (!page->dirty) return true;
    if (!most--) return false;
    madvise(start_of(page), MP_SLAB_PAGE, MADV_DONTNEED);
    page->dirty = false;
    mp_list_remove(&page->node);
    mp_list_push_back(&slab->empty, &page->node); /* dirty pages stand in front */
  }
  return true;
}
