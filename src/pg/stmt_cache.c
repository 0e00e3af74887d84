#include "pg/stmt_cache.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/buf.h"

/* Memory shortage must come back as an error, never as exit(). */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->number = 0)
#define HASH_FUNCTION                                                        \
  HASH_FNV /* the default one falls through its switch, which clang warns of \
            */
#include <uthash.h>

struct mp_prepared {
  UT_hash_handle hh;
  struct mp_list lru;
  unsigned number;
  char sql[];
};

void mp_stmt_name(unsigned number, char out[MP_STMT_NAME_SIZE]) {
  out[0] = 'm';
  out[1] = 'p';
  out[2 + mp_format_int(out + 2, number)] = '\0';
}

void mp_stmt_cache_init(struct mp_stmt_cache *cache, size_t limit) {
  *cache = (struct mp_stmt_cache){.limit = limit};
  mp_list_init(&cache->lru);
}

static void forget(struct mp_stmt_cache *cache, struct mp_prepared *stmt, bool on_server) {
  if (on_server) {
    if (cache->dropped_len == cache->dropped_cap) {
      size_t cap = cache->dropped_cap ? cache->dropped_cap * 2 : 8;
      unsigned *dropped = realloc(cache->dropped, cap * sizeof *dropped);
      if (dropped) {
        cache->dropped = dropped;
        cache->dropped_cap = cap;
      }
    }
    /* Without memory the statement stays on the server until the session ends, which does no harm.
     */
    if (cache->dropped_len < cache->dropped_cap)
      cache->dropped[cache->dropped_len++] = stmt->number;
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(cache->front); i++)
    for (int way = 0; way < 2; way++)
      if (cache->front[i][way].stmt == stmt) cache->front[i][way].stmt = NULL;
  HASH_DEL(cache->table, stmt);
  mp_list_remove(&stmt->lru);
  cache->count--;
  free(stmt);
}

void mp_stmt_drop_all(struct mp_stmt_cache *cache, bool on_server) {
  while (!mp_list_empty(&cache->lru))
    forget(cache, MP_LIST_ENTRY(cache->lru.next, struct mp_prepared, lru), on_server);
}

void mp_stmt_cache_fini(struct mp_stmt_cache *cache) {
  mp_stmt_drop_all(cache, false);
  free(cache->dropped);
  cache->dropped = NULL;
}

static struct mp_prepared *lookup(struct mp_stmt_cache *cache, const char *sql) {
  size_t slot =
      ((uint64_t)(uintptr_t)sql * UINT64_C(0x9e3779b97f4a7c15) >> 32) % MP_ARRAY_LEN(cache->front);
  struct mp_prepared_at *way = cache->front[slot];
  /* Compared anyway: another text may now be at the same address. */
  for (int i = 0; i < 2; i++)
    if (way[i].address == sql && way[i].stmt && !strcmp(way[i].stmt->sql, sql)) return way[i].stmt;
  struct mp_prepared *stmt;
  HASH_FIND(hh, cache->table, sql, strlen(sql), stmt);
  way[1] = way[0];
  way[0] = (struct mp_prepared_at){sql, stmt};
  return stmt;
}

unsigned mp_stmt_find(struct mp_stmt_cache *cache, const char *sql) {
  struct mp_prepared *stmt = lookup(cache, sql);
  if (!stmt) return 0;
  mp_list_remove(&stmt->lru);
  mp_list_push_back(&cache->lru, &stmt->lru);
  return stmt->number;
}

unsigned mp_stmt_add(struct mp_stmt_cache *cache, const char *sql) {
  size_t len = strlen(sql);
  struct mp_prepared *stmt = malloc(sizeof *stmt + len + 1);
  if (!stmt) return 0;
  memcpy(stmt->sql, sql, len + 1);
  stmt->number = ++cache->next_number;
  HASH_ADD_KEYPTR(hh, cache->table, stmt->sql, len, stmt);
  if (!stmt->number) {
    free(stmt);
    return 0;
  }
  mp_list_push_back(&cache->lru, &stmt->lru);
  if (++cache->count > cache->limit)
    forget(cache, MP_LIST_ENTRY(cache->lru.next, struct mp_prepared, lru), true);
  return stmt->number;
}

void mp_stmt_drop(struct mp_stmt_cache *cache, const char *sql, bool on_server) {
  struct mp_prepared *stmt = lookup(cache, sql);
  if (stmt) forget(cache, stmt, on_server);
}

bool mp_stmt_take_dropped(struct mp_stmt_cache *cache, unsigned *number) {
  if (!cache->dropped_len) return false;
  *number = cache->dropped[--cache->dropped_len];
  return true;
}
