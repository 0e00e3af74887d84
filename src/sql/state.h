/* state.h: what one VM's code reaches of its runtime (struct mp_host), and what all VMs of a
 * runtime have in common (struct mp_shared). The rooms above keep their own part behind an opaque
 * pointer.
 *
 * Owner of an mp_host: the runtime, or a generation of scripts/; it must outlive the VM's tasks.
 * Owner of the mp_shared: the runtime. Thread: the loop's. */
#ifndef MP_STATE_H
#define MP_STATE_H

#include <lua.h>

#include "loop/loop.h"
#include "script/task.h"
#include "script/vm.h"
#include "util/buf.h"
#include "util/list.h"

struct mp_budget;
struct mp_cache;
struct mp_health;
struct mp_history;
struct mp_host;
struct mp_lanes;
struct mp_listen;
struct mp_meters;
struct mp_metrics;
struct mp_pool;
struct mp_recorder;
struct mp_text;
struct mp_txns;
struct mp_wal_flush;

/* Of one runtime, and the same for all its VMs. */
struct mp_shared {
  struct mp_pool *own; /* one connection to the default database, for the host's own queries */
  struct mp_budget *retries;      /* rules/budget.h */
  struct mp_cache *cache;         /* moonpool.cache */
  struct mp_wal_flush *wal_flush; /* txn/wal_flush.h: of the default database */

  /* Where work is reported. */
  struct mp_metrics *metrics;   /* the host's and the scripts' own, for the page */
  struct mp_meters *meters;     /* what the host counts in them */
  struct mp_history *history;   /* the last statements */
  struct mp_recorder *recorder; /* what the last calls did */
  struct mp_health *health;     /* pool/health.h */
  struct mp_lanes *lanes;       /* read for the report of lanes */
  uint64_t opened_ms;           /* loop time */

  bool development;  /* MOONPOOL_ENV */
  bool mcp;          /* MOONPOOL_MCP */
  const char *check; /* MOONPOOL_CHECK: what happens with scripts that have mistakes */
  bool shared_flush; /* MOONPOOL_FLUSH: of transactions that do not say it themselves */
  /* Settings. Sizes in bytes, times in milliseconds; 0: no limit. */
  uint64_t query_timeout_ms; /* of a statement outside of transactions */
  uint64_t slow_query_ms;
  uint64_t
      commit_timeout_ms; /* of COMMIT's answer; then its outcome is asked on another connection */
  size_t result_limit;   /* of one result */
  size_t body_values;    /* JSON values in the input of one call */
  struct mp_task_limits limits;  /* of an operation of scripts/ */
  struct mp_task_limits loading; /* of loading the files of scripts/ */

  /* The application's, which knows the settings. open_pool opens another database for scripts
   * (db.open), or, if `url` is NULL, the default one by connections of its own. */
  int (*open_pool)(struct mp_host *host, const char *url, unsigned max, struct mp_pool **out,
                   struct mp_err *err);
  void (*close_pool)(struct mp_host *host, struct mp_pool *pool);
  /* What else the VMs of scripts/ have; the module "moonpool.host" is on top. Raises. NULL: no
   * more.
   */
  void (*open_vm)(struct mp_host *host, lua_State *L);
  void *open_vm_data;
  void *app;
};

/* sql's own part. */
struct mp_sql {
  bool scratch_used;     /* a finalizer may build a statement while another is being built */
  struct mp_buf scratch; /* parameters of the statement that is being built */
  struct {
    uint64_t hash;
    struct mp_text *text;
    int box_ref;
  } inserts[256];       /* insert.c: a guess at the text of an insert by its columns */
  struct mp_list types; /* types.h: of each database; made when first asked for */
  unsigned last_types;
};

/* Of one VM. */
struct mp_host {
  const struct mp_shared *shared;
  struct mp_loop *loop;
  struct mp_sched *sched;
  struct mp_vm *vm;
  struct mp_pool *pool; /* the default database's */
  const char
      *tenant_field; /* "company_id": the setting is app.<field>; NULL: no operation has one */
  size_t live_work;  /* transactions and statements that still hold something */
  struct mp_list meters_node; /* of all VMs, for sums of what they use */
  struct mp_sql sql;
  struct mp_txns *txns;     /* txn's own part */
  struct mp_listen *listen; /* db's own part; NULL until a script listens */
};

void mp_host_register(struct mp_host *host, lua_State *L); /* the VM's, for mp_host_of */
struct mp_host *mp_host_of(lua_State *L);

#endif
