/* state.h: what the rooms above share of one VM: its database, its limits, where things are told.
 * Most of it belongs to the runtime and is the same for all VMs of it; what is of this VM alone
 * stands last. Owner: the runtime, or a generation. It must outlive the VM's tasks. */
#ifndef MP_STATE_H
#define MP_STATE_H

#include <lua.h>

#include "loop/loop.h"
#include "script/task.h"
#include "script/vm.h"
#include "util/buf.h"
#include "util/list.h"

struct mp_pool;
struct mp_health;
struct mp_metrics;
struct mp_meters;
struct mp_history;
struct mp_recorder;
struct mp_lanes;
struct mp_budget;
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
  /* for the answer to a COMMIT; then it is resolved on another connection */
  uint64_t commit_timeout_ms;
  struct mp_budget *retries;
  struct mp_task_limits limits;  /* of an operation of scripts/ */
  struct mp_task_limits loading; /* of loading the files of scripts/ */
  size_t body_values;            /* JSON values in the input of one call */
  /* Opens another database for scripts (db.open), or, if `url` is NULL, the default one by
   * connections of its own; set by the application, which knows the settings. */
  int (*open_pool)(struct mp_bind *bind, const char *url, unsigned max, struct mp_pool **out,
                   struct mp_err *err);
  void (*close_pool)(struct mp_bind *bind, struct mp_pool *pool);
  void *app;

  /* Of this VM alone, from here on: mp_bind_init starts them anew. */
  struct mp_vm *vm;
  struct mp_list meters_node; /* so that what all VMs use can be summed up */
  /* "company_id": the setting is app.<field>; NULL: no operation has one */
  const char *tenant_field;
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

void mp_bind_register(struct mp_bind *bind, lua_State *L); /* the VM's, for mp_bind_of */
struct mp_bind *mp_bind_of(lua_State *L);

#endif
