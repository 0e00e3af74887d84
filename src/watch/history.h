/* history.h: what the last statements were: rings of the scripts', of the host's own (polls,
 * tokens, schedules), of those that were slow, that failed, and that failed by no fault of the
 * caller's: traffic washes away nothing that somebody looks for. Fixed memory; no parameter value
 * is ever kept. Owner: host. */
#ifndef MP_HISTORY_H
#define MP_HISTORY_H

#include <lua.h>
#include <stdbool.h>

#include "sql/text.h"
#include "util/err.h"

#define MP_HISTORY_SIZE 100 /* of each ring */

struct mp_history_entry {
  uint64_t number;      /* counts up from 1, over all statements */
  struct mp_text *text; /* a reference */
  uint64_t wall_us;     /* when it was answered */
  uint64_t duration_us; /* from sending to the answer */
  bool host;            /* the host's own */
  int rows;             /* given or changed; -1: failed */
  char operation[64];
  char where[96];    /* "scripts/create_order.lua:41" */
  char sqlstate[6];  /* of a failure: the server's, or "" */
  char code[64];     /* of a failure: "DATABASE_ERROR"; "": it succeeded */
  char message[200]; /* of a failure; values are taken out */
};

struct mp_history;

int mp_history_new(struct mp_history **out, struct mp_err *err) MP_MUST_CHECK;
void mp_history_unref(struct mp_history *history);

/* `entry->text` is borrowed; number and reference are the history's to make. `err`: it failed. */
void mp_history_add(struct mp_history *history, const struct mp_history_entry *entry, bool slow,
                    const struct mp_err *err);

enum mp_history_part { MP_HISTORY_SCRIPTS, MP_HISTORY_HOST, MP_HISTORY_FAILED, MP_HISTORY_ANY };

/* Pushes an array of up to `limit` tables, newest first, of statements of that part that took at
 * least `at_least_us`: { number=, query=, duration=, timestamp=, success=, operation=, line=,
 * rows=, error=, sqlstate=, host= }, times in ms. [-0, +1] */
void mp_history_push(lua_State *L, struct mp_history *history, enum mp_history_part part,
                     size_t limit, uint64_t at_least_us);

/* Pushes the text of statement `number` as it was sent; "" of a long one, of which only what is
 * shown is kept; nil: it is gone. [-0, +1] */
void mp_history_push_sent(lua_State *L, struct mp_history *history, uint64_t number);

#endif
