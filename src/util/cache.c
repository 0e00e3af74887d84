#include "util/cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/list.h"

struct entry {
  UT_hash_handle hh;
  struct mp_list node; /* the least recently used first */
  uint64_t expires_ms;
  size_t key_len, value_len;
  char bytes[]; /* key, value */
};

struct mp_cache {
  pthread_mutex_t lock; /* of all that follows */
  struct entry *entries;
  struct mp_list used;
  struct mp_cache_stats stats;
};

static size_t size_of(size_t key_len, size_t value_len) {
  return sizeof(struct entry) + key_len + value_len;
}

int mp_cache_new(struct mp_cache **out, size_t max_bytes, struct mp_err *err) {
  struct mp_cache *cache = calloc(1, sizeof *cache);
  if (!cache) return mp_err_set(err, MP_ENOMEM, "no memory for a cache");
  cache->stats.max_bytes = max_bytes;
  mp_list_init(&cache->used);
  pthread_mutex_init(&cache->lock, NULL);
  *out = cache;
  return 0;
}

static void drop(struct mp_cache *cache, struct entry *entry) {
  HASH_DEL(cache->entries, entry); /* NOLINT(clang-analyzer-core.NullDereference): uthash */
  mp_list_remove(&entry->node);
  cache->stats.entries--;
  cache->stats.bytes -= size_of(entry->key_len, entry->value_len);
  MP_FREE_LISTED(entry);
}

static void drop_all(struct mp_cache *cache) {
  struct mp_list *node;
  while ((node = cache->used.next) != &cache->used)
    drop(cache, MP_LIST_ENTRY(node, struct entry, node));
}

void mp_cache_clear(struct mp_cache *cache) {
  pthread_mutex_lock(&cache->lock);
  drop_all(cache);
  pthread_mutex_unlock(&cache->lock);
}

void mp_cache_unref(struct mp_cache *cache) {
  if (!cache) return;
  drop_all(cache);
  pthread_mutex_destroy(&cache->lock);
  free(cache);
}

static struct entry *find(struct mp_cache *cache, const char *key, size_t key_len) {
  struct entry *entry;
  HASH_FIND(hh, cache->entries, key, key_len, entry);
  return entry;
}

static bool get(struct mp_cache *cache, const char *key, size_t key_len, uint64_t now_ms,
                struct mp_buf *out) {
  struct entry *entry = find(cache, key, key_len);
  if (entry && now_ms >= entry->expires_ms) {
    drop(cache, entry);
    entry = NULL;
  }
  if (!entry) {
    cache->stats.misses++;
    return false;
  }
  cache->stats.hits++;
  mp_list_remove(&entry->node);
  mp_list_push_back(&cache->used, &entry->node);
  mp_buf_add(out, entry->bytes + key_len, entry->value_len);
  return true;
}

bool mp_cache_get(struct mp_cache *cache, const char *key, size_t key_len, uint64_t now_ms,
                  struct mp_buf *out) {
  pthread_mutex_lock(&cache->lock);
  bool found = get(cache, key, key_len, now_ms, out);
  pthread_mutex_unlock(&cache->lock);
  return found;
}

static bool take_out(struct mp_cache *cache, const char *key, size_t key_len) {
  struct entry *entry = find(cache, key, key_len);
  if (entry) drop(cache, entry);
  return entry != NULL;
}

static bool set(struct mp_cache *cache, const char *key, size_t key_len, const char *value,
                size_t value_len, uint64_t expires_ms) {
  take_out(cache, key, key_len);
  size_t size = size_of(key_len, value_len), max = cache->stats.max_bytes;
  if (size > max) return false;
  while (cache->stats.bytes + size > max) {
    drop(cache, MP_LIST_ENTRY(cache->used.next, struct entry, node));
    cache->stats.evictions++;
  }
  struct entry *entry = malloc(size);
  if (!entry) return false;
  memset(entry, 0, sizeof *entry);
  entry->expires_ms = expires_ms;
  entry->key_len = key_len;
  entry->value_len = value_len;
  memcpy(entry->bytes, key, key_len);
  memcpy(entry->bytes + key_len, value, value_len);
  HASH_ADD_KEYPTR(hh, cache->entries, entry->bytes, key_len, entry);
  if (!entry->hh.tbl) { /* no memory for the table */
    free(entry);
    return false;
  }
  mp_list_push_back(&cache->used, &entry->node);
  cache->stats.entries++;
  cache->stats.bytes += size;
  return true;
}

bool mp_cache_set(struct mp_cache *cache, const char *key, size_t key_len, const char *value,
                  size_t value_len, uint64_t expires_ms) {
  pthread_mutex_lock(&cache->lock);
  bool kept = set(cache, key, key_len, value, value_len, expires_ms);
  pthread_mutex_unlock(&cache->lock);
  return kept;
}

bool mp_cache_delete(struct mp_cache *cache, const char *key, size_t key_len) {
  pthread_mutex_lock(&cache->lock);
  bool there = take_out(cache, key, key_len);
  pthread_mutex_unlock(&cache->lock);
  return there;
}

void mp_cache_stats(struct mp_cache *cache, struct mp_cache_stats *out) {
  pthread_mutex_lock(&cache->lock);
  *out = cache->stats;
  pthread_mutex_unlock(&cache->lock);
}
