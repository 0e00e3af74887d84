/* metrics_lua.c: a script's own counters, gauges and histograms, and what moonpool.metrics
 * reads. */
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "script/luaerr.h"
#include "sql/failure.h"
#include "sql/state.h"
#include "values/json.h"
#include "watch/history.h"
#include "watch/metrics.h"
#include "watch/recorder.h"

enum { OWN_SERIES = 1000 };

static const char *const types[] = {"moonpool.counter", "moonpool.gauge", "moonpool.histogram"};

/* ---- making ---- */

/* A script may not use the name prefixes of host and process; a counter's name must end in _total.
 */
static void check_name(lua_State *L, const char *what, const char *name, enum mp_metric_kind kind) {
  size_t len = strlen(name);
  if (!strncmp(name, "moonpool_", 9) || !strncmp(name, "process_", 8))
    mp_luaerr_misuse(L, what, "%s: names that begin with moonpool_ or process_ are the host's",
                     name);
  if (kind == MP_COUNTER && (len < 7 || strcmp(name + len - 6, "_total") != 0))
    mp_luaerr_misuse(L, what, "a counter's name ends in _total: %s_total", name);
  if (kind != MP_COUNTER && len > 6 && !strcmp(name + len - 6, "_total"))
    mp_luaerr_misuse(L, what, "%s: only a counter's name ends in _total", name);
}

static void read_labels(lua_State *L, const char *what, struct mp_metric_options *options) {
  if (lua_getfield(L, 2, "labels") == LUA_TNIL) return;
  luaL_checktype(L, -1, LUA_TTABLE);
  lua_Integer n = luaL_len(L, -1);
  if (n > MP_METRIC_LABELS)
    mp_luaerr_misuse(L, what, "%s: at most %d labels", options->name, MP_METRIC_LABELS);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, -1, i) != LUA_TSTRING)
      mp_luaerr_misuse(L, what, "labels is an array of names: labels = {\"source\"}");
    options->labels[i - 1] = lua_tostring(L, -1); /* the table keeps it */
    lua_pop(L, 1);
  }
}

static void read_buckets(lua_State *L, const char *what, struct mp_metric_options *options,
                         double bounds[MP_METRIC_BOUNDS]) {
  if (lua_getfield(L, 2, "buckets") == LUA_TNIL) return;
  luaL_checktype(L, -1, LUA_TTABLE);
  lua_Integer n = luaL_len(L, -1);
  if (options->kind != MP_HISTOGRAM || n < 1 || n > MP_METRIC_BOUNDS)
    mp_luaerr_misuse(L, what, "buckets are 1 to %d numbers, of a histogram", MP_METRIC_BOUNDS);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, -1, i) != LUA_TNUMBER)
      mp_luaerr_misuse(L, what, "buckets is an array of numbers");
    bounds[i - 1] = lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  options->bounds = bounds;
  options->nbounds = (size_t)n;
}

static void check_options(lua_State *L, const char *what) {
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    if (strcmp(name, "help") != 0 && strcmp(name, "labels") != 0 && strcmp(name, "buckets") != 0)
      mp_luaerr_misuse(L, what, "unknown option `%s`; there are help, labels, buckets", name);
  }
}

/* counter | gauge | histogram (name, {help=, labels={names}, buckets={bounds}}). The same name
 * gives the same metric: a script that is loaded again goes on counting. */
static int make(lua_State *L, const char *what, enum mp_metric_kind kind, bool own) {
  struct mp_metric_options options = {.name = luaL_checkstring(L, 1), .kind = kind};
  double bounds[MP_METRIC_BOUNDS];
  struct mp_metric *metric;
  struct mp_err err;
  if (!own) check_name(L, what, options.name, kind);
  if (own) options.max_series = OWN_SERIES;
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_newtable(L);
    lua_replace(L, 2);
  }
  luaL_checktype(L, 2, LUA_TTABLE);
  check_options(L, what);
  lua_getfield(L, 2, "help");
  options.help = luaL_optstring(L, -1, "A metric of a script.");
  read_labels(L, what, &options);
  read_buckets(L, what, &options, bounds);
  if (mp_metrics_add(mp_host_of(L)->shared->metrics, &options, &metric, &err))
    mp_luaerr_misuse(L, what, "%s", err.msg);
  *(struct mp_metric **)lua_newuserdatauv(L, sizeof metric, 0) = metric; /* the registry's */
  luaL_setmetatable(L, types[kind]);
  return 1;
}

static int make_counter(lua_State *L) { return make(L, "metrics.counter", MP_COUNTER, false); }
static int make_gauge(lua_State *L) { return make(L, "metrics.gauge", MP_GAUGE, false); }
static int make_histogram(lua_State *L) {
  return make(L, "metrics.histogram", MP_HISTOGRAM, false);
}
/* For the host's own modules, one series for each operation. */
static int make_own_counter(lua_State *L) { return make(L, "own_counter", MP_COUNTER, true); }
static int make_own_gauge(lua_State *L) { return make(L, "own_gauge", MP_GAUGE, true); }

/* ---- counting ---- */

/* The series that the labels at `idx` name: a table with a value for each, or nothing if there are
 * none. */
static struct mp_series *series_of(lua_State *L, enum mp_metric_kind kind, int idx) {
  struct mp_metric *metric = *(struct mp_metric **)luaL_checkudata(L, 1, types[kind]);
  const char *names[MP_METRIC_LABELS], *values[MP_METRIC_LABELS];
  size_t n = mp_metric_labels(metric, names), given = 0;
  lua_settop(L, idx);
  if (!n && lua_isnil(L, idx)) return mp_metric_series(metric, NULL);
  if (lua_type(L, idx) != LUA_TTABLE)
    mp_luaerr_misuse(L, mp_metric_name(metric),
                     n ? "needs its labels: { %s = … }" : "has no labels%s", n ? names[0] : "");
  for (size_t i = 0; i < n; i++) {
    if (lua_getfield(L, idx, names[i]) == LUA_TNIL)
      mp_luaerr_misuse(L, mp_metric_name(metric), "no value for the label %s", names[i]);
    values[i] = luaL_tolstring(L, -1, NULL); /* stays on the stack while it is used */
  }
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) given++;
  if (given != n)
    mp_luaerr_misuse(L, mp_metric_name(metric), "%d labels were given; it has %d", (int)given,
                     (int)n);
  return mp_metric_series(metric, values);
}

static double number(lua_State *L, const char *what, double low) {
  double value = luaL_checknumber(L, 2);
  if (!isfinite(value) || value < low)
    mp_luaerr_misuse(L, what, low == 0 ? "a counter only goes up" : "needs a finite number");
  return value;
}

/* add([n], [labels]): by 1 if n is left out. add(labels) too. */
static void optional_number(lua_State *L) {
  if (lua_gettop(L) >= 2 && lua_istable(L, 2)) {
    lua_pushnumber(L, 1);
    lua_insert(L, 2);
  } else if (lua_isnoneornil(L, 2)) {
    lua_settop(L, 3);
    lua_pushnumber(L, 1);
    lua_replace(L, 2);
  }
}

static int counter_add(lua_State *L) {
  optional_number(L);
  double n = number(L, "counter:add", 0);
  mp_series_add(series_of(L, MP_COUNTER, 3), n);
  return 0;
}

static int gauge_add(lua_State *L) {
  optional_number(L);
  double n = number(L, "gauge:add", -HUGE_VAL);
  mp_series_add(series_of(L, MP_GAUGE, 3), n);
  return 0;
}

static int gauge_set(lua_State *L) {
  double value = number(L, "gauge:set", -HUGE_VAL);
  mp_series_set_last(series_of(L, MP_GAUGE, 3), value, mp_loop_clock_ns(mp_host_of(L)->loop));
  return 0;
}

static int histogram_observe(lua_State *L) {
  double value = number(L, "histogram:observe", -HUGE_VAL);
  mp_series_observe(series_of(L, MP_HISTOGRAM, 3), value);
  return 0;
}

static int counter_value(lua_State *L) {
  lua_pushnumber(L, mp_series_value(series_of(L, MP_COUNTER, 2)));
  return 1;
}

static int gauge_value(lua_State *L) {
  lua_pushnumber(L, mp_series_value(series_of(L, MP_GAUGE, 2)));
  return 1;
}

static int histogram_quantile(lua_State *L) {
  double q = number(L, "histogram:quantile", -HUGE_VAL);
  lua_pushnumber(L, mp_series_quantile(series_of(L, MP_HISTOGRAM, 3), q));
  return 1;
}

/* ---- reading ---- */

/* metrics_text() -> the page that Prometheus reads */
static int metrics_text(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  struct mp_buf *out = mp_json_buf_new(L, 0);
  mp_meters_refresh(host->shared->meters, host);
  mp_metrics_text(host->shared->metrics, out);
  if (out->failed) return luaL_error(L, "not enough memory");
  lua_pushlstring(L, mp_buf_text(out), out->len);
  return 1;
}

/* Sets the labels of the table on top, from operation="x",isolation="y", where
 * " and \\ are escaped. [-0, +0] */
static void set_labels(lua_State *L, const char *at) {
  while (*at) {
    const char *equals = strchr(at, '=');
    lua_pushlstring(L, at, (size_t)(equals - at));
    luaL_Buffer value;
    luaL_buffinit(L, &value);
    for (at = equals + 2; *at != '"'; at++) {
      if (*at == '\\') at++;
      luaL_addchar(&value, *at);
    }
    luaL_pushresult(&value);
    lua_rawset(L, -3);
    at += at[1] == ',' ? 2 : 1;
  }
}

/* A histogram's buckets, cumulative as on the page, and their bounds (without +Inf). */
static void set_buckets(lua_State *L, const struct mp_series *series) {
  uint64_t below = 0;
  lua_createtable(L, (int)series->nbounds, 0);
  for (size_t i = 0; i < series->nbounds; i++) {
    lua_pushnumber(L, series->bounds[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "bounds");
  lua_createtable(L, (int)series->nbounds + 1, 0);
  for (size_t i = 0; i <= series->nbounds; i++) {
    lua_pushinteger(L, (lua_Integer)(below += series->buckets[i]));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "counts");
}

static void push_series(lua_State *L, const struct mp_metric *metric) {
  lua_Integer n = 0;
  lua_newtable(L);
  for (const struct mp_series *it = metric ? mp_metric_first(metric) : NULL; it; it = it->next) {
    lua_newtable(L);
    set_labels(L, mp_series_labels(it));
    lua_Integer whole;
    double value = mp_series_value(it);
    if (lua_numbertointeger(value, &whole) && (double)whole == value)
      lua_pushinteger(L, whole);
    else
      lua_pushnumber(L, value);
    lua_setfield(L, -2, "value");
    if (it->buckets) set_buckets(L, it);
    lua_rawseti(L, -2, ++n);
  }
}

/* metric_values(name, …) -> name -> an array of its series: its labels by name, and value= (of a
 * histogram: the sum), bounds=, counts= (cumulative; the last is of all). A name without a metric
 * has no series. */
static int metric_values(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  int n = lua_gettop(L);
  luaL_checkstack(L, LUA_MINSTACK, "metric_values");
  mp_meters_refresh(host->shared->meters, host);
  mp_metrics_refresh(host->shared->metrics);
  lua_createtable(L, 0, n);
  for (int i = 1; i <= n; i++) {
    push_series(L, mp_metrics_find(host->shared->metrics, luaL_checkstring(L, i)));
    lua_setfield(L, -2, lua_tostring(L, i));
  }
  return 1;
}

/* statements(limit, at_least_ms, "scripts" | "host" | "failed" | "any") -> array, newest first */
static int statements(lua_State *L) {
  static const char *const parts[] = {"scripts", "host", "failed", "any", NULL};
  enum mp_history_part part = (enum mp_history_part)luaL_checkoption(L, 3, "scripts", parts);
  lua_Integer limit = luaL_checkinteger(L, 1);
  double at_least_ms = luaL_checknumber(L, 2);
  mp_history_push(L, mp_host_of(L)->shared->history, part, limit < 0 ? 0 : (size_t)limit,
                  at_least_ms > 0 ? (uint64_t)(at_least_ms * 1000) : 0);
  return 1;
}

/* statement_sent(number) -> its text as it was sent, or nil: to ask for its plan; it must never be
 * shown */
static int statement_sent(lua_State *L) {
  mp_history_push_sent(L, mp_host_of(L)->shared->history, (uint64_t)luaL_checkinteger(L, 1));
  return 1;
}

static int operation_stats(lua_State *L) {
  mp_meters_push_operations(L, mp_host_of(L)->shared->meters);
  return 1;
}

/* call_failed(operation, code, status, [call_id]) -> whose fault it is: "caller", "operator" or
 * "transient" */
static int call_failed(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  enum mp_blame blame = mp_metrics_call_failed(
      host->shared->meters, luaL_checkstring(L, 1), luaL_checkstring(L, 2),
      (int)luaL_checkinteger(L, 3), luaL_optstring(L, 4, NULL), mp_loop_wall_us(host->loop));
  lua_pushstring(L, mp_blame_name(blame));
  return 1;
}

/* failed_calls() -> array, the latest first */
static int failed_calls(lua_State *L) {
  mp_meters_push_failed(L, mp_host_of(L)->shared->meters);
  return 1;
}

/* codes() -> array of { code=, sqlstates=, status=, fault=, again=, told=, cause=, remedy= } */
static int codes(lua_State *L) {
  const struct mp_code_info *info;
  lua_newtable(L);
  for (size_t i = 0; (info = mp_code_at(i)); i++) {
    lua_createtable(L, 0, 8);
#define SET(name, text) (lua_pushstring(L, text), lua_setfield(L, -2, name))
    SET("code", info->name), SET("sqlstates", info->sqlstates), SET("told", info->told);
    SET("cause", info->cause), SET("remedy", info->remedy);
    SET("fault", mp_blame_name(info->blame)), SET("again", mp_again_name(info->again));
#undef SET
    lua_pushinteger(L, info->status);
    lua_setfield(L, -2, "status");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* outbound_counted(what, result, [n]) */
static int outbound_counted(lua_State *L) {
  static const char *const results[] = {"delivered", "failed", "dropped", NULL};
  static const char *const whats[] = {"webhook", "traces", NULL};
  enum mp_outbound what = (enum mp_outbound)luaL_checkoption(L, 1, NULL, whats);
  const char *result = results[luaL_checkoption(L, 2, NULL, results)];
  mp_metrics_outbound(mp_host_of(L)->shared->meters, what, result,
                      (uint64_t)luaL_optinteger(L, 3, 1));
  return 0;
}

/* calls(limit, notable) -> array */
static int calls(lua_State *L) {
  lua_Integer limit = luaL_checkinteger(L, 1);
  mp_recorder_push(L, mp_host_of(L)->shared->recorder, limit < 0 ? 0 : (size_t)limit,
                   lua_toboolean(L, 2));
  return 1;
}

/* calls_ended([from], limit) -> array with notes, oldest first; the next `from`; how many were lost
 * in between. Without `from`: an empty array; later calls give what ends from now on. */
static int calls_ended(lua_State *L) {
  struct mp_recorder *recorder = mp_host_of(L)->shared->recorder;
  uint64_t from = (uint64_t)luaL_optinteger(L, 1, (lua_Integer)mp_recorder_ended(recorder));
  lua_Integer limit = luaL_checkinteger(L, 2);
  uint64_t missed = mp_recorder_push_ended(L, recorder, &from, limit < 0 ? 0 : (size_t)limit);
  lua_pushinteger(L, (lua_Integer)from);
  lua_pushinteger(L, (lua_Integer)missed);
  return 3;
}

/* call_notes(id) -> table or nil */
static int call_notes(lua_State *L) {
  mp_recorder_push_one(L, mp_host_of(L)->shared->recorder, luaL_checkstring(L, 1));
  return 1;
}

/* backends_waited_for(ms) -> array of their pids */
static int backends_waited_for(lua_State *L) {
  lua_Integer ms = luaL_checkinteger(L, 1);
  mp_recorder_push_waiting(L, mp_host_of(L)->shared->recorder, ms < 0 ? 0 : (uint64_t)ms);
  return 1;
}

/* backend_user(backend) -> which call of this worker has it; nil: none */
static int backend_user(lua_State *L) {
  char who[160];
  unsigned backend = (unsigned)luaL_checkinteger(L, 1);
  if (!mp_recorder_user(mp_host_of(L)->shared->recorder, backend, who, sizeof who)) return 0;
  lua_pushstring(L, who);
  return 1;
}

/* blocked(backend, holder, text): `text` describes the holder */
static int blocked(lua_State *L) {
  mp_recorder_blocked(mp_host_of(L)->shared->recorder, (unsigned)luaL_checkinteger(L, 1),
                      (unsigned)luaL_checkinteger(L, 2), luaL_checkstring(L, 3));
  return 0;
}

/* alerts() -> JSON; set_alerts(JSON): set by one VM, read by all. */
static int get_alerts(lua_State *L) {
  lua_pushstring(L, mp_meters_alerts(mp_host_of(L)->shared->meters));
  return 1;
}

static int set_alerts(lua_State *L) {
  mp_meters_set_alerts(mp_host_of(L)->shared->meters, luaL_checkstring(L, 1));
  return 0;
}

void mp_metrics_lua(lua_State *L) {
  static const luaL_Reg functions[] = {{"counter", make_counter},
                                       {"gauge", make_gauge},
                                       {"histogram", make_histogram},
                                       {"own_counter", make_own_counter},
                                       {"own_gauge", make_own_gauge},
                                       {"metrics_text", metrics_text},
                                       {"metric_values", metric_values},
                                       {"statements", statements},
                                       {"statement_sent", statement_sent},
                                       {"operation_stats", operation_stats},
                                       {"outbound_counted", outbound_counted},
                                       {"calls_ended", calls_ended},
                                       {"alerts", get_alerts},
                                       {"calls", calls},
                                       {"call_failed", call_failed},
                                       {"failed_calls", failed_calls},
                                       {"codes", codes},
                                       {"own_error", mp_failure_own_lua},
                                       {"call_notes", call_notes},
                                       {"backends_waited_for", backends_waited_for},
                                       {"blocked", blocked},
                                       {"backend_user", backend_user},
                                       {"set_alerts", set_alerts},
                                       {NULL, NULL}};
  static const luaL_Reg methods[][4] = {
      {{"add", counter_add}, {"value", counter_value}},
      {{"add", gauge_add}, {"set", gauge_set}, {"value", gauge_value}},
      {{"observe", histogram_observe}, {"quantile", histogram_quantile}},
  };
  for (size_t i = 0; i < MP_ARRAY_LEN(types); i++) {
    luaL_newmetatable(L, types[i]);
    lua_newtable(L);
    luaL_setfuncs(L, methods[i], 0);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0); /* scripts have no business with it */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
  }
  luaL_setfuncs(L, functions, 0);
  lua_pushinteger(L, (lua_Integer)mp_host_of(L)->shared->slow_query_ms);
  lua_setfield(L, -2, "slow_query_ms");
  lua_pushboolean(L, mp_host_of(L)->shared->development);
  lua_setfield(L, -2, "development");
  lua_pushboolean(L, mp_host_of(L)->shared->mcp);
  lua_setfield(L, -2, "mcp");
}
