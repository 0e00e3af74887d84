/* result.h: a reference-counted PGresult. It is shared by the lazy rows of a script and by the
 * request that brought it; the last holder frees it. */
#ifndef MP_RESULT_H
#define MP_RESULT_H

#include <libpq-fe.h>
#include <stdbool.h>

struct mp_result {
  PGresult *pg; /* never NULL */
  int refs;
  /* Of whom it is charged to: called when it is freed. NULL: nobody */
  void (*on_freed)(void *data);
  void *data;
};

/* Takes `pg`; NULL (and `pg` freed) if memory is short. One reference is the caller's. */
struct mp_result *mp_result_new(PGresult *pg);
struct mp_result *mp_result_ref(struct mp_result *result);
void mp_result_unref(struct mp_result *result); /* NULL is fine */

/* Have two of its columns the same name? The first such pair, by number from 0. */
bool mp_result_name_twice(const PGresult *pg, int *first, int *second);

#endif
