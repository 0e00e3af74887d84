/* history.h: what the last statements were: a ring of all, and one of those that were slow or failed, so that
 * traffic does not wash away what somebody looks for. Fixed memory; no parameter value is ever kept.
 * Owner: bind. */
#ifndef MP_HISTORY_H
#define MP_HISTORY_H

#include <lua.h>

#include "bind/text.h"
#include "util/err.h"

#define MP_HISTORY_SIZE 100 /* of each ring */

struct mp_history_entry {
  uint64_t number;      /* counts up from 1, over all statements */
  struct mp_text *text; /* a reference */
  uint64_t wall_us;     /* when it was answered */
  uint64_t duration_us; /* from sending to the answer */
  int rows;             /* given or changed; -1: failed */
  char operation[64];
  char where[96];    /* "scripts/create_order.lua:41" */
  char sqlstate[6];  /* of a failure: the server's, or "" */
  char code[24];     /* of a failure: "DATABASE_ERROR"; "": it succeeded */
  char message[200]; /* of a failure; values are taken out */
};

struct mp_history;

int mp_history_new(struct mp_history **out, struct mp_err *err) MP_MUST_CHECK;
void mp_history_unref(struct mp_history *history);

/* `entry->text` is borrowed; number and reference are the history's to make. `notable`: slow or failed. */
void mp_history_add(struct mp_history *history, const struct mp_history_entry *entry, bool notable);

/* Pushes an array of up to `limit` tables, newest first, of statements that took at least `at_least_us`:
 * { number=, query=, duration=, timestamp=, success=, operation=, line=, rows=, error=, sqlstate= }, times in
 * ms. [-0, +1] */
void mp_history_push(lua_State *L, struct mp_history *history, size_t limit, uint64_t at_least_us);

#endif
