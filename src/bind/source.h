/* source.h: what the files behind moonpool.db share: a database, or one connection of it that is kept. */
#ifndef MP_SOURCE_H
#define MP_SOURCE_H

#include <lua.h>

#include "bind/bind.h"
#include "bind/stmt.h"

struct mp_copier;

/* A database, or one connection of it that is kept (db.lease). The functions' first upvalue. */
struct mp_source {
  struct mp_bind *bind;
  struct mp_pool *pool;     /* NULL: closed */
  bool own_pool;            /* made by db.open */
  unsigned users;           /* statements, leases and transactions that have not ended */
  struct mp_source *parent; /* kept: where the connection came from */
  struct mp_lease lease;    /* kept: conn is set */
  bool kept;
  struct mp_copier *copier; /* kept: copy.h; NULL unless a COPY is under way */
  bool dirty;               /* kept: session state was left on it */
  uint64_t timeout_ms;      /* of one statement; 0: none */
  bool patient;             /* kept: held for long, and its statements take long, on purpose */
};

/* The source behind the running function (its first upvalue); raises if it was closed, or if the code runs
 * inside a transaction, whose statements go through tx. */
struct mp_source *mp_source_usable(lua_State *L, const char *what);

/* shot.c: runs one statement, which is a transaction of its own, and continues with `k`, the row that holds its result
 * on top. Takes over the reference. To be returned. */
int mp_shoot(lua_State *L, struct mp_source *source, struct mp_stmt *stmt, const char *what,
             lua_KContext ctx, lua_KFunction k);

/* db_transaction.c: db.transaction([options], fn) */
int mp_db_transaction(lua_State *L);

#endif
