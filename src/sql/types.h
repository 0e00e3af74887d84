/* types.h: which of the server's types are arrays, and of what; which are domains, and over what.
 *
 * The usual ones are known; all others (enums, domains, composites, types of extensions) are asked
 * for when a result, or the description of a text, first names them: once per database and Lua
 * state, on the connection that brought it, before whoever waits for it goes on. */
#ifndef MP_TYPES_H
#define MP_TYPES_H

#include "pg/conn.h"
#include "pg/result.h"
#include "sql/state.h"

enum { MP_TYPES_AT_ONCE = 32 };

/* One question: in the memory of whoever asks, until on_done. */
struct mp_types_question {
  struct mp_req req;
  struct mp_sync sync;
  struct mp_types *types;
  Oid wanted[MP_TYPES_AT_ONCE];
  unsigned count;
  char list[MP_TYPES_AT_ONCE * 11 + 3]; /* "{16385,16390}" */
  const char *values[1];
  struct mp_err err; /* the question failed */
  void (*on_done)(struct mp_types_question *question, const struct mp_err *lost);
};

/* The types of the database that `pool` leads to; NULL: no memory. */
struct mp_types *mp_types_of(struct mp_host *host, const struct mp_pool *pool);
/* The pool is closed. */
void mp_types_forget(struct mp_host *host, const struct mp_pool *pool);
void mp_types_fini(struct mp_host *host);
/* Another number for each database of a Lua state, from 1. */
unsigned mp_types_id(const struct mp_types *types);

/* What values of the type are: a domain's are its base type's. `types` may be NULL: the usual ones
 * are known. */
struct mp_column mp_types_find(const struct mp_types *types, Oid type);
/* What the values of a column are. */
struct mp_column mp_types_column(const struct mp_result *result, int col);

/* Notes the types of the result's columns and parameters that are not known. True if there are
 * any. */
bool mp_types_want(struct mp_types_question *question, struct mp_types *types,
                   const struct mp_result *result);
/* Asks for what was noted; calls on_done when it is answered. `lost`: with the connection. */
void mp_types_ask(struct mp_types_question *question, struct mp_conn *conn);
/* Notes with the result what its columns are, so that they can be read without asking. */
void mp_types_settle(const struct mp_types *types, struct mp_result *result);

#endif
