/* hash.h: FNV-1a, 64 bits: small, the same on every machine, and no secret: who chooses the text
 * can make two texts collide. */
#ifndef MP_HASH_H
#define MP_HASH_H

#include <stddef.h>
#include <stdint.h>

#define MP_HASH_START UINT64_C(14695981039346656037)

/* The hash of what `hash` is of (MP_HASH_START: nothing) and the bytes behind it. */
static inline uint64_t mp_hash(uint64_t hash, const void *bytes, size_t n) {
  for (const unsigned char *at = bytes; n--; at++) hash = (hash ^ *at) * UINT64_C(1099511628211);
  return hash;
}

#endif
