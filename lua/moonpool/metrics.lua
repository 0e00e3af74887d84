-- moonpool.metrics: what the host counts, and counters of a script's own.
local host = require "moonpool.host"

local metrics = {
  pool         = host.pool_stats,        -- connections, waiters, statements
  transactions = host.transaction_stats, -- totals
  operations   = host.operation_stats,   -- an array: one entry per operation and isolation, with percentiles
  counter      = host.counter,
  gauge        = host.gauge,
  histogram    = host.histogram,
  text         = host.metrics_text,      -- the page that Prometheus reads
}

local function options_of(what, given, name, low, high)
  given = given or {}
  if type(given) ~= "table" then error(("metrics.%s: expected { %s = … }"):format(what, name), 3) end
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
  return number(name, low, 0, high), math.tointeger(number("limit", 100, 0, 100) // 1)
end

-- queries{limit=} -> the last statements (up to 100), newest first. Their texts hold no values.
function metrics.queries(options)
  local _, limit = options_of("queries", options, "limit", 100, 100)
  return host.statements(limit, 0)
end

-- slow{threshold=, limit=} -> the last statements that took at least so many ms; default: the slow log's threshold.
-- The slow and the failed ones are kept apart, so that traffic does not wash them away.
function metrics.slow(options)
  local threshold, limit = options_of("slow", options, "threshold", host.slow_query_ms, 86400000)
  return host.statements(limit, math.max(threshold, 0.001))
end

return metrics
