/* history.h: the last statements, in separate rings: those of scripts, of the host itself (polls,
 * tokens, schedules), slow ones, failed ones, and those that failed by no fault of the caller. So
 * traffic of one kind does not push out another. Fixed memory; parameter values are never kept.
 * Owner: the runtime. */
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
  int rows;             /* returned or changed; -1: failed */
  char operation[64];
  char where[96];    /* "scripts/create_order.lua:41" */
  char sqlstate[6];  /* of a failure: the server's, or "" */
  char code[64];     /* of a failure: "DATABASE_ERROR"; "": it succeeded */
  char message[200]; /* of a failure; without values */
};

struct mp_history;

int mp_history_new(struct mp_history **out, struct mp_err *err) MP_MUST_CHECK;
void mp_history_unref(struct mp_history *history);

/* Copies the entry; `entry->text` is borrowed, the history sets the number and takes a reference.
 * `err`: the statement failed; NULL: it did not. */
void mp_history_add(struct mp_history *history, const struct mp_history_entry *entry, bool slow,
                    const struct mp_err *err);

enum mp_history_part { MP_HISTORY_SCRIPTS, MP_HISTORY_HOST, MP_HISTORY_FAILED, MP_HISTORY_ANY };

/* Pushes an array of up to `limit` tables, newest first, of statements of that part that took at
 * least `at_least_us`: { number=, query=, duration=, timestamp=, success=, operation=, line=,
 * rows=, error=, sqlstate=, host= }, times in ms. [-0, +1] */
void mp_history_push(lua_State *L, struct mp_history *history, enum mp_history_part part,
                     size_t limit, uint64_t at_least_us);

/* Pushes the text of statement `number` as it was sent; "" for a long one, of which only the shown
 * part is kept; nil: no longer in the history. [-0, +1] */
void mp_history_push_sent(lua_State *L, struct mp_history *history, uint64_t number);

#endif
