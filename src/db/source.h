/* source.h: what the files behind moonpool.db share: a database, or one connection of it that is
 * kept. */
#ifndef MP_SOURCE_H
#define MP_SOURCE_H

#include <lua.h>

#include "pool/pool.h"
#include "sql/state.h"
#include "sql/stmt.h"
#include "sql/types.h"

struct mp_copier;

/* A database, or one connection of it that is kept (db.lease). The functions' first upvalue. */
struct mp_source {
  struct mp_host *host;
  struct mp_pool *pool;     /* NULL: closed */
  bool own_pool;            /* made by db.open */
  unsigned users;           /* statements, leases and transactions that have not ended */
  struct mp_source *parent; /* kept: where the connection came from */
  struct mp_lease lease;    /* kept: conn is set */
  bool kept;
  struct mp_copier *copier;                 /* kept: copy.h; NULL unless a COPY is under way */
  void (*on_end)(struct mp_source *source); /* kept: the lease ends; NULL: nothing to do */
  bool dirty;                               /* kept: session state was left on it */
  struct mp_list reads; /* wait for a connection, and may share one (batch.h); single.c's */
  unsigned nreads;
  uint64_t timeout_ms; /* of one statement; 0: none */
  bool brief; /* a statement not answered within timeout_ms loses its connection at once, without a
                 cancel */
  bool patient; /* kept: held for long, and its statements take long, on purpose */
  bool own;     /* kept: for a module of the host, not for the script that calls it */
};

/* A new database over `pool`, which may be NULL. [-0, +1] */
struct mp_source *mp_source_push(lua_State *L, struct mp_host *host, struct mp_pool *pool);
/* The source behind the running function (its first upvalue), usable or not. */
struct mp_source *mp_source_of(lua_State *L);
/* Releases a kept connection. Does nothing if there is none. */
void mp_source_end_lease(struct mp_source *source);
/* Closes the pool of db.open. */
void mp_source_close_pool(struct mp_source *source);

/* Raises in a task that a running operation with a tenant has started. Only tx has the tenant, and
 * if N callers in transactions each wait for a second connection, a pool of N deadlocks. */
void mp_source_check_task(lua_State *L, const char *what);
/* The source behind the running function (its first upvalue); raises if it was closed, or if the
 * code runs inside a transaction, whose statements go through tx. */
struct mp_source *mp_source_usable(lua_State *L, const char *what);
/* The cached text at `idx`; raises if the running code belongs to a call and operations may not
 * send that text. NULL: as mp_text_get. */
struct mp_text *mp_source_text(lua_State *L, const struct mp_source *source, int idx,
                               const char *what);

/* Of the database that it leads to. */
static inline struct mp_types *mp_source_types(const struct mp_source *source) {
  return mp_types_of(source->host, source->pool);
}

/* single.c: runs one statement, which is a transaction of its own, and continues with `k`, the row
 * that holds its result on top. Takes over the reference. To be returned. */
int mp_single_run(lua_State *L, struct mp_source *source, struct mp_stmt *stmt, const char *what,
                  lua_KContext ctx, lua_KFunction k);

int mp_open_db(lua_State *L); /* the module moonpool.db */
/* Sets `database` in the table on top: host->shared->own as moonpool.db. [-0, +0] */
void mp_db_own_open(lua_State *L);
/* stand_in.c: sets `use_database` in the table on top (moonpool.host). [-0, +0] */
void mp_db_stand_in_open(lua_State *L);

/* transaction.c: db.transaction([options], fn) */
int mp_db_transaction(lua_State *L);
/* describe.c: describe(sql) -> { sql=, kind=, refused=, named=, parameters=, columns= }: what the
 * server knows of a statement that is not executed. `sql` is the text as sent, with $1, $2 ...
 * Suspends; raises what the server says of a wrong statement. */
int mp_db_describe(lua_State *L);

#endif
