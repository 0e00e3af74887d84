-- moonpool.watch.monitor: the bodies of the monitoring pages, with the field names that dashboards
-- and scripts read. Each function returns a table for JSON and the HTTP status; `params` are the
-- parameters of the query string, as text.
local alerts  = require "moonpool.alerts"
local calls   = require "moonpool.calls"
local errors  = require "moonpool.errors"
local health  = require "moonpool.watch.health"
local host    = require "moonpool.host"
local json    = require "moonpool.json"
local metrics = require "moonpool.metrics"

local monitor = {}

local SLOWEST  = 86400000

-- 2026-11-23T18:09:27.123Z
local function now()
  return (host.now():gsub("(%.%d%d%d)%d*Z$", "%1Z"))
end

-- ---- parameters ----

local function number_of(params, name, default, low, high)
  local given = params and params[name]
  if given == nil or given == "" then return default end
  local value = tonumber(given)
  if not value or value ~= value or value < low then
    error(errors.new { code = "VALIDATION_ERROR", status = 400,
      message = ("%s must be a number from %d to %d"):format(name, low, high) }, 0)
  end
  return math.min(value, high)
end

-- ---- health ----

--- GET /health, for a load balancer: can this host take calls? A busy host can. So can a host whose
--- database is read-only: it serves operations that only read. `draining`: the host is stopping.
function monitor.ready(draining)
  local ready = not draining and health.now().works
  return { healthy = ready }, ready and 200 or 503
end

--- GET /api/db/health: the state, and a message unless the state is healthy.
function monitor.health(draining)
  local state = health.now()
  if draining then state = { state = "draining" } end
  return { status = state.state, timestamp = now(), message = state.message },
    state.sound and 200 or 503
end

-- ---- numbers ----

local function pool_fields()
  local pool = metrics.pool()
  return {
    totalConnections = pool.total_connections, idleConnections = pool.idle_connections,
    activeConnections = pool.active_connections, waitingClients = pool.waiting_clients,
    totalQueries = pool.total_queries, slowQueries = pool.slow_queries,
    failedQueries = pool.failed_queries,
    avgQueryTime = pool.avg_query_time, uptime = pool.uptime,
    maxConnections = pool.max, minConnections = pool.min,
  }
end

local function transaction_fields()
  local totals = metrics.transactions()
  return {
    totalTransactions = totals.total_transactions,
    committedTransactions = totals.committed_transactions,
    rolledBackTransactions = totals.rolled_back_transactions,
    retriedTransactions = totals.retried_transactions,
    failedTransactions = totals.failed_transactions, deadlockRetries = totals.deadlock_retries,
    refusedRetries = totals.refused_retries,
    avgDuration = totals.avg_duration,
    unknownTransactions = totals.unknown_transactions,
    resolvedTransactions = totals.resolved_transactions,
  }
end

local function stamped(fields)
  fields.timestamp = now()
  return fields, 200
end

--- GET /api/db/metrics
function monitor.metrics()
  return { timestamp = now(), pool = pool_fields(), transactions = transaction_fields(),
           health = health.now().sound }, 200
end

--- GET /api/db/pool-metrics
function monitor.pool_metrics() return stamped(pool_fields()) end

--- GET /api/db/transaction-stats
function monitor.transaction_stats() return stamped(transaction_fields()) end

--- One entry per operation and isolation, with percentiles in ms.
function monitor.operations()
  local list = json.array()
  for i, entry in ipairs(metrics.operations()) do
    list[i] = {
      operation = entry.operation, isolation = entry.isolation, total = entry.total,
      committed = entry.committed,
      rolledBack = entry.rolled_back, failed = entry.failed, unknown = entry.unknown,
      retried = entry.retried,
      avgDuration = entry.avg_duration, p50 = entry.p50, p95 = entry.p95, p99 = entry.p99,
      min = entry.min, max = entry.max,
    }
  end
  return { timestamp = now(), operations = list, count = #list }, 200
end

-- ---- statements ----

local function queries_of(entries)
  local list = json.array()
  for i, entry in ipairs(entries) do
    list[i] = {
      query = entry.query, duration = entry.duration, timestamp = entry.timestamp,
      success = entry.success,
      error = entry.error, sqlstate = entry.sqlstate, rows = entry.rows,
      operation = entry.operation, line = entry.line,
      number = entry.number, host = entry.host,
    }
  end
  return list
end

-- True if the parameter is "1" or "true".
local function flag_of(params, name)
  local given = params and params[name]
  if given == nil or given == "" or given == "0" or given == "false" then return false end
  if given == "1" or given == "true" then return true end
  error(errors.new { code = "VALIDATION_ERROR", status = 400,
                     message = ("%s must be 1 or 0"):format(name) }, 0)
end

--- GET /api/db/query-history?limit=20: the scripts' last statements; ?host=1: the host's own;
--- ?failed=1: the failed ones. At most 200, of which at most 100 are conflicts of callers (SQLSTATE
--- class 23).
function monitor.query_history(params)
  local limit = math.floor(number_of(params, "limit", 20, 0, 200))
  local failed, own = flag_of(params, "failed"), flag_of(params, "host")
  local queries = queries_of(metrics.queries { limit = limit, failed = failed,
                                               host = own and not failed })
  return { timestamp = now(), queries = queries, count = #queries }, 200
end

--- GET /api/db/slow-queries?threshold=1000 (ms)
function monitor.slow_queries(params)
  local threshold = number_of(params, "threshold", host.slow_query_ms, 0, SLOWEST)
  local queries = queries_of(metrics.slow { threshold = threshold })
  return { timestamp = now(), threshold = threshold, queries = queries, count = #queries }, 200
end

--- The plan of a statement of the history, by its number. 404 if the history does not have it any
--- more, 400 if the statement has no plan.
function monitor.plan(params)
  local number = math.floor(number_of(params, "number", 0, 0, SLOWEST * SLOWEST))
  local plan, why = metrics.plan(number)
  if not plan then
    return { error = { code = "NO_PLAN", message = why } }, why == "gone" and 404 or 400
  end
  return { timestamp = now(), number = number, plan = json.array(plan) }, 200
end

-- ---- calls ----

--- The last calls: ?limit=20&notable=true (only calls that failed, were retried or were slow).
function monitor.calls(params)
  local limit = math.floor(number_of(params, "limit", 20, 0, 200))
  local list = json.array()
  for i, call in ipairs(
    calls.recent { limit = limit, notable = params and params.notable == "true" }) do
    list[i] = { id = call.id, operation = call.operation, caller = call.caller, lane = call.lane,
                began = call.began,
      duration = call.duration, outcome = call.outcome, attempts = call.attempts,
      roundTrips = call.round_trips,
      group = call.group, error = call.error, worker = call.worker }
  end
  return { timestamp = now(), calls = list, count = #list }, 200
end

--- The failures of calls: by operation, code and fault, the latest first, each with the id of its
--- last call.
function monitor.failed_calls()
  local list = json.array()
  for i, kind in ipairs(metrics.failures()) do
    list[i] = { operation = kind.operation, code = kind.code, fault = kind.fault,
                count = kind.count, last = kind.last,
      callId = kind.call_id }
  end
  return { timestamp = now(), failures = list, count = #list }, 200
end

--- One call with its notes, each also as text: ?id=
function monitor.call(params)
  local call = calls.find(params and params.id or "")
  if not call then return { error = { code = "UNKNOWN_CALL",
    message = "this host has no such call, or has forgotten it: it keeps the last 200, "
    .. "200 that failed, were retried or were slow, and 200 that a list has shown" } }, 404 end
  for _, note in ipairs(call.notes) do note.said = calls.say(note) end
  call.roundTrips, call.round_trips, call.notes, call.timestamp = call.round_trips, nil,
    json.array(call.notes), now()
  return call, 200
end

-- ---- alerts ----

--- GET /api/db/alerts
function monitor.alerts()
  local list = json.array()
  for i, alert in ipairs(alerts.list()) do
    list[i] = {
      name = alert.name, title = alert.title, severity = alert.severity, value = alert.value,
      threshold = alert.threshold,
      message = alert.message, action = alert.action, since = alert.since,
      state = alert.state,
    }
  end
  return { timestamp = now(), alerts = list, count = #list }, 200
end

-- ---- messages and schedules ----

local function seconds(at)
  return at > 0 and os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(at)) or nil
end

local function messages()
  local list = json.array()
  for i, of in ipairs(metrics.messages()) do
    list[i] = { subscriber = of.subscriber, waiting = of.waiting, oldest = of.oldest,
                deadLetters = of.dead_letters,
      delivered = of.delivered, failed = of.failed + of.dead, postponed = of.postponed }
  end
  return list
end

local function schedules()
  local list = json.array()
  for i, of in ipairs(metrics.schedules()) do
    list[i] = { operation = of.operation, nextRun = seconds(of.next_run),
                lastSuccess = seconds(of.last_success),
      failing = of.failing, late = of.late, running = of.running, ok = of.ok, failed = of.failed }
  end
  return list
end

--- GET /api/db/messages: one entry for each subscriber that this host serves; `oldest` in seconds.
function monitor.messages()
  local list = messages()
  return { timestamp = now(), subscribers = list, count = #list }, 200
end

--- GET /api/db/schedules: one entry for each operation with `every`; `failing`: failures in a row,
--- or with `for_each` the number of tenants whose last run failed; `late` in seconds.
function monitor.schedules()
  local list = schedules()
  return { timestamp = now(), schedules = list, count = #list }, 200
end

-- ---- the overview ----

-- The numbers of the overview, all read at the same time: metric -> its series
-- (host.metric_values).
local function numbers_now()
  return host.metric_values("moonpool_transaction_retries_total",
    "moonpool_transaction_retries_refused_total", "moonpool_transaction_duration_seconds",
    "moonpool_http_connections", "moonpool_http_requests_active",
    "moonpool_http_requests_total", "moonpool_lanes_active",
    "moonpool_lane_waiters", "moonpool_group_size", "moonpool_loop_lag_seconds",
    "moonpool_generation", "moonpool_generations_open", "moonpool_generation_start_time_seconds",
    "moonpool_reloads_total")
end

-- The value of a metric's only series; nil if the metric has no series.
local function only(series) return series[1] and series[1].value end

-- The sum and the count of a histogram without labels.
local function sum_and_count(series)
  local of = series[1]
  if of then return of.value, of.counts[#of.counts] end
end

-- Adds { operation=, reason=, count= } for each series to the list.
local function add_retries(list, series, prefix)
  for _, of in ipairs(series) do
    if of.value > 0 then
      list[#list + 1] = { operation = of.operation, reason = prefix .. of.reason, count = of.value }
    end
  end
end

-- "operation isolation" -> { bounds =, counts = } of its transactions' durations.
local function latencies(series)
  local found = {}
  for _, of in ipairs(series) do
    found[of.operation .. " " .. of.isolation] =
      { bounds = json.array(of.bounds), counts = json.array(of.counts) }
  end
  return found
end

-- The numbers of HTTP: answers by the class of their status code, and connections; nil if the host
-- has no HTTP service.
local function http_numbers(numbers)
  if not numbers.moonpool_http_connections[1] then return nil end
  local http = { answers = 0, clientErrors = 0, serverErrors = 0,
                 connections = only(numbers.moonpool_http_connections),
                 active = only(numbers.moonpool_http_requests_active) }
  for _, of in ipairs(numbers.moonpool_http_requests_total) do
    local class = of.code:sub(1, 1)
    http.answers = http.answers + of.value
    if class == "4" then http.clientErrors = http.clientErrors + of.value end
    if class == "5" then http.serverErrors = http.serverErrors + of.value end
  end
  return http
end

local function generation_numbers(numbers)
  local found = { current = only(numbers.moonpool_generation),
                  open = only(numbers.moonpool_generations_open),
                  startedAt = only(numbers.moonpool_generation_start_time_seconds) }
  for _, of in ipairs(numbers.moonpool_reloads_total) do found[of.result] = of.value end
  return found
end

--- GET /api/db/overview: the data of the dashboard, in one answer. The only query of the database
--- is the check of its health. `latency` of an operation: a histogram (`bounds` in seconds,
--- `counts` of transactions that took at most so long), and in ms the last, the shortest and the
--- longest durations.
function monitor.overview()
  local numbers = numbers_now()
  local latency_of = latencies(numbers.moonpool_transaction_duration_seconds)
  local body, slow = monitor.metrics(), monitor.slow_queries()
  body.operations, body.alerts = monitor.operations().operations, monitor.alerts().alerts
  body.retries = json.array()
  add_retries(body.retries, numbers.moonpool_transaction_retries_total, "")
  add_retries(body.retries, numbers.moonpool_transaction_retries_refused_total, "refused: ")
  body.failures = monitor.failed_calls().failures
  for i, entry in ipairs(metrics.operations()) do
    local latency = latency_of[entry.operation .. " " .. entry.isolation]
    if latency then
      latency.last, latency.min, latency.max = json.array(entry.last), entry.min, entry.max
    end
    body.operations[i].latency = latency
  end
  body.slowQueries, body.threshold = slow.queries, slow.threshold
  local state = health.now()
  body.state = { name = state.state, seconds = state.seconds, message = state.message,
                 reason = state.reason, advice = state.advice,
                 holders = state.state == "saturated" and state.holders or nil }
  body.lanes = { active = only(numbers.moonpool_lanes_active),
                 waiting = only(numbers.moonpool_lane_waiters) }
  body.groups, body.lag = {}, {}
  body.groups.calls, body.groups.transactions = sum_and_count(numbers.moonpool_group_size)
  body.lag.sum, body.lag.count = sum_and_count(numbers.moonpool_loop_lag_seconds)
  body.http, body.generations = http_numbers(numbers), generation_numbers(numbers)
  body.messages, body.schedules = messages(), schedules()
  return body, 200
end

--- GET /api/db/test, in development only: the server's time and version.
function monitor.test()
  if not host.development then
    return { error = { code = "FORBIDDEN", status = 403,
      message =
        "only in development: set MOONPOOL_ENV=development on a host that others cannot reach" } },
        403
  end
  local db = require "moonpool.db" -- here, because this page is rarely used
  local row = db.one "select now() as time, version() as version"
  return { timestamp = now(), success = true, time = row.time, version = row.version }, 200
end

return monitor
