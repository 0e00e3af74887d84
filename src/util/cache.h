/* cache.h: a bounded map from bytes to bytes. Entries expire; when the limit is reached the ones
 * that were used least recently go. The caller gives the time. From any thread: the workers of a
 * host have one cache. */
#ifndef MP_CACHE_H
#define MP_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/buf.h"
#include "util/err.h"

struct mp_cache;

/* `max_bytes`: for keys, values and what it takes to keep them. */
int mp_cache_new(struct mp_cache **out, size_t max_bytes, struct mp_err *err) MP_MUST_CHECK;
void mp_cache_unref(struct mp_cache *cache); /* NULL is fine */

/* Adds the value to `out` (out->failed: no memory); false: absent or expired. */
bool mp_cache_get(struct mp_cache *cache, const char *key, size_t key_len, uint64_t now_ms,
                  struct mp_buf *out);
/* Copies both. False: it is larger than the limit, or there is no memory; then the key is
 * absent. */
bool mp_cache_set(struct mp_cache *cache, const char *key, size_t key_len, const char *value,
                  size_t value_len, uint64_t expires_ms);
bool mp_cache_delete(struct mp_cache *cache, const char *key, size_t key_len);
void mp_cache_clear(struct mp_cache *cache);

struct mp_cache_stats {
  size_t entries, bytes, max_bytes;
  uint64_t hits, misses, evictions;
};
void mp_cache_stats(struct mp_cache *cache, struct mp_cache_stats *out);

#endif
