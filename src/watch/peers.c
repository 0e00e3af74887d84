/* peers.c: the numbers of all workers of a host as one (metrics.h). */
#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "sql/state.h"
#include "watch/health.h"
#include "watch/metrics_priv.h"

struct op_report {
  char name[64];
  struct {
    bool seen;
    struct mp_op_counts counts;
  } at[MP_SERIALIZABLE + 1];
};

struct mp_watch_report {
  struct mp_metrics *metrics;
  struct mp_totals totals;
  struct mp_failed_calls *failed;
  struct mp_pool_stats pool;
  struct mp_saturated saturated;
  size_t nops;
  struct op_report ops[];
};

/* ---- on the worker's thread ---- */

static void report_op(struct op_report *out, const struct mp_op_meters *op) {
  memcpy(out->name, op->name, sizeof out->name);
  for (int i = 0; i <= MP_SERIALIZABLE; i++) {
    out->at[i].seen = op->at[i].duration != NULL;
    out->at[i].counts = op->at[i].own;
  }
}

struct mp_watch_report *mp_watch_report_new(struct mp_host *host) {
  struct mp_meters *meters = host->shared->meters;
  size_t nops = HASH_COUNT(meters->ops) + 1;
  struct mp_watch_report *report = calloc(1, sizeof *report + nops * sizeof *report->ops);
  if (!report) return NULL;
  mp_meters_refresh(meters, host);
  mp_metrics_refresh(meters->metrics);
  report->metrics = mp_metrics_copy(meters->metrics);
  report->failed = mp_failed_calls_copy(meters->failed);
  if (!report->metrics || !report->failed) {
    mp_watch_report_free(report);
    return NULL;
  }
  report->totals = meters->totals;
  if (host->pool) mp_pool_stats(host->pool, &report->pool);
  mp_health_saturation(host, &report->saturated);
  for (const struct mp_op_meters *op = meters->ops; op; op = op->hh.next)
    report_op(&report->ops[report->nops++], op);
  report_op(&report->ops[report->nops++], &meters->other);
  return report;
}

void mp_watch_report_free(struct mp_watch_report *report) {
  if (!report) return;
  mp_metrics_unref(report->metrics);
  mp_failed_calls_unref(report->failed);
  free(report);
}

/* ---- on the front's ---- */

static void absorb_op(struct mp_meters *meters, const struct op_report *from,
                      const struct op_report *before) {
  bool other = !strcmp(from->name, meters->other.name);
  struct mp_op_meters *op = other ? &meters->other : mp_meters_op(meters, from->name);
  for (int i = 0; i <= MP_SERIALIZABLE; i++) {
    if (!from->at[i].seen) continue;
    if (!op->at[i].duration) mp_meters_op_series(meters, op, (enum mp_isolation)i);
    struct mp_op_counts was = before ? before->at[i].counts : (struct mp_op_counts){0, 0};
    op->at[i].others.failed += from->at[i].counts.failed - was.failed;
    op->at[i].others.retried += from->at[i].counts.retried - was.retried;
  }
}

/* The operation in an older report; operations never leave a report. */
static const struct op_report *find_op(const struct mp_watch_report *in, const char *name) {
  for (size_t i = 0; in && i < in->nops; i++)
    if (!strcmp(in->ops[i].name, name)) return &in->ops[i];
  return NULL;
}

void mp_meters_absorb(struct mp_meters *meters, struct mp_watch_report *report, unsigned worker) {
  struct mp_watch_report *before = meters->peers[worker];
  mp_metrics_absorb(meters->metrics, report->metrics, worker);
  mp_metrics_unref(report->metrics);
  report->metrics = NULL;
  for (size_t i = 0; i < report->nops; i++)
    absorb_op(meters, &report->ops[i], find_op(before, report->ops[i].name));
  meters->peers[worker] = report;
  mp_watch_report_free(before);
}

/* ---- all workers together ---- */

/* Counters, all of one type. */
static_assert(sizeof(struct mp_totals) % sizeof(uint64_t) == 0, "only counters");

void mp_meters_totals(const struct mp_meters *meters, struct mp_totals *out) {
  uint64_t *sums = (uint64_t *)(void *)out;
  *out = meters->totals;
  for (size_t i = 0; i < MP_WATCH_PEERS; i++) {
    if (!meters->peers[i]) continue;
    const uint64_t *more = (const uint64_t *)(const void *)&meters->peers[i]->totals;
    for (size_t k = 0; k < sizeof *out / sizeof *sums; k++) sums[k] += more[k];
  }
}

static void add_pool(struct mp_pool_stats *out, const struct mp_pool_stats *more) {
#define ADD(field) out->field += more->field
  ADD(total), ADD(idle), ADD(active), ADD(waiting), ADD(connecting), ADD(parked), ADD(max);
  ADD(min), ADD(acquires), ADD(timeouts), ADD(refused), ADD(connects), ADD(connect_failures);
  ADD(lost), ADD(leaks);
#undef ADD
}

void mp_meters_pool_stats(const struct mp_meters *meters, const struct mp_pool *pool,
                          struct mp_pool_stats *out) {
  mp_pool_stats(pool, out);
  for (size_t i = 0; i < MP_WATCH_PEERS; i++)
    if (meters->peers[i]) add_pool(out, &meters->peers[i]->pool);
}

static void push_pool(lua_State *L, const struct mp_pool_stats *stats) {
  lua_createtable(L, 0, 5);
#define SET(field) (lua_pushinteger(L, (lua_Integer)stats->field), lua_setfield(L, -2, #field))
  SET(total), SET(active), SET(waiting), SET(min), SET(max);
#undef SET
}

void mp_meters_push_pools(lua_State *L, const struct mp_meters *meters,
                          const struct mp_pool *pool) {
  struct mp_pool_stats own;
  mp_pool_stats(pool, &own);
  lua_newtable(L);
  push_pool(L, &own);
  lua_rawseti(L, -2, 1);
  for (lua_Integer i = 1; i < MP_WATCH_PEERS && meters->peers[i]; i++) {
    push_pool(L, &meters->peers[i]->pool);
    lua_rawseti(L, -2, i + 1);
  }
}

const struct mp_saturated *mp_meters_saturated_peer(const struct mp_meters *meters) {
  for (size_t i = 0; i < MP_WATCH_PEERS; i++)
    if (meters->peers[i] && meters->peers[i]->saturated.yes) return &meters->peers[i]->saturated;
  return NULL;
}

void mp_meters_push_failed(lua_State *L, const struct mp_meters *meters) {
  const struct mp_failed_calls *all[MP_WATCH_PEERS + 1] = {meters->failed};
  size_t n = 1;
  for (size_t i = 0; i < MP_WATCH_PEERS; i++)
    if (meters->peers[i]) all[n++] = meters->peers[i]->failed;
  mp_failed_calls_push(L, all, n);
}
