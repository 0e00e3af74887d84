/* types.h: the server's arrays with their element types, and domains with their base types.
 * Built-in types are known. Others (enums, domains, composites, types of extensions) are looked up
 * when a result or a description first names them: once per database and Lua state, over the same
 * connection, before the waiting task goes on. */
#ifndef MP_TYPES_H
#define MP_TYPES_H

#include "pg/conn.h"
#include "pg/result.h"
#include "sql/state.h"

enum { MP_TYPES_AT_ONCE = 32 };

/* One query for types, in the memory of its caller until on_done. */
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
/* A number for each database of a Lua state, from 1. */
unsigned mp_types_id(const struct mp_types *types);

/* How values of the type are read; those of a domain like its base type's. `types` may be NULL:
 * only built-in types are known then. */
struct mp_column mp_types_find(const struct mp_types *types, Oid type);
/* What the values of a column are. */
struct mp_column mp_types_column(const struct mp_result *result, int col);

/* Collects the unknown types of the result's columns and parameters. True if there are any. */
bool mp_types_want(struct mp_types_question *question, struct mp_types *types,
                   const struct mp_result *result);
/* Queries the collected types; calls on_done with the answer. `lost`: the connection was lost. */
void mp_types_ask(struct mp_types_question *question, struct mp_conn *conn);
/* Stores the column types with the result. */
void mp_types_settle(const struct mp_types *types, struct mp_result *result);

#endif
