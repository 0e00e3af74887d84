/* slab_test.c: blocks of many sizes come and go by lot: none overlaps another or loses what was
 * written into it, and a page that is empty serves any size. */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "script/slab.h"

static uint64_t seed = 88172645463325252;
static unsigned draw(unsigned below) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (unsigned)(seed % below);
}

struct held {
  unsigned char *block;
  size_t size;
  unsigned char mark;
};

static bool intact(const struct held *held, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (held->block[i] != held->mark) return false;
  return true;
}

static void fill(struct held *held, size_t size) {
  held->size = size;
  held->mark = (unsigned char)draw(256);
  memset(held->block, held->mark, size);
}

static size_t some_size(void) { return mp_slab_size(1 + draw(draw(4) ? 200 : 2000)); }

enum { HELD = 20000, MOVES = 400000 };

static void by_lot(struct mp_slab *slab, struct held *held) {
  for (int i = 0; i < MOVES; i++) {
    struct held *one = &held[draw(HELD)];
    size_t size = some_size();
    if (!one->block) {
      one->block = mp_slab_take(slab, size);
      CHECK(one->block);
      fill(one, size);
    } else if (draw(3)) {
      CHECK(intact(one, one->size));
      mp_slab_drop(slab, one->block, one->size);
      one->block = NULL;
    } else {
      one->block = mp_slab_resize(slab, one->block, one->size, size);
      CHECK(intact(one, size < one->size ? size : one->size));
      fill(one, size);
    }
  }
}

static void drop_all(struct mp_slab *slab, struct held *held) {
  for (int i = 0; i < HELD; i++) {
    if (!held[i].block) continue;
    CHECK(intact(&held[i], held[i].size));
    mp_slab_drop(slab, held[i].block, held[i].size);
    held[i].block = NULL;
  }
}

static size_t arenas(const struct mp_slab *slab) {
  size_t count = 0;
  MP_LIST_EACH(node, &slab->arenas) count++;
  return count;
}

/* What one size has given back serves the others: the system is asked for no more. */
static void pages_change_their_size(struct mp_slab *slab, struct held *held) {
  size_t before = 0;
  for (size_t size = 16; size <= MP_SLAB_MAX; size += 16) {
    for (size_t i = 0; i < (2u << 20) / size && i < HELD; i++) {
      held[i].block = mp_slab_take(slab, size);
      fill(&held[i], size);
    }
    drop_all(slab, held);
    if (size == 128) before = arenas(slab);
  }
  CHECK(arenas(slab) <= before + 2);
}

static void nothing_is_asked_for_nothing(void) {
  struct mp_slab slab;
  mp_slab_init(&slab);
  CHECK(arenas(&slab) == 0);
  (void)mp_slab_trim(&slab, UINT_MAX);
  mp_slab_fini(&slab);
}

int main(void) {
  static struct held held[HELD];
  struct mp_slab slab;
  nothing_is_asked_for_nothing();
  mp_slab_init(&slab);
  by_lot(&slab, held);
  (void)mp_slab_trim(&slab, UINT_MAX); /* takes nothing from anybody */
  by_lot(&slab, held);
  drop_all(&slab, held);
  (void)mp_slab_trim(&slab, UINT_MAX);
  pages_change_their_size(&slab, held);
  mp_slab_fini(&slab);
  if (!failures) puts("ok");
  return failures != 0;
}
