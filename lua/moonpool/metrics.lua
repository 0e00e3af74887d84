-- moonpool.metrics: the host's metrics, and metrics that scripts define.
local crew = require "moonpool.serve.crew"
local host = require "moonpool.host"

local metrics = {
  pool         = host.pool_stats,        -- connections, waiters, statements
  transactions = host.transaction_stats, -- totals
  -- the host's state, with advice
  health       = function() return require "moonpool.watch.health".now() end,
  -- an array: one entry per operation and isolation, with percentiles
  operations   = host.operation_stats,
  -- failed calls: by operation, code and fault, each with the id of the last call
  failures     = host.failed_calls,
  counter      = host.counter,
  gauge        = host.gauge,
  histogram    = host.histogram,
  text         = host.metrics_text,      -- the page that Prometheus reads
}

-- A list with one entry for each value of the label `first`. The fields of an entry are the values
-- of `gauges` (metric -> field) and those of `counter`, whose label `result` is the field's name;
-- `results` are the known results.
local function entries_of(first, gauges, counter, results)
  local entries, list, metrics_read = {}, {}, { counter }
  local function set(of, field, value)
    local entry = entries[of]
    if not entry then
      entry = { [first] = of }
      for _, name in pairs(gauges) do entry[name] = 0 end
      for name in results:gmatch "%S+" do entry[name] = 0 end
      entries[of], list[#list + 1] = entry, entry
    end
    entry[field] = value
  end
  for metric in pairs(gauges) do metrics_read[#metrics_read + 1] = metric end
  for metric, series in pairs(host.metric_values(table.unpack(metrics_read))) do
    for _, one in ipairs(series) do set(one[first], gauges[metric] or one.result, one.value) end
  end
  table.sort(list, function(a, b) return a[first] < b[first] end)
  return list
end

-- messages() -> for each subscriber that this host has served: waiting, oldest (s), dead_letters;
-- numbers of deliveries: delivered, failed, dead, postponed.
function metrics.messages()
  return entries_of("subscriber", {
    moonpool_messages_waiting = "waiting", moonpool_messages_oldest_seconds = "oldest",
    moonpool_messages_dead = "dead_letters",
  }, "moonpool_deliveries_total", "delivered failed dead postponed")
end

-- schedules() -> for each operation with `every`: next_run, last_success (seconds since 1970),
-- failing (in a row), late (s), running; numbers of this host's runs: ok, failed.
function metrics.schedules()
  return entries_of("operation", {
    moonpool_schedule_next_run_timestamp_seconds = "next_run",
    moonpool_schedule_late_seconds = "late",
    moonpool_schedule_last_success_timestamp_seconds = "last_success",
    moonpool_schedule_failing_runs = "failing", moonpool_schedule_running = "running",
  }, "moonpool_schedule_runs_total", "ok failed")
end

local function options_of(what, given, name, low, high)
  given = given or {}
  if type(given) ~= "table" then
    error(("metrics.%s: expected { %s = … }"):format(what, name), 3)
  end
  for key in pairs(given) do
    if key ~= name and key ~= "limit" then
      error(("metrics.%s: unknown option `%s`"):format(what, tostring(key)), 3)
    end
  end
  local function number(key, default, from, to)
    local value = given[key]
    if value == nil then return default end
    if type(value) ~= "number" or not (value >= from and value <= to) then
      error(("metrics.%s: %s is a number from %s to %s"):format(what, key, from, to), 4)
    end
    return value
  end
  return number(name, low, 0, high), math.tointeger(number("limit", 100, 0, 200) // 1)
end

-- The statements of other workers have numbers of their own: a multiple of WORKERS and the worker.
local WORKERS = 64

local function newer(a, b) return a.timestamp > b.timestamp end

local function renumber(entry, worker) entry.number = entry.number * WORKERS + worker end

-- host.statements of all workers
local function statements(limit, at_least, part)
  local list = host.statements(limit, at_least, part)
  if not crew.many() then return list end
  for _, entry in ipairs(list) do renumber(entry, 0) end
  return crew.together(list,
    { what = "statements", limit = limit, at_least = at_least, part = part }, newer, renumber)
end

-- host.statement_sent of the worker that has it
local function sent_of(number)
  if not crew.many() then return host.statement_sent(number) end
  local worker = number % WORKERS
  if worker == 0 then return host.statement_sent(number // WORKERS) end
  for _, one in ipairs(crew.ask { what = "sent", number = number // WORKERS }) do
    if one.worker == worker then return one.answer and one.answer.sql end
  end
end

local parts = { failed = "failed", host = "host" }

-- queries{limit=} -> the last statements of scripts (up to 100), newest first. Their texts have no
-- values. With failed = true: the failed statements, of scripts and of the host. With host = true:
-- the host's own statements (polls, tokens, schedules).
function metrics.queries(options)
  local rest, part = {}, "scripts"
  for name, value in pairs(type(options) == "table" and options or {}) do
    if not parts[name] then
      rest[name] = value
    elseif value == true and part == "scripts" then
      part = parts[name]
    elseif value then
      error("metrics.queries: one of failed = true and host = true", 2)
    end
  end
  local _, limit = options_of("queries", type(options) == "table" and rest or options, "limit", 100,
                              200)
  return statements(limit, 0, part)
end

-- slow{threshold=, limit=} -> the last statements that took at least `threshold` ms; default: the
-- threshold of the slow log. Slow and failed statements are kept in separate buffers, so that fast
-- ones do not displace them.
function metrics.slow(options)
  local threshold, limit = options_of("slow", options, "threshold", host.slow_query_ms, 86400000)
  return statements(limit, math.max(threshold, 0.001), "any")
end

-- A line of a plan without the constants of the statement's text, which may be values.
local function without_values(line)
  line = line:gsub("'[^']*'", "'…'")
  if not line:find "[CK]%l+:" and not line:find "Filter:" then return line end
  return (line:gsub("%f[%w_$]%d[%d.]*", "…"))
end

-- The number of parameters of a statement: the highest $n outside of quotes, comments and names.
local function parameters_of(sql)
  local scan, code, at, highest = require "moonpool.migrate.scan", {}, 1, 0
  for _, from, to in scan.pieces(sql) do
    code[#code + 1] = sql:sub(at, from - 1)
    at = to + 1
  end
  code[#code + 1] = sql:sub(at)
  for n in table.concat(code, " "):gmatch "%f[%w_$\128-\255]%$(%d+)" do
    highest = math.max(highest, math.tointeger(n))
  end
  return highest
end

local function explain(conn, sql)
  local params = parameters_of(sql)
  local nulls = params > 0 and "(" .. ("null, "):rep(params - 1) .. "null)" or ""
  conn.exec "set plan_cache_mode = force_generic_plan"
  conn.exec("prepare moonpool_plan as " .. sql)
  local lines = {}
  for i, row in ipairs(conn.query("explain execute moonpool_plan" .. nulls)) do
    lines[i] = without_values(row["QUERY PLAN"])
  end
  return lines
end

-- plan(number) -> the lines of the server's plan for a statement of the history, as it was sent,
-- without its values; or nil and the reason. The statement is not run.
function metrics.plan(number)
  local sent = math.tointeger(number) and sent_of(math.tointeger(number))
  if not sent then return nil, "gone" end
  if sent == "" then return nil, "so long a text is not kept" end
  local db = require "moonpool.db" -- here, because it requires modules that load this one
  local ok, plan = pcall(db.lease, function(conn) return explain(conn, sent) end)
  if ok then return plan end
  return nil, type(plan) == "table" and plan.message or tostring(plan)
end

return metrics
