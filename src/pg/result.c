#include "pg/result.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/attr.h"
#include "util/hash.h"

struct mp_result *mp_result_new(PGresult *pg) {
  struct mp_result *result = malloc(sizeof *result);
  if (!result) {
    PQclear(pg);
    return NULL;
  }
  *result = (struct mp_result){.pg = pg, .refs = 1};
  return result;
}

struct mp_result *mp_result_ref(struct mp_result *result) {
  result->refs++;
  return result;
}

void mp_result_unref(struct mp_result *result) {
  if (!result || --result->refs) return;
  PQclear(result->pg);
  if (result->on_freed) result->on_freed(result->data);
  free(result->columns);
  free(result);
}

/* By a hash table of the names: PostgreSQL's limit is 1,664 columns. */
bool mp_result_name_twice(const PGresult *pg, int *first, int *second) {
  uint16_t slots[4096];
  int n = PQnfields(pg);
  size_t size = 8;
  while (size < (size_t)n * 2) size *= 2;
  if (n < 2 || size > MP_ARRAY_LEN(slots)) return false;
  memset(slots, 0, size * sizeof *slots);
  for (int i = 0; i < n; i++) {
    const char *name = PQfname(pg, i);
    size_t at = mp_hash(MP_HASH_START, name, strlen(name)) & (size - 1);
    for (; slots[at]; at = (at + 1) & (size - 1)) {
      if (strcmp(PQfname(pg, slots[at] - 1), name) != 0) continue;
      *first = slots[at] - 1;
      *second = i;
      return true;
    }
    slots[at] = (uint16_t)(i + 1);
  }
  return false;
}
