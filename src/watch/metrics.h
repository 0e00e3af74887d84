/* metrics.h: what the host counts of transactions, statements and itself. Each is reported here
 * once, when it ends. The series of an operation are kept by its name, so a report is a look-up and
 * some additions. The names are a contract with dashboards and alert rules: see the table in
 * scripts/monitoring/README.md. Owner: the runtime. It must outlive the tasks. */
#ifndef MP_BIND_METRICS_H
#define MP_BIND_METRICS_H

#include <lua.h>

#include "pool/pool.h"
#include "rules/attempts.h"
#include "util/err.h"
#include "util/metrics.h"

struct mp_host;
struct mp_meters;

int mp_meters_new(struct mp_meters **out, struct mp_metrics *metrics,
                  struct mp_err *err) MP_MUST_CHECK;
void mp_meters_unref(struct mp_meters *meters);

/* A VM of the runtime; it leaves by taking host->meters_node off its list. */
void mp_meters_join(struct mp_meters *meters, struct mp_host *host);
/* For the layers below to observe in: the default pool, and the loop. */
struct mp_pool_meters mp_meters_pool(struct mp_meters *meters);
struct mp_series *mp_meters_loop_lag(struct mp_meters *meters);
struct mp_series *mp_meters_loop_longest(struct mp_meters *meters);

/* ---- transactions ---- */

#define MP_TX_END_MAP(X)                      \
  X(COMMITTED, "committed")                   \
  X(ROLLED_BACK, "rolled_back")               \
  X(UNKNOWN, "unknown")                       \
  X(RESOLVED_COMMITTED, "resolved_committed") \
  X(RESOLVED_ROLLED_BACK, "resolved_rolled_back")

enum mp_tx_end {
#define X(name, text) MP_TX_END_##name,
  MP_TX_END_MAP(X)
#undef X
      MP_TX_END_COUNT
};

enum mp_retry_reason {
  MP_RETRY_SERIALIZATION,
  MP_RETRY_DEADLOCK,
  MP_RETRY_CONNECTION,
  MP_RETRY_COUNT
};

struct mp_tx_report {
  const char *operation; /* "create_invoice"; "db.transaction" for a script's own */
  enum mp_isolation isolation;
  enum mp_tx_end end;       /* RESOLVED_*: COMMIT's answer was lost and its outcome found out */
  const struct mp_err *err; /* why it did not commit; NULL if it did */
  unsigned attempts, round_trips;
  unsigned retries[MP_RETRY_COUNT];
  enum mp_tx_retries refused; /* whose budget allowed no further attempt */
  unsigned group_size;        /* calls in this database transaction; 0: another member reports it */
  uint64_t duration_us;       /* over all attempts and waits */
};

/* A transaction has ended: reported once by whoever drives it. */
void mp_metrics_transaction(struct mp_meters *meters, const struct mp_tx_report *report);

/* ---- statements ---- */

struct mp_stmt_report {
  const char *operation;
  const struct mp_err *err; /* NULL: it succeeded */
  uint64_t duration_us;     /* from sending to the answer */
  bool slow;
};

void mp_metrics_statement(struct mp_meters *meters, const struct mp_stmt_report *report);

/* ---- others ---- */

/* A call has got its turn in its lane after waiting that long. */
void mp_metrics_lane(struct mp_meters *meters, uint64_t waited_us);
void mp_metrics_hook_error(struct mp_meters *meters);
/* A call of an operation (or a page, or a hook) has failed with that code and status; gives whose
 * fault it is. */
enum mp_blame mp_metrics_call_failed(struct mp_meters *meters, const char *operation,
                                     const char *code, int status, const char *call_id,
                                     uint64_t wall_us);
/* Counts changes of alerts, or calls sent as spans, that were "delivered", "failed" or "dropped".
 */
enum mp_outbound { MP_OUTBOUND_WEBHOOK, MP_OUTBOUND_TRACES };
void mp_metrics_outbound(struct mp_meters *meters, enum mp_outbound what, const char *result,
                         uint64_t n);

/* Totals since the start, over all operations; counters only. mp_meters_totals
 * sums them over all workers. */
struct mp_totals {
  uint64_t transactions, committed, rolled_back, failed, unknown, resolved, retried,
      deadlock_retries, refused_retries, transaction_us;
  uint64_t statements, failed_statements, slow_statements, statement_us;
  uint64_t hook_errors;
  uint64_t failed_calls[3];     /* by enum mp_blame */
  uint64_t unexpected_failures; /* of statements, except broken constraints and failures that are
                                   retried */
};

/* The active alerts as JSON, for all VMs; "[]" until they are set. Set copies, get borrows. */
const char *mp_meters_alerts(const struct mp_meters *meters);
void mp_meters_set_alerts(struct mp_meters *meters, const char *json);

/* Updates the values that are read, not counted (pool, lanes, memory, process). Call it before the
 * page is written. */
void mp_meters_refresh(struct mp_meters *meters, struct mp_host *host);

/* Pushes an array with one table per operation and isolation: { operation=, isolation=, total=,
 * committed=, rolled_back=, failed=, unknown=, retries=, avg_duration=, p50=, p95=, p99=, min=,
 * max=, last= }, durations in ms; `last`: the last ones, up to MP_METRIC_LAST. [-0, +1] */
void mp_meters_push_operations(lua_State *L, struct mp_meters *meters);

/* metrics_lua.c: adds counter, gauge, histogram and metrics_text to the table on top. [-0, +0] */
void mp_metrics_lua(lua_State *L);

/* ---- several workers, peers.c ----
 *
 * The numbers of a host with several workers (ops/crew.h), as one. Each worker makes a report on
 * its own thread; the front absorbs it. What reads the front's meters, registry and pool then sees
 * the sum. */

#define MP_WATCH_PEERS 64 /* by the worker's number */

struct mp_watch_report;

/* Of the runtime of `host`. NULL: no memory. */
struct mp_watch_report *mp_watch_report_new(struct mp_host *host);
void mp_watch_report_free(struct mp_watch_report *report); /* NULL is fine */
/* Takes the report in place of the worker's last one. */
void mp_meters_absorb(struct mp_meters *meters, struct mp_watch_report *report, unsigned worker);

/* ---- all workers together ---- */

void mp_meters_totals(const struct mp_meters *meters, struct mp_totals *out);
void mp_meters_pool_stats(const struct mp_meters *meters, const struct mp_pool *pool,
                          struct mp_pool_stats *out);
/* Pushes an array by worker, the front's first, of { total=, active=, waiting=, min=, max= }. [-0,
 * +1] */
void mp_meters_push_pools(lua_State *L, const struct mp_meters *meters, const struct mp_pool *pool);
/* Another worker whose calls wait for its connections (health.h); NULL: none. Valid until its next
 * numbers are absorbed. */
struct mp_saturated;
const struct mp_saturated *mp_meters_saturated_peer(const struct mp_meters *meters);
/* failed_calls.h: pushes an array, the latest first. [-0, +1] */
void mp_meters_push_failed(lua_State *L, const struct mp_meters *meters);

#endif
