-- The rules of alerts, as data. The host evaluates them (alerts.lua), and the rule file for
-- Prometheus is made from them (alerts/prometheus.lua).
--
-- An alert rises when its value has been beyond a threshold for `for_s` seconds (`sense`: `above`,
-- `below` or `at_least`). It falls when the value has come back by a fifth of the threshold for
-- `clear_s` seconds, so that a value that varies around a threshold is one alert, not many.
--   of      how the value is computed from two samples: "now": the later sample; "increase": the
--           difference over `over_s` seconds; "mean": the average over `over_s` seconds
--   field   the field of a sample (alerts.sample); a mean has two fields: the sum and the count
--   only    the rule is evaluated only while more than this share of the pool is in use
--   state   the state of the host (moonpool.health) that the alert is about
--   detail  a field of the sample; the message ends with it
--   promql  the same value for Prometheus
--   names   a field of a sample, { name = count }: the message ends with the names whose counts
--           have grown most between the two samples; with "now": with those of the highest counts
--   told    a field of a sample: the message of the host's own alert, instead of `message`
-- The `%s` of a message is the value.

return {
  {
    name = "waiting_clients", title = "Waiting clients", warning = 3, critical = 10,
    sense = "above",
    of = "now", field = "waiting_clients", for_s = 10, clear_s = 60,
    message = "%s wait for a database connection",
    action =
      "look at moonpool_pool_use_seconds and the slow queries; raise DB_POOL_MAX if the database \z
        has room",
    promql = "moonpool_pool_waiters",
  },
  {
    name = "idle_connections", title = "Idle connections", warning = 3, critical = 1,
    sense = "below",
    of = "now", field = "idle_connections", only = 0.8, for_s = 10, clear_s = 60,
    message = "%s connections are idle and the pool is nearly at its maximum",
    action = "the pool is too small for bursts: raise DB_POOL_MAX",
    promql = 'moonpool_pool_connections{state="idle"}',
    promql_only = 'and on (job, instance) moonpool_pool_connections{state="active"} '
      .. "> on (job, instance) 0.8 * moonpool_pool_connections_max",
  },
  {
    name = "slow_queries", title = "Slow queries per hour", warning = 50, critical = 200,
    sense = "above",
    of = "increase", field = "slow_queries", over_s = 3600, for_s = 0, clear_s = 60,
    message = "%s slow queries within an hour",
    action = "GET /api/db/slow-queries names the operation and the line",
    promql = "sum by (job, instance) (increase(moonpool_slow_queries_total[1h]))",
  },
  {
    -- A violated constraint (class 23) is a mistake of the caller, who gets the error. A
    -- serialization failure (class 40) is retried.
    name = "failed_queries", title = "Failed queries per hour", warning = 10, critical = 50,
    sense = "above",
    of = "increase", field = "failed_queries", over_s = 3600, for_s = 0, clear_s = 60,
    message = "%s queries failed within an hour, constraints and retried ones not counted",
    action = "GET /api/db/query-history?failed=1 shows their errors, the operation and the line",
    promql =
      'sum by (job, instance) (increase(moonpool_query_errors_total{sqlstate_class!~"23|40"}[1h]))',
  },
  {
    name = "operator_faults", title = "Calls failed by faults of the operator's", warning = 0,
    critical = 10, sense = "above",
    of = "increase", field = "operator_faults", names = "failing", over_s = 300, for_s = 0,
    clear_s = 60,
    message = "%s calls failed within five minutes by faults of scripts, grants or disks",
    action =
      "GET /api/db/failed-calls has the last call of each; moonpool why CALL_ID, and the log \z
        under that id, say why",
    promql = 'sum by (job, instance) (increase(moonpool_faults_total{fault="operator"}[5m]))',
  },
  {
    name = "deadlock_retries", title = "Deadlock retries per hour", warning = 5, critical = 20,
    sense = "above",
    of = "increase", field = "deadlock_retries", over_s = 3600, for_s = 0, clear_s = 60,
    message = "%s transactions were retried after a deadlock within an hour",
    action = "let operations lock rows in one order, or give them one lane",
    promql =
      'sum by (job, instance) \z
       (increase(moonpool_transaction_retries_total{reason="deadlock"}[1h]))',
  },
  {
    name = "refused_retries", title = "Refused retries in five minutes", warning = 0,
    critical = 100, sense = "above",
    of = "increase", field = "refused_retries", over_s = 300, for_s = 0, clear_s = 60,
    message = "%s transactions were not tried again within five minutes: a budget for retries " ..
      "was used up",
    action = "moonpool_transaction_failures_total says what fails, " ..
      "moonpool_transaction_retries_refused_total whose budget it was (MOONPOOL_RETRY_BUDGET)",
    promql = "sum by (job, instance) (increase(moonpool_transaction_retries_refused_total[5m]))",
  },
  {
    name = "dead_letters", title = "Dead letters", warning = 1, critical = 100, sense = "at_least",
    of = "now", field = "dead_letters", names = "dead_letters_of", for_s = 0, clear_s = 0,
    message = "%s messages were given up after their last delivery and wait for a decision",
    action = "moonpool outbox list --dead says why; mend it, then moonpool outbox retry, or drop",
    promql = "sum by (job, instance) (moonpool_messages_dead)",
  },
  {
    name = "oldest_message", title = "Age of the oldest message", warning = 300, critical = 1800,
    sense = "above",
    of = "now", field = "oldest_message", names = "oldest_message_of", for_s = 60, clear_s = 60,
    message = "a message has been waiting for its subscriber for %s s",
    action =
      "GET /api/db/messages names the subscriber; moonpool outbox list and the log say what fails",
    promql = "max by (job, instance) (moonpool_messages_oldest_seconds)",
  },
  {
    name = "failing_schedules", title = "Failed runs of a schedule", warning = 1, critical = 3,
    sense = "at_least",
    of = "now", field = "failing_schedules", names = "failing_schedules_of", for_s = 0, clear_s = 0,
    message = "an operation with `every` has failed %s times in a row, or for so many tenants",
    action =
      "GET /api/db/schedules names it; moonpool.schedule has its last error, the log the call",
    promql = "max by (job, instance) (moonpool_schedule_failing_runs)",
  },
  {
    name = "late_schedules", title = "Schedules that are late", warning = 60, critical = 600,
    sense = "above",
    of = "now", field = "late_schedules", names = "late_schedules_of", for_s = 30, clear_s = 60,
    message = "an operation with `every` has been due for %s s and no host runs it",
    action =
      "GET /api/db/schedules names it; is its previous run still under way, or the database \z
        unreachable?",
    promql = "max by (job, instance) (moonpool_schedule_late_seconds)",
  },
  {
    name = "avg_query_time", title = "Average query time", warning = 0.1, critical = 0.5,
    sense = "above", unit = "s",
    of = "mean", field = { "query_seconds", "queries" }, over_s = 300, for_s = 10, clear_s = 60,
    message = "a query takes %s on the average of five minutes",
    action = "GET /api/db/slow-queries; is the database short of CPU, or waiting for locks?",
    promql = "sum by (job, instance) (rate(moonpool_query_duration_seconds_sum[5m])) "
      .. "/ sum by (job, instance) (rate(moonpool_query_duration_seconds_count[5m]))",
  },
  -- The host's states (src/pool/health.h): each has its own alert. `detail` is not for Prometheus.
  {
    name = "health_check", title = "Failed health checks in a row", warning = 1, critical = 3,
    sense = "at_least",
    of = "now", field = "health_failures", for_s = 0, clear_s = 0, state = "unreachable",
    detail = "health_reason",
    message = "the database has failed %s health checks in a row",
    action = "is the database up, and can this host reach it?",
    promql = "moonpool_health_check_failures",
  },
  {
    name = "deployment", title = "Migrations and operations", warning = 1, critical = 10,
    sense = "at_least",
    of = "now", field = "deployment_faults", told = "deployment", for_s = 0, clear_s = 0,
    message = "%s faults in the project: migrations or operations",
    action = "moonpool migrate status names them; moonpool migrate up applies what is pending",
    promql = "moonpool_deployment_faults",
  },
  {
    name = "saturated", title = "All database connections in use", warning = 5, critical = 30,
    sense = "above",
    of = "now", field = "saturated_s", for_s = 0, clear_s = 10, state = "saturated",
    detail = "saturated_by",
    message = "every database connection has been in use for %s s",
    action =
      "see which operations hold connections and for how long; make them shorter, or raise \z
        DB_POOL_MAX if the " ..
      "database has room",
    promql = 'moonpool_health_state_seconds{state="saturated"}',
  },
  {
    name = "read_only", title = "The database takes no writes", warning = 0, critical = 30,
    sense = "above",
    of = "now", field = "read_only_s", for_s = 0, clear_s = 0, state = "read_only",
    message = "the database has taken no writes for %s s; what only reads is served",
    action =
      "is the server of DATABASE_URL a standby, or is default_transaction_read_only on? The host \z
        looks each " ..
      "second where the address leads, and goes to a writable server by itself",
    promql = 'moonpool_health_state_seconds{state="read_only"}',
  },
  {
    name = "draining", title = "A stop takes long", warning = 30, critical = 120, sense = "above",
    of = "now", field = "draining_s", for_s = 0, clear_s = 0, state = "draining",
    message = "the host has been stopping for %s s",
    action =
      "see which calls do not end (GET /api/db/calls); what is left after MOONPOOL_DRAIN_TIMEOUT \z
        is ended",
    promql = 'moonpool_health_state_seconds{state="draining"}',
  },
}
