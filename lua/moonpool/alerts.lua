-- moonpool.alerts: the alerts that are active now, by the thresholds of alerts/rules.lua. `step` is
-- a pure function: samples in, alerts out. After `start` it is called every ten seconds.
local health = require "moonpool.watch.health"
local host   = require "moonpool.host"
local json   = require "moonpool.json"
local meters = require "moonpool.watch.meters"
local rules  = require "moonpool.alerts.rules"

local alerts = { rules = rules }

local INTERVAL_S = 10
local LOOK_MS    = 2000
local RETURN     = 0.2 -- the share of its threshold by which a value must come back
local KEPT_S     = 3600

local ranks = { warning = 1, critical = 2 }

-- ---- pure ----

--- The state before the first sample.
function alerts.new()
  return { samples = {}, first = 1, levels = {}, active = {} }
end

-- The youngest sample that is at least `age_s` old, else the oldest.
local function sample_before(state, at, age_s)
  local samples, low, high = state.samples, state.first, #state.samples
  if at - samples[low].at <= age_s then return samples[low] end
  while low < high do
    local middle = (low + high + 1) // 2
    if at - samples[middle].at >= age_s then low = middle else high = middle - 1 end
  end
  return samples[low]
end

--- The value of a rule, from a sample and an earlier one; nil if the rule does not apply now.
function alerts.value(rule, before, now)
  if rule.only and now.active_connections <= rule.only * now.max_connections then return nil end
  if rule.of == "now" then return now[rule.field] end
  if rule.of == "increase" then return now[rule.field] - before[rule.field] end
  local count = now[rule.field[2]] - before[rule.field[2]]
  return count > 0 and (now[rule.field[1]] - before[rule.field[1]]) / count or nil
end

local function beyond(rule, value, threshold)
  if rule.sense == "above" then return value > threshold end
  if rule.sense == "below" then return value < threshold end
  return value >= threshold
end

-- The level of a value. The current level stays until the value has come back by RETURN.
local function level_of(rule, value, current)
  if value == nil then return nil end
  local slack = rule.sense == "below" and 1 + RETURN or 1 - RETURN
  for _, level in ipairs { "critical", "warning" } do
    local held = current and ranks[current] >= ranks[level]
    if beyond(rule, value, rule[level]) or held and beyond(rule, value, rule[level] * slack) then
      return level
    end
  end
  return nil
end

local function copy_of(alert)
  local copy = {}
  for name, value in pairs(alert) do copy[name] = value end
  return copy
end

-- ": create_order SCRIPT_ERROR (3), …": the three names whose counts have grown most between two
-- samples.
local function grown(rule, before, now)
  local list, old = {}, before[rule.names] or {}
  for what, count in pairs(now[rule.names] or {}) do
    local more = count - (old[what] or 0)
    if more > 0 then list[#list + 1] = { what = what, more = more } end
  end
  table.sort(list, function(a, b)
    if a.more ~= b.more then return a.more > b.more end
    return a.what < b.what
  end)
  for i, entry in ipairs(list) do list[i] = ("%s (%d)"):format(entry.what, entry.more) end
  if list[4] then list[4] = "…" end
  return list[1] and ": " .. table.concat(list, ", ", 1, math.min(#list, 4)) or ""
end

local function text_of(rule, value, detail)
  local shown = math.tointeger(value) or value
  if rule.unit == "s" then shown = ("%.0f ms"):format(value * 1000) end
  return rule.message:format(shown) .. (detail and "; " .. detail or "")
end

-- Sets a rule's level after this sample: the level changes once the new value has lasted for
-- `for_s` or `clear_s` seconds. -> true if the level has changed
local function settle(entry, rule, target, at)
  local up = (ranks[target] or 0) > (ranks[entry.level] or 0)
  if target == entry.level then
    entry.wanted, entry.wanted_at = nil, nil
  elseif entry.wanted == nil or (entry.up ~= up) then
    entry.wanted, entry.wanted_at, entry.up = target or "none", at, up
  else
    entry.wanted = target or "none"
  end
  if entry.wanted and at - entry.wanted_at >= (up and rule.for_s or rule.clear_s) then
    entry.level = target
    entry.since = target and (entry.since or at) or nil -- kept if only the level changes
    entry.wanted, entry.wanted_at = nil, nil
    return true
  end
  return false
end

--- Evaluates a sample (alerts.sample; `at` is in seconds and must rise). Returns the active alerts,
--- the worst first, and the changes: { name=, from=, to=, … }.
function alerts.step(state, now)
  local samples = state.samples
  samples[#samples + 1] = now
  while now.at - samples[state.first].at > KEPT_S + INTERVAL_S and state.first < #samples do
    samples[state.first] = false
    state.first = state.first + 1
  end
  if state.first > 1000 then
    state.samples = table.move(samples, state.first, #samples, 1, {})
    state.first = 1
  end
  local active, changes = {}, {}
  for _, rule in ipairs(rules) do
    local entry = state.levels[rule.name] or {}
    state.levels[rule.name] = entry
    local before = sample_before(state, now.at, rule.over_s or 0)
    local value = alerts.value(rule, before, now)
    local from = entry.level
    local changed = settle(entry, rule, level_of(rule, value, from), now.at)
    if value ~= nil then
      entry.value, entry.names = value,
        rule.names and grown(rule, rule.of == "now" and {} or before, now) or ""
    end
    local alert = {
      name = rule.name, title = rule.title, severity = entry.level or from, value = entry.value,
      since = entry.since,
      threshold = rule[entry.level or from], action = rule.action,
      state = rule.state,
      message = rule.told and now[rule.told]
        or entry.value and text_of(rule, entry.value, now[rule.detail]) .. entry.names,
    }
    if entry.level then active[#active + 1] = alert end
    if changed then
      local change = copy_of(alert)
      change.from, change.to = from, entry.level
      changes[#changes + 1] = change
    end
  end
  table.sort(active, function(a, b)
    if a.severity ~= b.severity then return ranks[a.severity] > ranks[b.severity] end
    return a.name < b.name
  end)
  state.active = active
  return active, changes
end

-- ---- in the host ----

local state, ticker, deployment
local hooks = {}

-- "create_order SCRIPT_ERROR" -> its count. Returns the same table as before if the total has not
-- changed.
local failing, failing_at = {}, 0
local function operator_faults(total)
  if total == failing_at then return failing end
  failing, failing_at = {}, total
  for _, kind in ipairs(host.failed_calls()) do
    if kind.fault == "operator" then failing[kind.operation .. " " .. kind.code] = kind.count end
  end
  return failing
end

--- Sets the faults of the project (standing.lua), one line each.
function alerts.deployment(faults) deployment = faults end

--- The current values of all fields that the rules use.
function alerts.sample()
  local pool, transactions, now = host.pool_stats(), host.transaction_stats(), health.known()
  local function seconds(name) return now.state == name and math.ceil(now.seconds) or 0 end
  local numbers = {
    at = host.clock(),
    waiting_clients = pool.waiting_clients, idle_connections = pool.idle_connections,
    active_connections = pool.active_connections, max_connections = pool.max,
    slow_queries = pool.slow_queries, failed_queries = pool.unexpected_failures,
    queries = pool.total_queries, query_seconds = pool.avg_query_time * pool.total_queries / 1000,
    operator_faults = transactions.operator_faults,
    failing = operator_faults(transactions.operator_faults),
    deployment_faults = deployment and #deployment,
    deployment = deployment and deployment[1] and table.concat(deployment, "; "),
    deadlock_retries = transactions.deadlock_retries,
    refused_retries = transactions.refused_retries, health_failures = now.failures,
    health_reason = now.reason,
    saturated_s = seconds "saturated", read_only_s = seconds "read_only",
    draining_s = seconds "draining",
    saturated_by = ("the longest wait is %.1f s; held by %s"):format(now.waited_s,
      now.holders or "no call of this host"),
  }
  for name, value in pairs(meters.worst()) do numbers[name] = value end
  return numbers
end

local function tell(change)
  if not change.to then
    host.log("info", ("resolved: %s"):format(change.title), "alert")
  elseif ranks[change.to] < (ranks[change.from] or 0) then
    host.log("warn", ("%s, was %s: %s"):format(change.to, change.from, change.message), "alert")
  else
    host.log(change.to == "critical" and "error" or "warn",
      ("%s: %s; %s"):format(change.to, change.message, change.action), "alert")
  end
  for _, hook in ipairs(hooks) do
    host.spawn(hook, change) -- in a task: if it fails, that is logged and other hooks still run
  end
end

-- A time of host.clock() as ISO 8601.
local function wall_time(at)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(os.time() - (host.clock() - at)))
end

-- Stores the active alerts in the host, where every Lua state can read them.
local function publish()
  local list = json.array()
  for i, alert in ipairs(state.active) do
    list[i] = copy_of(alert)
    list[i].since = wall_time(alert.since)
  end
  host.set_alerts(json.encode(list))
end

--- Takes a sample and evaluates it. Checks the database first, unless moonpool.watch.health checks
--- it every second.
function alerts.tick()
  state = state or alerts.new()
  if not health.watched() then host.look(LOOK_MS) end
  local _, changes = alerts.step(state, alerts.sample())
  publish()
  for _, change in ipairs(changes) do
    change.since = change.since and wall_time(change.since)
    tell(change)
  end
end

--- From now on evaluates every ten seconds. A serving host does this in one of its Lua states.
function alerts.start()
  if ticker then return end
  state = alerts.new()
  alerts.step(state, alerts.sample()) -- so that increases are counted from this moment on
  publish()
  ticker = host.every(INTERVAL_S, "alerts", alerts.tick)
end

function alerts.stop()
  if ticker then ticker:stop() end
  ticker = nil
end

--- Calls fn(change) when an alert rises, worsens, eases or falls. change: { name, title, severity,
--- from, to, value, threshold, message, action, since }; `to` is nil when the alert is over. fn may
--- wait.
function alerts.on_change(fn)
  if type(fn) ~= "function" then error("alerts.on_change: expected a function", 2) end
  hooks[#hooks + 1] = fn
end

--- The active alerts, the worst first.
function alerts.list() return json.decode(host.alerts()) end

return alerts
