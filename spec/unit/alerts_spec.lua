-- When alerts rise and fall, with given numbers; no database.
local alerts = require "moonpool.alerts"

-- Numbers of a host that is well; `more` overrides.
local function sample(at, more)
  local numbers = {
    at = at, waiting_clients = 0, idle_connections = 5, active_connections = 1,
    max_connections = 20,
    slow_queries = 0, failed_queries = 0, queries = 0, query_seconds = 0, deadlock_retries = 0,
    refused_retries = 0,
    health_failures = 0,
    operator_faults = 0,
    saturated_s = 0, read_only_s = 0, draining_s = 0,
  }
  for name, value in pairs(more or {}) do numbers[name] = value end
  return numbers
end

local function names(active)
  local list = {}
  for _, alert in ipairs(active) do list[#list + 1] = alert.name .. " " .. alert.severity end
  return table.concat(list, ", ")
end

-- Feeds numbers every ten seconds and gives the names after each.
local function feed(state, from, field, values)
  local seen = {}
  for i, value in ipairs(values) do
    seen[i] = names((alerts.step(state, sample(from + 10 * (i - 1), { [field] = value }))))
  end
  return seen
end

-- What is active after these numbers have stood for a minute, an hour after all counters were 0.
local function after(numbers)
  local state = alerts.new()
  alerts.step(state, sample(0))
  for at = 3600, 3660, 10 do alerts.step(state, sample(at, numbers)) end
  return names(state.active)
end

describe("the thresholds", function()
  local function check(field, at_rest, warning, critical, name)
    assert.are.equal("", after { [field] = at_rest })
    assert.are.equal(name .. " warning", after { [field] = warning })
    assert.are.equal(name .. " critical", after { [field] = critical })
  end

  it("of waiting clients are above 3 and 10", function()
    check("waiting_clients", 3, 4, 11, "waiting_clients")
    assert.are.equal("waiting_clients warning", after { waiting_clients = 10 })
  end)

  it("of slow queries are above 50 and 200 within an hour", function()
    check("slow_queries", 50, 51, 201, "slow_queries")
  end)

  it("of failed queries are above 10 and 50 within an hour", function()
    check("failed_queries", 10, 11, 51, "failed_queries")
  end)

  it("of faults of the operator's are above 0 and 10 within five minutes, and name what fails",
     function()
    local state = alerts.new()
    alerts.step(state, sample(0))
    local function at(second, counts)
      local sum = 0
      for _, n in pairs(counts) do sum = sum + n end
      return (alerts.step(state, sample(second, { operator_faults = sum, failing = counts })))[1]
    end
    assert.is_nil(at(10, {}))
    local alert = at(20, { ["book SCRIPT_ERROR"] = 1 })
    assert.are.same({ "operator_faults", "warning" }, { alert.name, alert.severity })
    assert.matches("^1 calls failed .*: book SCRIPT_ERROR %(1%)$", alert.message)
    alert = at(30, { ["book SCRIPT_ERROR"] = 3, ["pay DISK_FULL"] = 9, ["a X"] = 1, ["b X"] = 1,
                     ["c X"] = 1 })
    assert.are.equal("critical", alert.severity)
    assert.matches(": pay DISK_FULL %(9%), book SCRIPT_ERROR %(3%), a X %(1%), …$", alert.message)
    local last = { ["book SCRIPT_ERROR"] = 3, ["pay DISK_FULL"] = 9, ["a X"] = 1, ["b X"] = 1,
                   ["c X"] = 1 }
    for second = 40, 320, 10 do assert.is_not_nil(at(second, last)) end
    for second = 330, 400, 10 do alert = at(second, last) end
    assert.is_nil(alert)
  end)

  it("of dead letters are one and 100, and say whose they are", function()
    check("dead_letters", 0, 1, 100, "dead_letters")
    local state = alerts.new()
    alerts.step(state, sample(0, { dead_letters = 3, dead_letters_of = { mail = 1, bill = 2 } }))
    assert.truthy(state.active[1].message:find(": bill (2), mail (1)", 1, true))
  end)

  it("of the oldest message are above five minutes and half an hour", function()
    check("oldest_message", 300, 301, 1801, "oldest_message")
  end)

  it("of failing schedules are one and three runs in a row", function()
    check("failing_schedules", 0, 1, 3, "failing_schedules")
  end)

  it("of late schedules are above one minute and ten", function()
    check("late_schedules", 60, 61, 601, "late_schedules")
  end)

  it("of deadlock retries are above 5 and 20 within an hour", function()
    check("deadlock_retries", 5, 6, 21, "deadlock_retries")
    check("refused_retries", 0, 1, 101, "refused_retries")
  end)

  it("of the host's states are seconds, each with its own advice", function()
    check("saturated_s", 5, 6, 31, "saturated")
    check("read_only_s", 0, 1, 31, "read_only")
    check("draining_s", 30, 31, 121, "draining")
    local advice, state = {}, alerts.new()
    alerts.step(
      state, sample(0, { saturated_s = 9, read_only_s = 9, draining_s = 99, health_failures = 1,
      saturated_by = "held by create_deal" }))
    for _, alert in ipairs(state.active) do
      assert.is_nil(advice[alert.action])
      advice[alert.action] = true
      if alert.name == "saturated" then
        assert.matches("9 s; held by create_deal$", alert.message)
      end
    end
  end)

  it("of failed health checks are 1 and 3 in a row", function()
    check("health_failures", 0, 1, 3, "health_check")
    assert.are.equal("health_check warning", after { health_failures = 2 })
  end)

  it("of idle connections are below 3 and 1, where the pool cannot grow", function()
    local function at(idle, active)
      return after { idle_connections = idle, active_connections = active }
    end
    assert.are.equal("", at(3, 17))
    assert.are.equal("idle_connections warning", at(2, 18))
    assert.are.equal("idle_connections critical", at(0, 20))
    assert.are.equal("", at(0, 4)) -- 16 more may be opened
  end)

  it("of the average query time are above 100 and 500 ms, over five minutes", function()
    local function mean(before, now)
      local state = alerts.new()
      for at = 0, 300, 10 do
        alerts.step(state, sample(at, { queries = before[1], query_seconds = before[2] }))
      end
      for at = 310, 400, 10 do
        alerts.step(state, sample(at, { queries = now[1], query_seconds = now[2] }))
      end
      return names(state.active)
    end
    assert.are.equal("", mean({ 1000, 0 }, { 1100, 10 }))
    assert.are.equal("avg_query_time warning", mean({ 1000, 0 }, { 1100, 10.1 }))
    assert.are.equal("avg_query_time critical", mean({ 1000, 0 }, { 1100, 50.1 }))
    -- nothing came in: an old average is no news
    assert.are.equal("", mean({ 1000, 1000 }, { 1000, 1000 }))
    -- however good the past was
    assert.are.equal("avg_query_time warning", mean({ 1000000, 100 }, { 1000010, 102 }))
  end)
end)

describe("an hourly rate", function()
  it("is what came within the last hour, not since the start", function()
    local state = alerts.new()
    alerts.step(state, sample(0, { slow_queries = 1000 }))
    alerts.step(state, sample(10, { slow_queries = 1040 }))
    assert.are.equal("", names(state.active))
    alerts.step(state, sample(20, { slow_queries = 1051 }))
    assert.are.equal("slow_queries warning", names(state.active))
    for at = 30, 3600 + 200, 10 do alerts.step(state, sample(at, { slow_queries = 1051 })) end
    assert.are.equal("", names(state.active))
  end)

  it("needs no more memory after a day than after an hour", function()
    local state = alerts.new()
    for at = 0, 86400, 10 do alerts.step(state, sample(at)) end
    assert.is_true(#state.samples - state.first < 370)
    assert.is_true(#state.samples < 1500)
  end)
end)

describe("an alert", function()
  it("does not rise from one moment's peak", function()
    assert.are.same({ "", "", "", "" }, feed(alerts.new(), 0, "waiting_clients", { 0, 20, 0, 20 }))
    assert.are.same({ "", "waiting_clients critical" },
                    feed(alerts.new(), 0, "waiting_clients", { 20, 20 }))
  end)

  it("stays while its value hovers around the threshold", function()
    local state = alerts.new()
    feed(state, 0, "waiting_clients", { 11, 11 })
    for _, seen in ipairs(feed(state, 20, "waiting_clients",
                               { 10, 11, 9, 10, 9, 11, 9, 9, 9, 9, 9, 9, 9, 9 })) do
      assert.are.equal("waiting_clients critical", seen)
    end
  end)

  it("eases and falls when its value has been back for a minute", function()
    local state = alerts.new()
    feed(state, 0, "waiting_clients", { 11, 11 })
    local seen = feed(state, 20, "waiting_clients", { 5, 5, 5, 5, 5, 5, 5 })
    assert.are.equal("waiting_clients critical", seen[6])
    assert.are.equal("waiting_clients warning", seen[7])
    seen = feed(state, 90, "waiting_clients", { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0 })
    assert.are.equal("waiting_clients warning", seen[10]) -- the minute began anew
    assert.are.equal("", seen[11])
  end)

  it("keeps when it began, through warning and critical", function()
    local state = alerts.new()
    feed(state, 0, "waiting_clients", { 5, 5, 50, 50 })
    assert.are.same({ "critical", 10 }, { state.active[1].severity, state.active[1].since })
  end)

  it("tells its change once", function()
    local state, told = alerts.new(), {}
    for at, value in pairs { 0, 4, 4, 4, 0 } do
      local _, changes = alerts.step(state, sample(at * 100, { waiting_clients = value }))
      for _, change in ipairs(changes) do
        told[#told + 1] = ("%s -> %s"):format(change.from or "none", change.to or "none")
      end
    end
    for at = 600, 700, 10 do
      local _, changes = alerts.step(state, sample(at))
      for _, change in ipairs(changes) do
        told[#told + 1] = ("%s -> %s"):format(change.from, change.to or "none")
      end
    end
    assert.are.same({ "none -> warning", "warning -> none" }, told)
  end)

  it("says what it is about, and what to do", function()
    local state = alerts.new()
    feed(state, 0, "waiting_clients", { 4, 4 })
    local alert = state.active[1]
    assert.are.same({ "waiting_clients", "Waiting clients", 4, 3 },
                    { alert.name, alert.title, alert.value, alert.threshold })
    assert.are.equal("4 wait for a database connection", alert.message)
    assert.matches("DB_POOL_MAX", alert.action)
  end)

  it("stands behind a worse one", function()
    local state = alerts.new()
    for at = 0, 20, 10 do
      alerts.step(state, sample(at, { waiting_clients = 4, health_failures = 3 }))
    end
    assert.are.equal("health_check critical, waiting_clients warning", names(state.active))
  end)
end)

describe("the rules for Prometheus", function()
  local root = os.getenv "MOONPOOL_APP" or "."

  it("are the host's own", function()
    local file = assert(io.open(root .. "/scripts/monitoring/rules.yml"))
    local text = file:read "a"
    file:close()
    assert.are.equal(require "moonpool.alerts.prometheus"(), text)
  end)
end)
