#include "pg/result.h"

#include <stdlib.h>

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
  free(result);
}
