/* bind.h: what the files of bind/ share: the meeting place of one VM and one pool.
 *
 * bind/ is the only layer that knows both Lua and PostgreSQL; one file per Lua module or type:
 *   text.c    SQL texts, $name parameters            sql.c     moonpool.sql
 *   text_kind.c what an operation may send: powers.c  offload.c work on the thread pool
 *   value.c   columns; param.c: parameters          password.c  moonpool.password
 *   stmt.c    one statement from queue to result     row.c     (lazy) rows
 *   txn.c     drives a transaction (tx/tx.h)         tx.c      the `tx` that scripts get
 *   db.c      moonpool.db                            shot.c    one statement outside of transactions
 *   db_transaction.c  db.transaction                 host.c    moonpool.uuid, now, log ...
 *   txn_hold.c which connection a transaction has
 *   txn_wire.c, txn_look.c, txn_resolve.c   what it sends; what scripts wait for; lost COMMITs and keys
 *   guard.c   pcall and xpcall inside transactions
 *   metrics.c what the host counts                   metrics_lua.c  moonpool.metrics
 *   history.c the last statements                health.c   does the database answer
 *   recorder.c  what calls did, step by step         txn_note.c  what transactions tell it
 *   cache.c   moonpool.cache                     listen.c  db.listen
 *   publish.c tx:publish, the host's own statements in operations
 *   fault.c   failures that specs order             types.c   the server's types
 *   failure.c error objects of failed statements   failed_calls.c  calls that failed, by code
 * Owner: the runtime, or a generation. It must outlive the VM's tasks. */
#ifndef MP_BIND_H
#define MP_BIND_H

#include <lua.h>

#include "admit/budget.h"
#include "admit/lane.h"
#include "bind/history.h"
#include "bind/metrics.h"
#include "bind/recorder.h"
#include "loop/loop.h"
#include "pool/pool.h"
#include "script/task.h"
#include "script/vm.h"
#include "util/buf.h"
#include "util/list.h"

struct mp_health;
struct mp_text;
struct mp_cache;
struct mp_listen;
struct mp_fault;

/* Statements of the host's own, for transactions of several calls. */
enum mp_control {
  MP_CONTROL_SAVEPOINT,
  MP_CONTROL_RELEASE,
  MP_CONTROL_UNDO,
  MP_CONTROL_WITNESS,
  MP_CONTROLS
};

struct mp_bind {
  struct mp_loop *loop;
  struct mp_sched *sched;
  struct mp_pool *pool;     /* the default database's */
  struct mp_pool *own;      /* the same database, by one connection for what the host itself asks */
  struct mp_health *health; /* pool/health.h */
  uint64_t query_timeout_ms; /* for what runs outside of transactions */
  uint64_t slow_query_ms;
  bool development;             /* MOONPOOL_ENV */
  size_t result_limit;          /* bytes of one result */
  struct mp_metrics *metrics;   /* the host's and the scripts' own, for the page */
  struct mp_meters *meters;     /* what the host counts in them */
  struct mp_history *history;   /* the last statements */
  struct mp_recorder *recorder; /* what the last calls did */
  const struct mp_lanes *lanes; /* to be looked at */
  struct mp_cache *cache;       /* it outlives every Lua state */
  uint64_t opened_ms;           /* loop time */
  uint64_t
      commit_timeout_ms; /* for the answer to a COMMIT; then it is resolved on another connection */
  struct mp_budget *retries;
  struct mp_task_limits limits;  /* of an operation of scripts/ */
  struct mp_task_limits loading; /* of loading the files of scripts/ */
  size_t body_values;            /* JSON values in the input of one call */
  /* Opens another database for scripts (db.open), or, if `url` is NULL, the default one by connections of its own; set by
   * the application, which knows the settings. */
  int (*open_pool)(struct mp_bind *bind, const char *url, unsigned max, struct mp_pool **out,
                   struct mp_err *err);
  void (*close_pool)(struct mp_bind *bind, struct mp_pool *pool);
  void *app;

  /* Of this VM alone, from here on: mp_bind_init starts them anew. */
  struct mp_vm *vm;
  struct mp_list meters_node; /* so that what all VMs use can be summed up */
  const char
      *tenant_field;     /* "company_id": the setting is app.<field>; NULL: no operation has one */
  size_t live_work;      /* transactions and statements that have not given back everything */
  bool scratch_used;     /* a finalizer may build a statement while another is being built */
  struct mp_buf scratch; /* parameters of the statement that is being built */
  struct {
    uint64_t hash;
    struct mp_text *text;
    int box_ref;
  } inserts[256]; /* text.c: a guess at the text of an insert by its columns */
  struct mp_text *controls[MP_CONTROLS]; /* NULL until needed */
  void *spare[32];                       /* txn.c: blocks of transactions that are over */
  size_t nspare;
  struct mp_list types; /* types.h: of each database; made when first asked for */
  unsigned last_types;
  struct mp_listen *listen; /* listen.h; NULL until somebody listens */
  struct mp_fault *fault;   /* fault.h; NULL unless a spec wants something to fail */
};

/* For a further VM of the same runtime: shares what `of` shares. */
void mp_bind_init(struct mp_bind *bind, const struct mp_bind *of, struct mp_vm *vm);

/* Registers all modules of bind/ with the VM. Raises; call it protected. */
void mp_bind_open(struct mp_bind *bind, lua_State *L);
struct mp_bind *mp_bind_of(lua_State *L);
void mp_bind_fini(struct mp_bind *bind); /* when the VM is closed */

/* A UUID of version 7 (RFC 9562, 5.7), in text form. */
void mp_bind_uuid(struct mp_bind *bind, char out[37]);
void mp_bind_format_uuid7(uint64_t wall_us, const uint64_t random[2], char out[37]);
void mp_bind_format_uuid4(const uint64_t random[2], char out[37]); /* random, RFC 9562, 5.4 */
/* "2026-11-23T18:09:27.123456Z" */
void mp_bind_timestamp(uint64_t wall_us, char out[32]);

int mp_open_db(lua_State *L);
/* Sets `database` in the table on top: bind->own as moonpool.db. [-0, +0] */
void mp_db_own_open(lua_State *L);
int mp_open_password(lua_State *L);
void mp_guard_open(lua_State *L); /* replaces the globals pcall and xpcall */
int mp_open_host(
    lua_State *L); /* the table "moonpool.host", which lua/moonpool/init.lua builds on */

#endif
