/* result.h: a reference-counted PGresult. It is shared by the lazy rows of a script and by the
 * request that brought it; the last holder frees it. */
#ifndef MP_RESULT_H
#define MP_RESULT_H

#include <libpq-fe.h>
#include <stdbool.h>

/* What a column's values are, where its type alone does not tell. */
struct mp_column {
  Oid type;    /* a domain's is its base type */
  Oid element; /* of an array, 0 of all else */
  char delimiter;
};

struct mp_result {
  PGresult *pg; /* never NULL */
  int refs;
  /* Called when the result is freed, by the account that it is charged to; NULL: not charged */
  void (*on_freed)(void *data);
  void *data;
  struct mp_column *columns; /* by mp_types_settle; from malloc. NULL: as PQftype says */
};

/* Takes `pg`; NULL (and `pg` freed) if memory is short. One reference is the caller's. */
struct mp_result *mp_result_new(PGresult *pg);
struct mp_result *mp_result_ref(struct mp_result *result);
void mp_result_unref(struct mp_result *result); /* NULL is fine */

/* Have two of its columns the same name? The first such pair, by number from 0. */
bool mp_result_name_twice(const PGresult *pg, int *first, int *second);

#endif
