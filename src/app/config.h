/* config.h: the settings, in one table: name, default, unit and help give parsing, `moonpool
 * config` and the documentation. The only place (with cluster/env.c) that knows environment
 * variables; moonpool.conf sets those that are missing. */
#ifndef MP_CONFIG_H
#define MP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "app/settings_file.h"
#include "util/err.h"

/*    field                 environment name            default  lowest  highest   unit   help */
#define MP_CONFIG_NUMBERS(X)                                                                 \
  X(pool_max, "DB_POOL_MAX", 20, 1, 1000, "",                                                \
    "connections of the pool at most; the host has one to three more")                       \
  X(pool_min, "DB_POOL_MIN", 5, 0, 1000, "", "connections kept open when idle")              \
  X(connect_timeout_ms, "DB_CONNECT_TIMEOUT", 10000, 1, 600000, "ms",                        \
    "time for opening one connection, name look-up included")                                \
  X(workers, "MOONPOOL_WORKERS", 0, 0, 64, "",                                               \
    "threads of serve that carry out calls; 0: one for each core, as far as each gets four " \
    "connections")                                                                           \
  X(worker_timeout_ms, "MOONPOOL_WORKER_TIMEOUT", 30000, 1000, 3600000, "ms",                \
    "serve ends with status 1 when a thread has not answered for so long")                   \
  X(idle_timeout_ms, "DB_IDLE_TIMEOUT", 30000, 0, 86400000, "ms",                            \
    "idle connections above DB_POOL_MIN are closed after it")                                \
  X(statement_timeout_ms, "DB_STATEMENT_TIMEOUT", 30000, 0, 86400000, "ms",                  \
    "the server ends a statement that runs longer; 0: never")                                \
  X(query_timeout_ms, "DB_QUERY_TIMEOUT", 30000, 0, 86400000, "ms",                          \
    "the host cancels a longer statement outside of transactions; 0: never")                 \
  X(slow_query_ms, "DB_SLOW_QUERY_THRESHOLD", 1000, 0, 86400000, "ms",                       \
    "slower statements are logged and counted as slow; 0: none")                             \
  X(queue_limit, "MOONPOOL_QUEUE_LIMIT", 1000, 0, 1000000, "",                               \
    "calls that may wait for a connection; further ones get BUSY")                           \
  X(lane_limit, "MOONPOOL_LANE_LIMIT", 4096, 0, 1000000, "",                                 \
    "calls that may wait in lanes; further ones get BUSY")                                   \
  X(health_interval_ms, "MOONPOOL_HEALTH_INTERVAL", 30000, 100, 86400000, "ms",              \
    "how often an idle connection is checked")                                               \
  X(max_lifetime_ms, "MOONPOOL_MAX_LIFETIME", 1800000, 0, 604800000, "ms",                   \
    "a connection is replaced at this age; 0: never")                                        \
  X(leak_ms, "MOONPOOL_LEAK_THRESHOLD", 60000, 0, 86400000, "ms",                            \
    "a connection that is held longer is logged with its holder; 0: never")                  \
  X(drain_ms, "MOONPOOL_DRAIN_TIMEOUT", 10000, 0, 600000, "ms",                              \
    "time for work in progress when the host stops")                                         \
  X(watch_ms, "MOONPOOL_WATCH", 500, 0, 3600000, "ms",                                       \
    "how often serve checks scripts/ for changes; 0: never")                                 \
  X(settle_ms, "MOONPOOL_SETTLE", 100, 0, 60000, "ms",                                       \
    "a reload waits until scripts/ has not changed for this long")                           \
  X(load_ms, "MOONPOOL_LOAD_TIMEOUT", 10000, 10, 600000, "ms",                               \
    "limit for loading scripts/ and running scripts/smoke.lua")                              \
  X(generation_drain_ms, "MOONPOOL_GENERATION_DRAIN", 60000, 0, 86400000, "ms",              \
    "calls on an older generation of scripts/ are ended after it")                           \
  X(cpu_ms, "MOONPOOL_CPU_BUDGET", 1000, 1, 3600000, "ms",                                   \
    "CPU time of one attempt of an operation")                                               \
  X(task_memory_mb, "MOONPOOL_TASK_MEMORY", 64, 1, 1048576, "MiB",                           \
    "Lua values of one call of an operation")                                                \
  X(commit_timeout_ms, "MOONPOOL_COMMIT_TIMEOUT", 5000, 100, 600000, "ms",                   \
    "limit for the answer to COMMIT; then the host finds out the outcome")                   \
  X(retry_budget, "MOONPOOL_RETRY_BUDGET", 20, 0, 1000, "%",                                 \
    "retries per hundred transactions in the long run; 0: no limit")                         \
  X(cache_limit_mb, "MOONPOOL_CACHE_LIMIT", 32, 1, 1048576, "MiB",                           \
    "values that moonpool.cache keeps")                                                      \
  X(keep_hours, "MOONPOOL_KEEP_HOURS", 24, 1, 8760, "h",                                     \
    "how long witnesses and delivered messages are kept")                                    \
  X(statement_cache, "MOONPOOL_STATEMENT_CACHE", 256, 0, 100000, "",                         \
    "prepared statements kept per connection; 0: none")                                      \
  X(http_clients, "MOONPOOL_HTTP_CLIENTS", 10000, 1, 1000000, "",                            \
    "HTTP connections; when there are more, idle ones are closed")                           \
  X(http_per_address, "MOONPOOL_HTTP_CLIENTS_PER_ADDRESS", 1000, 1, 1000000, "",             \
    "HTTP connections from one address other than this machine's")                           \
  X(http_memory_mb, "MOONPOOL_HTTP_MEMORY", 256, 1, 1048576, "MiB",                          \
    "requests that arrive slowly and answers that clients read slowly")                      \
  X(memory_limit_mb, "MOONPOOL_MEMORY_LIMIT", 1024, 16, 1048576, "MiB",                      \
    "all Lua values of the host")                                                            \
  X(result_limit_mb, "MOONPOOL_RESULT_LIMIT", 64, 1, 1048576, "MiB",                         \
    "the result of one statement")                                                           \
  X(result_memory_mb, "MOONPOOL_RESULT_MEMORY", 512, 1, 1048576, "MiB",                      \
    "results and queued statements of all calls together")                                   \
  X(body_values, "MOONPOOL_BODY_VALUES", 100000, 100, 100000000, "",                         \
    "JSON values in the body of one call; more gets 413")

struct mp_config {
  char *database_url;  /* DATABASE_URL; NULL: the embedded database */
  char *owner_url;     /* MOONPOOL_OWNER_URL */
  char *check;         /* MOONPOOL_CHECK: off | warn | refuse; NULL: warn */
  char *env;           /* MOONPOOL_ENV: development | production; NULL: production */
  char *log_format;    /* MOONPOOL_LOG: text | json | auto */
  char *log_level;     /* MOONPOOL_LOG_LEVEL */
  char *time_zone;     /* MOONPOOL_TZ */
  char *flush;         /* MOONPOOL_FLUSH: own | shared; NULL: own */
  char *listen;        /* MOONPOOL_LISTEN */
  char *cors_origins;  /* MOONPOOL_CORS_ORIGINS */
  char *mcp;           /* MOONPOOL_MCP: off | on; NULL: off */
  char *hosts;         /* MOONPOOL_HOSTS */
  char *alert_webhook; /* MOONPOOL_ALERT_WEBHOOK */
  char *otlp_endpoint; /* MOONPOOL_OTLP_ENDPOINT */
#define X(field, name, def, low, high, unit, help) uint64_t field;
  MP_CONFIG_NUMBERS(X)
#undef X
};

/* Reads moonpool.conf of the project. Each setting that the environment does not have becomes one
 * of its variables, so that all who read the environment, also processes that a command starts,
 * agree. A project with such a file has a state directory of its own unless MOONPOOL_STATE names
 * one: its embedded database is private. -MP_EINVAL names file and line: a line that is none, a
 * name that is no setting (with the nearest). Call it before any thread runs and before
 * mp_config_read. */
int mp_config_apply_file(struct mp_settings_file *file, const char *app_dir,
                         struct mp_err *err) MP_MUST_CHECK;
/* Reads the environment and judges all of it, for every command alike. MP_EINVAL names the first
 * setting that cannot be used, what it was and what it may be, and its line of `file`; unknown
 * names that begin with MOONPOOL_ or DB_ are refused too. Values of secrets are never repeated.
 * `config` is filled in any case, so that `moonpool config` can show it. */
int mp_config_read(struct mp_config *config, const struct mp_settings_file *file,
                   struct mp_err *err) MP_MUST_CHECK;
/* The same for settings from elsewhere: "NAME=value" each, NULL at the end; `list` may be NULL. */
int mp_config_read_list(struct mp_config *config, const char *const *list,
                        const struct mp_settings_file *file, struct mp_err *err) MP_MUST_CHECK;
/* Logs a warning for each variable whose name is nearly a setting's that is not set. A variable
 * with another beginning than ours may be another program's, so it is not refused. */
void mp_config_tell_strangers(void);
void mp_config_fini(struct mp_config *config);
/* One line per setting: value and origin; passwords masked. */
void mp_config_print(const struct mp_config *config, const struct mp_settings_file *file, FILE *out,
                     bool json);
/* The list of lua/moonpool/help/settings.md: names, defaults and ranges; no values. */
void mp_config_document(FILE *out);

#endif
