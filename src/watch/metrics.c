#include "watch/metrics.h"

#include <dirent.h>
#include <lauxlib.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rules/lane.h"
#include "sql/state.h"
#include "watch/failed_calls.h"
#include "watch/health.h"
#include "watch/meter_map.h"
#include "watch/metrics_priv.h"

static const char *const refused_names[MP_TX_RETRIES_KINDS] = {
    [MP_TX_OWN_RETRIES_SPENT] = "operation_budget", [MP_TX_HOST_RETRIES_SPENT] = "host_budget"};

static const char *const end_names[] = {
#define X(name, text) text,
    MP_TX_END_MAP(X)
#undef X
};

static const char *const reason_names[] = {"serialization", "deadlock", "connection"};

#define SERIES(metric, ...) mp_metric_series(metric, (const char *[]){__VA_ARGS__})
#define ONLY(metric) mp_metric_series(metric, NULL) /* of a metric without labels */

/* ---- life ---- */

/* The process has one of each; and the front watches the database for all workers. */
static enum mp_metric_merge merge_of(size_t field) {
  static const size_t own[] = {offsetof(struct mp_meters, database_up),
                               offsetof(struct mp_meters, health_state),
                               offsetof(struct mp_meters, health_seconds),
                               offsetof(struct mp_meters, health_failures),
                               offsetof(struct mp_meters, build_info),
                               offsetof(struct mp_meters, start_time),
                               offsetof(struct mp_meters, cpu),
                               offsetof(struct mp_meters, memory),
                               offsetof(struct mp_meters, fds)};
  for (size_t i = 0; i < MP_ARRAY_LEN(own); i++)
    if (own[i] == field) return MP_MERGE_OWN;
  return field == offsetof(struct mp_meters, loop_longest) ? MP_MERGE_MAX : MP_MERGE_SUM;
}

int mp_meters_new(struct mp_meters **out, struct mp_metrics *metrics, struct mp_err *err) {
  /* The usual ones are there from the start. */
  static const char *const classes[] = {"none", "22", "23", "25", "40", "42",
                                        "53",   "55", "57", "P0", "XX"};
  static const char *const outbound[] = {"delivered", "failed", "dropped"};
  static const double sizes[] = {1, 2, 5, 10, 20, 50, 100};
  static const struct {
    struct mp_metric_options options;
    size_t offset;
  } table[] = {
#define X(field, text, of_kind, about, ...)                                 \
  {{.name = text, .help = about, .kind = of_kind, .labels = {__VA_ARGS__}}, \
   offsetof(struct mp_meters, field)},
      MP_METER_MAP(X)
#undef X
  };
  struct mp_meters *meters = calloc(1, sizeof *meters);
  if (!meters) return mp_err_set(err, MP_ENOMEM, "no memory for metrics");
  meters->failed = mp_failed_calls_new();
  if (!meters->failed) {
    free(meters);
    return mp_err_set(err, MP_ENOMEM, "no memory for metrics");
  }
  meters->metrics = metrics;
  strcpy(meters->other.name, "other");
  mp_list_init(&meters->binds);
  for (size_t i = 0; i < MP_ARRAY_LEN(table); i++) {
    struct mp_metric_options options = table[i].options;
    if (table[i].offset == offsetof(struct mp_meters, failed_calls))
      options.max_series = MP_FAILED_KINDS + 10;
    if (table[i].offset == offsetof(struct mp_meters, group_size)) {
      options.bounds = sizes;
      options.nbounds = MP_ARRAY_LEN(sizes);
    }
    options.merge = merge_of(table[i].offset);
    struct mp_metric **field = (struct mp_metric **)(void *)((char *)meters + table[i].offset);
    int rv = mp_metrics_add(metrics, &options, field, err);
    if (rv) {
      mp_meters_unref(meters);
      return rv;
    }
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(classes); i++) SERIES(meters->query_errors, classes[i]);
  for (int i = 0; i <= MP_BLAME_TRANSIENT; i++)
    SERIES(meters->faults, mp_blame_name((enum mp_blame)i));
  for (size_t i = 0; i < MP_ARRAY_LEN(outbound); i++) {
    SERIES(meters->webhook, outbound[i]);
    SERIES(meters->traces, outbound[i]);
  }
  mp_series_set(SERIES(meters->build_info, MOONPOOL_VERSION), 1);
  *out = meters;
  return 0;
}

void mp_meters_unref(struct mp_meters *meters) {
  struct mp_op_meters *op, *next;
  if (!meters) return;
  HASH_ITER(hh, meters->ops, op, next) {
    HASH_DEL(meters->ops, op);
    MP_FREE_LISTED(op);
  }
  for (size_t i = 0; i < MP_WATCH_PEERS; i++) mp_watch_report_free(meters->peers[i]);
  mp_failed_calls_unref(meters->failed);
  free(meters->alerts);
  free(meters);
}

struct mp_pool_meters mp_meters_pool(struct mp_meters *meters) {
  return (struct mp_pool_meters){.wait = ONLY(meters->pool_wait),
                                 .use = ONLY(meters->pool_use),
                                 .connect = ONLY(meters->pool_connect)};
}

struct mp_series *mp_meters_loop_lag(struct mp_meters *meters) {
  return ONLY(meters->loop_lag);
}

struct mp_series *mp_meters_loop_longest(struct mp_meters *meters) {
  return ONLY(meters->loop_longest);
}

void mp_meters_join(struct mp_meters *meters, struct mp_host *host) {
  mp_list_push_back(&meters->binds, &host->meters_node);
}

const char *mp_meters_alerts(const struct mp_meters *meters) {
  return meters->alerts ? meters->alerts : "[]";
}

void mp_meters_set_alerts(struct mp_meters *meters, const char *json) {
  free(meters->alerts);
  meters->alerts = strdup(json);
}

/* ---- counting ---- */

/* All series of an operation start at 0 together: Prometheus cannot see the increase of a series
 * that first appears with a count. */
static void find_series(struct mp_meters *meters, struct mp_op_meters *op) {
  op->queries = SERIES(meters->query_duration, op->name);
  op->slow = SERIES(meters->slow_queries, op->name);
  op->round_trips = SERIES(meters->round_trips, op->name);
  for (int i = 0; i < MP_RETRY_COUNT; i++)
    op->retries[i] = SERIES(meters->retries, op->name, reason_names[i]);
  for (size_t i = 0; i < MP_ARRAY_LEN(refused_names); i++)
    if (refused_names[i])
      op->refused[i] = SERIES(meters->retries_refused, op->name, refused_names[i]);
}

static struct mp_op_meters *other_of(struct mp_meters *meters) {
  if (!meters->other.queries) find_series(meters, &meters->other);
  return &meters->other;
}

struct mp_op_meters *mp_meters_op(struct mp_meters *meters, const char *name) {
  struct mp_op_meters *op;
  size_t len = strlen(name);
  HASH_FIND(hh, meters->ops, name, len, op);
  if (op) return op;
  if (HASH_COUNT(meters->ops) >= MP_METRIC_SERIES || len >= sizeof op->name)
    return other_of(meters);
  op = calloc(1, sizeof *op);
  if (!op) return other_of(meters);
  memcpy(op->name, name, len);
  find_series(meters, op);
  HASH_ADD_KEYPTR(hh, meters->ops, op->name, len, op);
  if (op->hh.tbl) return op;
  free(op); /* no memory for the table */
  return other_of(meters);
}

/* "23", or a code of util/codes.h for what the host itself found. */
static const char *reason_of(const struct mp_err *err, char class[3]) {
  if (!err->sqlstate[0]) return mp_err_name(err);
  memcpy(class, err->sqlstate, 2);
  class[2] = '\0';
  return class;
}

static void count_end(struct mp_meters *meters, struct mp_op_meters *op,
                      const struct mp_tx_report *r) {
  struct mp_totals *totals = &meters->totals;
  char class[3];
  switch (r->end) {
    case MP_TX_END_RESOLVED_COMMITTED: totals->resolved++; __attribute__((fallthrough));
    case MP_TX_END_COMMITTED: totals->committed++; return;
    case MP_TX_END_UNKNOWN: totals->unknown++; break;
    case MP_TX_END_RESOLVED_ROLLED_BACK: totals->resolved++; __attribute__((fallthrough));
    case MP_TX_END_ROLLED_BACK:
    case MP_TX_END_COUNT: totals->rolled_back++; break;
  }
  if (!r->err || !r->err->code || mp_err_blame(r->err) == MP_BLAME_CALLER) return;
  totals->failed++;
  op->at[r->isolation].own.failed++;
  mp_series_add(SERIES(meters->transaction_failures, op->name, reason_of(r->err, class)), 1);
}

void mp_meters_op_series(struct mp_meters *meters, struct mp_op_meters *op,
                         enum mp_isolation isolation) {
  const char *name = mp_isolation_name(isolation);
  op->at[isolation].duration = SERIES(meters->transaction_duration, op->name, name);
  for (size_t i = 0; i < MP_TX_END_COUNT; i++)
    op->at[isolation].ends[i] = SERIES(meters->transactions, op->name, name, end_names[i]);
}

void mp_metrics_transaction(struct mp_meters *meters, const struct mp_tx_report *r) {
  struct mp_op_meters *op = mp_meters_op(meters, r->operation);
  const char *isolation = mp_isolation_name(r->isolation);
  struct mp_series **duration = &op->at[r->isolation].duration,
                   **end = &op->at[r->isolation].ends[r->end];
  if (!*duration) *duration = SERIES(meters->transaction_duration, op->name, isolation);
  if (!*end) *end = SERIES(meters->transactions, op->name, isolation, end_names[r->end]);
  mp_series_observe_us(*duration, r->duration_us);
  mp_series_add(*end, 1);
  mp_series_add(op->round_trips, r->round_trips);
  for (int i = 0; i < MP_RETRY_COUNT; i++) mp_series_add(op->retries[i], r->retries[i]);
  if (r->refused) {
    mp_series_add(op->refused[r->refused], 1);
    meters->totals.refused_retries++;
  }
  if (r->group_size) mp_series_observe(ONLY(meters->group_size), r->group_size);
  meters->totals.transactions++;
  meters->totals.transaction_us += r->duration_us;
  meters->totals.deadlock_retries += r->retries[MP_RETRY_DEADLOCK];
  if (r->attempts > 1) {
    meters->totals.retried++;
    op->at[r->isolation].own.retried++;
  }
  count_end(meters, op, r);
}

void mp_metrics_statement(struct mp_meters *meters, const struct mp_stmt_report *r) {
  struct mp_op_meters *op = mp_meters_op(meters, r->operation);
  char class[3];
  mp_series_observe_us(op->queries, r->duration_us);
  meters->totals.statements++;
  meters->totals.statement_us += r->duration_us;
  if (r->err) {
    const char *of = r->err->sqlstate[0] ? reason_of(r->err, class) : "none";
    mp_series_add(SERIES(meters->query_errors, of), 1);
    meters->totals.failed_statements++;
    if (strcmp(of, "23") != 0 && strcmp(of, "40") != 0) meters->totals.unexpected_failures++;
  }
  if (r->slow) {
    mp_series_add(op->slow, 1);
    meters->totals.slow_statements++;
  }
}

void mp_metrics_lane(struct mp_meters *meters, uint64_t waited_us) {
  mp_series_observe_us(ONLY(meters->lane_wait), waited_us);
}

void mp_metrics_hook_error(struct mp_meters *meters) {
  meters->totals.hook_errors++;
  mp_series_add(ONLY(meters->hook_errors), 1);
}

enum mp_blame mp_metrics_call_failed(struct mp_meters *meters, const char *operation,
                                     const char *code, int status, const char *call_id,
                                     uint64_t wall_us) {
  struct mp_failed_call call = {.operation = operation,
                                .code = code,
                                .blame = mp_blame_of(code, status),
                                .call_id = call_id,
                                .wall_us = wall_us};
  meters->totals.failed_calls[call.blame]++;
  mp_series_add(SERIES(meters->faults, mp_blame_name(call.blame)), 1);
  if (!mp_failed_calls_add(meters->failed, &call)) operation = code = "other";
  mp_series_add(SERIES(meters->failed_calls, operation, code, mp_blame_name(call.blame)), 1);
  return call.blame;
}

void mp_metrics_outbound(struct mp_meters *meters, enum mp_outbound what, const char *result,
                         uint64_t n) {
  struct mp_metric *metric = what == MP_OUTBOUND_WEBHOOK ? meters->webhook : meters->traces;
  mp_series_add(SERIES(metric, result), (double)n);
}

/* ---- values read when the page is written ---- */

static void refresh_pool(struct mp_meters *meters, const struct mp_pool *pool) {
  struct mp_pool_stats stats;
  mp_pool_stats(pool, &stats);
  mp_series_set(SERIES(meters->connections, "idle"), stats.idle);
  mp_series_set(SERIES(meters->connections, "active"), stats.active);
  mp_series_set(SERIES(meters->connections, "connecting"), stats.connecting);
  mp_series_set(SERIES(meters->connections, "parked"), stats.parked);
  mp_series_set(ONLY(meters->connections_max), stats.max);
  mp_series_set(ONLY(meters->connections_min), stats.min);
  mp_series_set(ONLY(meters->waiters), stats.waiting);
  mp_series_set(ONLY(meters->timeouts), (double)stats.timeouts);
  mp_series_set(ONLY(meters->refused), (double)stats.refused);
  mp_series_set(ONLY(meters->connects), (double)stats.connects);
  mp_series_set(ONLY(meters->connect_failures), (double)stats.connect_failures);
  mp_series_set(ONLY(meters->lost), (double)stats.lost);
  mp_series_set(ONLY(meters->leaks), (double)stats.leaks);
}

static void refresh_health(struct mp_meters *meters, struct mp_host *host) {
  const struct mp_health *health = mp_health_now(host);
  uint64_t since_ms = mp_loop_now_ms(host->loop) - health->since_ms;
  for (unsigned i = 0; i < MP_HEALTH_STATES; i++) {
    const char *name = mp_health_name((enum mp_health_state)i);
    bool now = health->state == (enum mp_health_state)i;
    mp_series_set(SERIES(meters->health_state, name), now);
    mp_series_set(SERIES(meters->health_seconds, name), now ? (double)since_ms / 1000 : 0);
  }
  mp_series_set(ONLY(meters->health_failures), health->failures);
  mp_series_set(ONLY(meters->database_up),
                health->look != MP_LOOK_FAILED && health->state != MP_HEALTH_UNREACHABLE);
}

static double resident_bytes(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file && fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
  if (file) fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_files(void) {
  DIR *dir = opendir("/proc/self/fd");
  if (!dir) return 0;
  int n = -3; /* ".", ".." and the descriptor of this reading */
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

static void refresh_process(struct mp_meters *meters) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  mp_series_set(ONLY(meters->cpu),
                (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
  mp_series_set(ONLY(meters->memory), resident_bytes());
  mp_series_set(ONLY(meters->fds), open_files());
}

void mp_meters_refresh(struct mp_meters *meters, struct mp_host *host) {
  if (host->pool) refresh_pool(meters, host->pool);
  refresh_health(meters, host);
  if (host->shared->lanes) {
    mp_series_set(ONLY(meters->lanes_waiting), (double)mp_lanes_waiting(host->shared->lanes));
    mp_series_set(ONLY(meters->lanes_active), (double)mp_lanes_active(host->shared->lanes));
  }
  size_t live_work = 0, memory = 0;
  MP_LIST_EACH(node, &meters->binds) {
    const struct mp_host *one = MP_LIST_ENTRY(node, struct mp_host, meters_node);
    live_work += one->live_work;
    memory += mp_vm_memory(one->vm);
  }
  mp_series_set(ONLY(meters->live_work), (double)live_work);
  mp_series_set(ONLY(meters->lua_memory), (double)memory);
  mp_series_set(ONLY(meters->tasks), (double)mp_sched_tasks(host->sched));
  struct mp_series *started = ONLY(meters->start_time);
  if (started->value == 0) {
    uint64_t up_ms = mp_loop_now_ms(host->loop) - host->shared->opened_ms;
    uint64_t start_ms = mp_loop_wall_us(host->loop) / 1000 - up_ms;
    mp_series_set(started, (double)start_ms / 1000);
  }
  refresh_process(meters);
}

/* ---- for Lua ---- */

static double ended(const struct mp_op_meters *op, int isolation, enum mp_tx_end end) {
  const struct mp_series *series = op->at[isolation].ends[end];
  return series ? mp_series_value(series) : 0;
}

/* The last durations, in ms, oldest first. [-0, +1] */
static void push_last(lua_State *L, const struct mp_seen *seen) {
  uint64_t n = seen->n < MP_METRIC_LAST ? seen->n : MP_METRIC_LAST;
  lua_createtable(L, (int)n, 0);
  for (uint64_t i = 0; i < n; i++) {
    lua_pushnumber(L, seen->last[(seen->n - n + i) % MP_METRIC_LAST] * 1000);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

static void push_operation(lua_State *L, const struct mp_op_meters *op, int isolation) {
  const struct mp_series *duration = op->at[isolation].duration;
  double total = (double)mp_series_count(duration);
  lua_createtable(L, 0, 13);
#define SET(push, name) (push, lua_setfield(L, -2, name))
#define ENDED(end) (lua_Integer) ended(op, isolation, MP_TX_END_##end)
  SET(lua_pushstring(L, op->name), "operation");
  SET(lua_pushstring(L, mp_isolation_name((enum mp_isolation)isolation)), "isolation");
  SET(lua_pushinteger(L, (lua_Integer)total), "total");
  SET(lua_pushinteger(L, ENDED(COMMITTED) + ENDED(RESOLVED_COMMITTED)), "committed");
  SET(lua_pushinteger(L, ENDED(ROLLED_BACK) + ENDED(RESOLVED_ROLLED_BACK)), "rolled_back");
  SET(lua_pushinteger(L, ENDED(UNKNOWN)), "unknown");
  SET(lua_pushinteger(
          L, (lua_Integer)(op->at[isolation].own.failed + op->at[isolation].others.failed)),
      "failed");
  SET(lua_pushinteger(
          L, (lua_Integer)(op->at[isolation].own.retried + op->at[isolation].others.retried)),
      "retried");
  SET(lua_pushnumber(L, duration->value * 1000 / total), "avg_duration");
  SET(lua_pushnumber(L, mp_series_quantile(duration, 0.5) * 1000), "p50");
  SET(lua_pushnumber(L, mp_series_quantile(duration, 0.95) * 1000), "p95");
  SET(lua_pushnumber(L, mp_series_quantile(duration, 0.99) * 1000), "p99");
  SET(lua_pushnumber(L, duration->seen->min * 1000), "min");
  SET(lua_pushnumber(L, duration->seen->max * 1000), "max");
  SET(push_last(L, duration->seen), "last");
#undef ENDED
#undef SET
}

static void push_op(lua_State *L, const struct mp_op_meters *op) {
  for (int i = 0; i <= MP_SERIALIZABLE; i++) {
    if (!op->at[i].duration) continue;
    push_operation(L, op, i);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  }
}

void mp_meters_push_operations(lua_State *L, struct mp_meters *meters) {
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  for (const struct mp_op_meters *op = meters->ops; op; op = op->hh.next) push_op(L, op);
  push_op(L, &meters->other);
}
