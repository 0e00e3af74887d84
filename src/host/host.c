/* host.c: the Lua module "moonpool.host": the C side of the modules in lua/moonpool. Not for
 * scripts. */
#include "host/host.h"

#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "db/listen.h"
#include "db/source.h"
#include "host/cache.h"
#include "loop/ids.h"
#include "pg/conninfo.h"
#include "pool/pool.h"
#include "script/every.h"
#include "script/luaerr.h"
#include "script/safe.h"
#include "script/signal.h"
#include "sql/powers.h"
#include "sql/row.h"
#include "sql/text.h"
#include "sql/types.h"
#include "txn/fault.h"
#include "txn/publish.h"
#include "txn/txn.h"
#include "util/log.h"
#include "values/decimal.h"
#include "values/json.h"
#include "watch/health.h"
#include "watch/metrics.h"

/* read_uuid(text) -> the UUID in lower case, or nil if it is none */
static int host_read_uuid(lua_State *L) {
  size_t len;
  char out[36];
  const char *text = luaL_checklstring(L, 1, &len);
  if (len != sizeof out) return 0;
  for (size_t i = 0; i < len; i++) {
    char c = text[i];
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (c >= 'A' && c <= 'F') c = (char)(c + 32);
    if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return 0;
    out[i] = c;
  }
  lua_pushlstring(L, out, len);
  return 1;
}

static int host_uuid(lua_State *L) {
  char text[37];
  mp_uuid_new(mp_host_of(L)->loop, text);
  lua_pushstring(L, text);
  return 1;
}

static int host_now(lua_State *L) {
  char text[32];
  mp_timestamp_format(mp_loop_wall_us(mp_host_of(L)->loop), text);
  lua_pushstring(L, text);
  return 1;
}

/* Seconds on a clock that only goes forward. */
static int host_clock(lua_State *L) {
  lua_pushnumber(L, (double)mp_loop_clock_ns(mp_host_of(L)->loop) / 1e9);
  return 1;
}

/* CPU seconds of this process, user and system. */
static int host_cpu(lua_State *L) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  lua_pushnumber(L, (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                        (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
  return 1;
}

/* sha256(text) -> hex */
static int host_sha256(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  unsigned char hash[crypto_hash_sha256_BYTES];
  char digits[2 * sizeof hash + 1];
  crypto_hash_sha256(hash, (const unsigned char *)text, len);
  sodium_bin2hex(digits, sizeof digits, hash, sizeof hash);
  lua_pushstring(L, digits);
  return 1;
}

/* What the table at `idx` says a line is about; its strings live as long as it does. */
static struct mp_log_about read_about(lua_State *L, int idx) {
  struct mp_log_about about = {0};
#define X(field)                                                                      \
  if (lua_getfield(L, idx, #field) == LUA_TSTRING) about.field = lua_tostring(L, -1); \
  lua_pop(L, 1);
  MP_LOG_ABOUT_MAP(X)
#undef X
  return about;
}

/* log(level, text, [topic, [about]]); about: { operation=, call_id=, request_id= … }, or what the
 * task is about */
static int host_log(lua_State *L) {
  static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
  enum mp_log_level level = (enum mp_log_level)luaL_checkoption(L, 1, NULL, levels);
  const char *text = luaL_checkstring(L, 2), *topic = luaL_optstring(L, 3, "script");
  if (lua_istable(L, 4)) {
    struct mp_log_about about = read_about(L, 4);
    mp_log_on(&about, level, topic, "%s", text);
  } else {
    mp_log_on(mp_label_about(mp_task_label(mp_task_of(L))), level, topic, "%s", text);
  }
  return 0;
}

/* log_hold(on): keeps log lines back; log_held(write): writes them, or drops them */
static int host_log_hold(lua_State *L) {
  mp_log_hold(lua_toboolean(L, 1));
  return 0;
}

static int host_log_held(lua_State *L) {
  mp_log_held(lua_toboolean(L, 1));
  return 0;
}

/* list(dir) -> sorted names, or nil and the reason */
static int host_list(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct dirent **entries;
  int n = scandir(path, &entries, NULL, alphasort);
  if (n < 0) {
    lua_pushnil(L);
    lua_pushstring(L, strerror(errno));
    return 2;
  }
  lua_newtable(L);
  lua_Integer count = 0;
  for (int i = 0; i < n; i++) {
    if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0) {
      lua_pushstring(L, entries[i]->d_name);
      lua_rawseti(L, -2, ++count);
    }
    free(entries[i]);
  }
  free(entries);
  return 1;
}

/* load_file(path, shown[, head]) -> chunk, or nil and the error object. `head`: code in front of
 * the first line. */
static int host_load_file(lua_State *L) {
  struct mp_err err;
  if (!mp_vm_load_file(mp_host_of(L)->vm, L, luaL_checkstring(L, 1), luaL_checkstring(L, 2),
                       luaL_optstring(L, 3, NULL), &err))
    return 1;
  lua_pushnil(L);
  mp_luaerr_push(L, &err);
  return 2;
}

static int host_current_tx(lua_State *L) {
  mp_tx_lua_current(L);
  return 1;
}

/* set_tenant_field(name): the setting app.<name> carries the tenant from now on. */
static int host_set_tenant_field(lua_State *L) {
  lua_pushvalue(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "moonpool.tenant_field"); /* anchors the string */
  mp_host_of(L)->tenant_field = luaL_checkstring(L, 1);
  return 0;
}

/* url_user(url) -> the role that a connection string names, or nil */
static int host_url_user(lua_State *L) {
  const char *url = luaL_checkstring(L, 1);
  struct mp_err err;
  PQconninfoOption *options = PQconninfoParse(url, NULL);
  if (mp_conninfo_get(options, "service") && !mp_conninfo_get(options, "user")) {
    PQconninfoFree(options);
    options = mp_conninfo_read(url, &err);
  }
  char user[64];
  const char *found = mp_conninfo_get(options, "user");
  snprintf(user, sizeof user, "%s", found ? found : "");
  PQconninfoFree(options);
  if (!*user) return 0;
  lua_pushstring(L, user);
  return 1;
}

static void set_int(lua_State *L, const char *name, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_average(lua_State *L, const char *name, uint64_t sum_us, uint64_t count) {
  lua_pushnumber(L, count ? (double)sum_us / (double)count / 1000 : 0);
  lua_setfield(L, -2, name);
}

static int host_transaction_stats(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  struct mp_totals sums, *totals = &sums;
  mp_meters_totals(host->shared->meters, totals);
  lua_newtable(L);
  set_int(L, "total_transactions", totals->transactions);
  set_int(L, "committed_transactions", totals->committed);
  set_int(L, "rolled_back_transactions", totals->rolled_back);
  set_int(L, "retried_transactions", totals->retried);
  set_int(L, "failed_transactions", totals->failed);
  set_int(L, "unknown_transactions", totals->unknown);
  set_int(L, "resolved_transactions", totals->resolved);
  set_int(L, "deadlock_retries", totals->deadlock_retries);
  set_int(L, "refused_retries", totals->refused_retries);
  set_int(L, "hook_errors", totals->hook_errors);
  set_int(L, "caller_faults", totals->failed_calls[MP_BLAME_CALLER]);
  set_int(L, "operator_faults", totals->failed_calls[MP_BLAME_OPERATOR]);
  set_int(L, "transient_faults", totals->failed_calls[MP_BLAME_TRANSIENT]);
  set_int(L, "live_transactions", host->live_work);
  set_average(L, "avg_duration", totals->transaction_us, totals->transactions);
  return 1;
}

static int host_pool_stats(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  struct mp_totals sums, *totals = &sums;
  struct mp_pool_stats stats;
  if (!host->pool) return luaL_error(L, "the host is closing");
  mp_meters_totals(host->shared->meters, totals);
  mp_meters_pool_stats(host->shared->meters, host->pool, &stats);
  lua_newtable(L);
  set_int(L, "total_connections", stats.total);
  set_int(L, "idle_connections", stats.idle);
  set_int(L, "active_connections", stats.active);
  set_int(L, "waiting_clients", stats.waiting);
  set_int(L, "connecting", stats.connecting);
  set_int(L, "parked", stats.parked);
  set_int(L, "max", stats.max);
  set_int(L, "min", stats.min);
  set_int(L, "timeouts", stats.timeouts);
  set_int(L, "refused", stats.refused);
  set_int(L, "connects", stats.connects);
  set_int(L, "connect_failures", stats.connect_failures);
  set_int(L, "lost", stats.lost);
  set_int(L, "leaks", stats.leaks);
  set_int(L, "total_queries", totals->statements);
  set_int(L, "slow_queries", totals->slow_statements);
  set_int(L, "failed_queries", totals->failed_statements);
  set_int(L, "unexpected_failures", totals->unexpected_failures);
  set_average(L, "avg_query_time", totals->statement_us, totals->statements);
  set_int(L, "uptime", mp_loop_now_ms(host->loop) - stats.started_ms);
  lua_pushboolean(L, stats.healthy);
  lua_setfield(L, -2, "healthy");
  return 1;
}

static int host_resize(lua_State *L) {
  lua_Integer min = luaL_checkinteger(L, 1), max = luaL_checkinteger(L, 2);
  if (max < 1 || min < 0 || min > max)
    mp_luaerr_misuse(L, "pool.resize", "needs 0 <= min <= max and max >= 1");
  if (!mp_host_of(L)->pool) return luaL_error(L, "the host is closing");
  mp_pool_resize(mp_host_of(L)->pool, (unsigned)min, (unsigned)max);
  return 0;
}

static void push_limits(lua_State *L, const struct mp_task_limits *limits) {
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)limits->cpu_ms);
  lua_setfield(L, -2, "cpu_ms");
  lua_pushinteger(L, (lua_Integer)limits->memory);
  lua_setfield(L, -2, "memory");
  lua_pushinteger(L, (lua_Integer)limits->wall_ms);
  lua_setfield(L, -2, "wall_ms");
}

int mp_open_host(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"uuid", host_uuid},
      {"read_uuid", host_read_uuid},
      {"now", host_now},
      {"clock", host_clock},
      {"cpu", host_cpu},
      {"sha256", host_sha256},
      {"log", host_log},
      {"log_hold", host_log_hold},
      {"log_held", host_log_held},
      {"list", host_list},
      {"load_file", host_load_file},
      {"safe_metatables", mp_safe_metatables},
      {"current_tx", host_current_tx},
      {"set_tenant_field", host_set_tenant_field},
      {"url_user", host_url_user},
      {"transaction_stats", host_transaction_stats},
      {"pool_stats", host_pool_stats},
      {"resize", host_resize},
      {"powers", mp_powers_list},
      {"look", mp_health_look},
      {"health", mp_health_table},
      {NULL, NULL},
  };
  luaL_newlib(L, functions);
  mp_task_lua(L); /* sleep, spawn, all */
  mp_every_lua(L);
  mp_metrics_lua(L);
  mp_signal_open(L);
  mp_publish_open(L);
  mp_tx_lua_host_open(L);
  mp_json_host_open(L);
  mp_listen_open(L);
  mp_cache_open(L);
  mp_fault_open(L, mp_txns_fault(mp_host_of(L)));
  mp_db_own_open(L);
  mp_db_stand_in_open(L);
  lua_pushstring(L, mp_vm_app_dir(mp_host_of(L)->vm));
  lua_setfield(L, -2, "app_dir");
  push_limits(L, &mp_host_of(L)->shared->loading);
  lua_setfield(L, -2, "load_limits");
  lua_newtable(L); /* modules of a program around the host: mp_shared's open_vm */
  lua_setfield(L, -2, "native");
  lua_pushinteger(L, (lua_Integer)mp_host_of(L)->shared->body_values);
  lua_setfield(L, -2, "body_values");
  lua_pushstring(L, mp_host_of(L)->shared->check);
  lua_setfield(L, -2, "check");
  lua_pushstring(L, MOONPOOL_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}

void mp_host_init(struct mp_host *host, const struct mp_host *of, struct mp_vm *vm) {
  *host = (struct mp_host){
      .shared = of->shared, .loop = of->loop, .sched = of->sched, .pool = of->pool, .vm = vm};
}

void mp_host_open(struct mp_host *host, lua_State *L) {
  mp_host_register(host, L);
  mp_txns_open(host, L);
  mp_meters_join(host->shared->meters, host);
  mp_row_open(L);
  mp_vm_preload(host->vm, "moonpool.host", mp_open_host);
  mp_vm_preload(host->vm, "moonpool.decimal", mp_open_decimal);
  mp_vm_preload(host->vm, "moonpool.json", mp_open_json);
  mp_vm_preload(host->vm, "moonpool.sql", mp_open_sql);
  mp_vm_preload(host->vm, "moonpool.db", mp_open_db);
  mp_vm_preload(host->vm, "moonpool.password", mp_open_password);
}

void mp_host_fini(struct mp_host *host) {
  mp_listen_fini(host);
  mp_txns_fini(host);
  mp_types_fini(host);
  if (host->meters_node.next) mp_list_remove(&host->meters_node);
  mp_buf_fini(&host->sql.scratch);
}
