/* failed_calls.h: how often calls of operations have failed, by operation, code and fault, with the
 * id of the last call of each kind, so that an operator can look it up. Bounded: kinds beyond the
 * limit are counted under the operation "other". Owner: the meters (metrics.h), which count the
 * same for Prometheus. */
#ifndef MP_FAILED_CALLS_H
#define MP_FAILED_CALLS_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/codes.h"

#define MP_FAILED_KINDS 200

struct mp_failed_calls;

struct mp_failed_call {
  const char *operation, *code;
  enum mp_blame blame;
  const char *call_id; /* NULL: it failed before it had one */
  uint64_t wall_us;
};

struct mp_failed_calls *mp_failed_calls_new(void); /* NULL: no memory */
void mp_failed_calls_unref(struct mp_failed_calls *calls);
/* False: counted under "other". */
bool mp_failed_calls_add(struct mp_failed_calls *calls, const struct mp_failed_call *call);
struct mp_failed_calls *mp_failed_calls_copy(const struct mp_failed_calls *calls); /* or NULL */
/* Pushes an array of { operation=, code=, fault=, count=, last=, call_id= }, the latest first, of
 * `n` workers of a host together. [-0, +1] */
void mp_failed_calls_push(lua_State *L, const struct mp_failed_calls *const *all, size_t n);

#endif
