-- The bodies of the monitoring pages, as scripts of the report's readers see them; alerts in a
-- running host.
local alerts   = require "moonpool.alerts"
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local metrics  = require "moonpool.metrics"
local monitor  = require "moonpool.watch.monitor"
local moonpool = require "moonpool"
local page     = require "spec.support.client.metrics_page"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

-- What a reader gets over the wire.
local function fetch(name, params)
  local body, status = monitor[name](params)
  return json.decode(json.encode(body)), status
end

local function keys(object)
  local list = {}
  for name in pairs(object) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function has(object, fields)
  for _, field in ipairs(fields) do assert.is_not_nil(object[field], field) end
end

local pool_fields = {
  "totalConnections", "idleConnections", "activeConnections", "waitingClients", "totalQueries",
  "slowQueries",
  "failedQueries", "avgQueryTime", "uptime",
}
local transaction_fields = {
  "totalTransactions", "committedTransactions", "rolledBackTransactions", "retriedTransactions",
  "failedTransactions",
  "deadlockRetries", "refusedRetries", "avgDuration",
}
local stamp = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$"

describe("/api/db/metrics", function()
  it("has the report's fields", function()
    local body, status = fetch "metrics"
    assert.are.equal(200, status)
    assert.are.same({ "health", "pool", "timestamp", "transactions" }, keys(body))
    has(body.pool, pool_fields)
    has(body.transactions, transaction_fields)
    assert.is_true(body.health)
    assert.matches(stamp, body.timestamp)
  end)

  it("feeds the report's alert snippets", function()
    local body = fetch "metrics"
    local function fires(condition)
      return assert(load("local metrics = ...; return " .. condition))(body)
    end
    local conditions = {
      waitingClients = "metrics.pool.waitingClients > 5",
      idleConnections = "metrics.pool.idleConnections < 2",
      slowQueries = "metrics.pool.slowQueries > 100",
      deadlockRetries = "metrics.transactions.deadlockRetries > 10",
      health = "not metrics.health",
    }
    for _, name in ipairs { "waitingClients", "slowQueries", "deadlockRetries", "health" } do
      assert.is_false(fires(conditions[name]), name)
    end
    body.pool.waitingClients, body.pool.idleConnections, body.pool.slowQueries = 6, 1, 101
    body.transactions.deadlockRetries, body.health = 11, false
    for name, condition in pairs(conditions) do assert.is_true(fires(condition), name) end
  end)

  it("counts", function()
    local before = fetch "metrics"
    moonpool.call(moonpool.operation { run = function(tx) return tx:value "select 1" end }, {})
    local after = fetch "metrics"
    assert.are.equal(before.transactions.committedTransactions + 1,
                     after.transactions.committedTransactions)
    -- asking changed nothing itself
    assert.are.equal(before.pool.totalQueries + 1, after.pool.totalQueries)
  end)
end)

describe("the other pages", function()
  it("have the report's fields", function()
    local stats = fetch "transaction_stats"
    has(stats, transaction_fields)
    local pool = fetch "pool_metrics"
    has(pool, pool_fields)
    assert.matches(stamp, stats.timestamp)
    assert.matches(stamp, pool.timestamp)
    local health, status = fetch "health"
    assert.are.same({ "status", "timestamp" }, keys(health))
    assert.are.same({ "healthy", 200 }, { health.status, status })
    local ready
    ready, status = fetch "ready"
    assert.are.same({ { healthy = true }, 200 }, { ready, status })
    ready, status = fetch("ready", true)
    assert.are.same({ { healthy = false }, 503 }, { ready, status })
    local test
    test, status = fetch("test", {})
    assert.are.same({ 403, "FORBIDDEN" }, { status, test.error.code })
    assert.matches("MOONPOOL_ENV=development", test.error.message, 1, true)
    -- not for callers to say
    assert.are.equal(403, select(2, fetch("test", { development = true })))
    assert.matches("PostgreSQL 1",
                   (scratch.script([[print(require("moonpool.watch.monitor").test().version)]],
      { MOONPOOL_ENV = "development" })))
    assert.matches("MOONPOOL_ENV is \"devel\"", (scratch.script("", { MOONPOOL_ENV = "devel" })), 1,
                   true)
  end)

  it("give the history, 20 statements unless asked", function()
    for _ = 1, 30 do db.value "select 1" end
    pcall(db.value, "select 1/0")
    local body = fetch "query_history"
    assert.are.same({ "count", "queries", "timestamp" }, keys(body))
    assert.are.same({ 20, 20 }, { body.count, #body.queries })
    has(body.queries[1], { "query", "duration", "timestamp", "success", "error" })
    assert.is_false(body.queries[1].success)
    assert.are.equal(3, (fetch("query_history", { limit = "3" })).count)
    assert.are.equal(0, (fetch("query_history", { limit = "0" })).count)
    assert.is_true((fetch("query_history", { limit = "5000" })).count <= 100)
    local ok, e = pcall(fetch, "query_history", { limit = "many" })
    assert.are.same({ false, "VALIDATION_ERROR", 400 }, { ok, e.code, e.status })
  end)

  it("give the failed statements, however much went well since, and the host's own apart",
     function()
    pcall(db.value, "select 1 / (0 * 7)")
    local number = metrics.queries({ limit = 1 })[1].number
    local store = require "moonpool.outbox.store"
    for _ = 1, 150 do
      db.value "select 1"
    end
    -- as the relay does: no script is there
    for _ = 1, 20 do moonpool.spawn(store.kept, db, "none"):wait() end
    local schema = scratch.schema("monitor_spec",
                                  { "create table monitor_spec.taken (id int primary key)" })
    db.exec "insert into monitor_spec.taken values (1)"
    -- callers' conflicts
    for _ = 1, 110 do pcall(db.exec, "insert into monitor_spec.taken values (1)") end
    schema.drop()
    local failed, found = fetch("query_history", { failed = "1", limit = "200" }).queries, false
    for _, entry in ipairs(failed) do
      assert.is_false(entry.success)
      found = found or entry.number == number
    end
    assert.is_true(found)
    for _, entry in ipairs(fetch("query_history", { limit = "100" }).queries) do
      assert.is_nil(entry.host)
      assert.is_nil(entry.line:find("^moonpool/"))
    end
    local own = fetch("query_history", { host = "1" }).queries
    assert.are.equal(20, #own)
    for _, entry in ipairs(own) do assert.matches("^moonpool/outbox/store.lua:%d+$", entry.line) end
    local ok, e = pcall(fetch, "query_history", { failed = "maybe" })
    assert.are.same({ false, "VALIDATION_ERROR" }, { ok, e.code })
  end)

  it("give what was slower than asked", function()
    db.value "select pg_sleep(0.03)"
    local body = fetch("slow_queries", { threshold = "25" })
    assert.are.same({ "count", "queries", "threshold", "timestamp" }, keys(body))
    assert.are.equal(25, body.threshold)
    assert.is_true(body.count >= 1)
    for _, entry in ipairs(body.queries) do assert.is_true(entry.duration >= 25) end
    assert.are.equal(1000, (fetch "slow_queries").threshold)
    assert.are.equal('[]', json.encode((monitor.slow_queries { threshold = "86400000" }).queries))
  end)

  it("give a statement's plan without running it or knowing its values", function()
    db.value("select count(*) from pg_class where relname = $1 and relpages > 5", "x")
    local number = metrics.queries { limit = 1 }[1].number
    local body, status = fetch("plan", { number = tostring(number) })
    assert.are.equal(200, status)
    assert.matches("relname = %$1", table.concat(body.plan, "\n"))
    db.exec "set application_name = 'spec'"
    body, status = fetch("plan", { number = tostring(metrics.queries { limit = 1 }[1].number) })
    assert.are.same({ 400, "NO_PLAN" }, { status, body.error.code })
    body, status = fetch("plan", { number = "0" })
    assert.are.same({ 404, "gone" }, { status, body.error.message })
  end)

  it("give the plan of what was sent, without the constants in it", function()
    for sql, line in pairs {
      ["select extract(epoch from now())"] = "Result",
      ["select count(*) from generate_series('2024-01-01'::timestamp, '2024-02-01', '1 day')"] =
        "Function Scan",
      ["select count(*) from pg_class where relname <> 'costs $5' and relpages = 123456"] =
        "relname <> '…'::name",
      ["select interval '1 day', date '2020-01-01'"] = "Result",
    } do
      db.query(sql)
      local plan, why = metrics.plan(metrics.queries { limit = 1 }[1].number)
      local text = plan and table.concat(plan, "\n") or why
      assert.truthy(text:find(line, 1, true), sql .. ": " .. text)
      assert.falsy(text:find("123456", 1, true) or text:find("2024", 1, true)
                   or text:find("$5", 1, true), text)
    end
  end)

  it("give percentiles per operation", function()
    local op = moonpool.operation { run = function(tx) return tx:value "select 1" end }
    require("moonpool.operation.definition").of(op).name = "monitor_spec_operation"
    moonpool.call(op, {})
    local found
    for _, entry in ipairs((fetch "operations").operations) do
      found = entry.operation == op.name and entry or found
    end
    has(found, { "total", "committed", "rolledBack", "failed", "retried", "avgDuration", "p50",
                 "p95", "p99" })
  end)

  it("give no percentile beyond what was seen", function()
    local op = moonpool.operation { run = function(tx) return tx:value "select pg_sleep(0.06)" end }
    require("moonpool.operation.definition").of(op).name = "monitor_spec_once"
    moonpool.call(op, {})
    local function of(list)
      for _, entry in ipairs(list) do
        if entry.operation == op.name then return entry end
      end
    end
    local entry = of(fetch("operations").operations)
    assert.are.same({ entry.max, entry.max, entry.max }, { entry.p50, entry.p95, entry.p99 })
    assert.are.equal(entry.min, entry.max)
    assert.is_true(math.abs(entry.max - entry.avgDuration) < 0.001)
    entry = of(fetch("overview").operations)
    -- what the dashboard's percentiles of some seconds are made of
    assert.are.same({ entry.max }, entry.latency.last)
  end)
end)

-- A host of its own whose database is not there.
local function without_database(script)
  return scratch.script(script,
                        { DATABASE_URL = "postgres://spec:secret-of-spec@127.0.0.1:1/none" })
end

describe("health", function()
  it("tells that the database cannot be reached, and counts how often", function()
    local output = without_database [[
      local monitor, alerts, json = require "moonpool.watch.monitor", require "moonpool.alerts",
        require "moonpool.json"
      local body, status = monitor.health()
      print("health", body.status, status)
      body, status = monitor.ready()
      print("ready", body.healthy, status)
      print("metrics", monitor.metrics().health)
      for _ = 1, 3 do alerts.tick() end
      for _, alert in ipairs(monitor.alerts().alerts) do print("alert", alert.name, alert.severity,
        alert.value) end
    ]]
    assert.matches("health\tunreachable\t503", output)
    assert.matches("ready\tfalse\t503", output)
    assert.matches("metrics\tfalse", output)
    assert.matches("alert\thealth_check\tcritical\t4", output) -- the first look of all counts
    assert.is_nil(output:find("secret-of-spec", 1, true))
  end)

  it("is asked over one connection for all who ask, and leaves no trace in the statistics",
     function()
    moonpool.sleep(1.1) -- what was known is too old by then
    local before = metrics.pool().total_queries
    local uses = page.read(metrics.text()):value "moonpool_pool_use_seconds_count"
    local fns = {}
    for i = 1, 50 do fns[i] = function() return monitor.health().status end end
    for _, status in ipairs(moonpool.all(fns)) do assert.are.equal("healthy", status) end
    assert.are.equal(before, metrics.pool().total_queries)
    -- none of the pool's
    assert.are.equal(uses, page.read(metrics.text()):value "moonpool_pool_use_seconds_count")
    assert.are.equal(
      1, db.value "select count(*) from pg_stat_activity where application_name = 'moonpool host'")
  end)
end)

describe("alerts in the host", function()
  after_each(function() alerts.stop() end)

  it("are there, with what to do, and told to a hook when they come", function()
    local told = {}
    alerts.on_change(function(change) told[#told + 1] = change end)
    alerts.start()
    assert.are.same({ count = 0, alerts = {} },
                    { count = (fetch "alerts").count, alerts = (fetch "alerts").alerts })
    for _ = 1, 60 do pcall(db.query, "select no_such_column_here") end
    alerts.tick()
    local body = fetch "alerts"
    assert.are.same({ "alerts", "count", "timestamp" }, keys(body))
    assert.are.equal(1, body.count)
    local alert = body.alerts[1]
    assert.are.same({ "failed_queries", "critical", 50, 60 },
                    { alert.name, alert.severity, alert.threshold, alert.value })
    has(alert, { "title", "message", "action", "since" })
    scratch.await("the hook", function() return told[1] end)
    assert.are.same({ "failed_queries", "critical" }, { told[1].name, told[1].to })
    alerts.tick()
    moonpool.sleep(0)
    assert.are.equal(1, #told)
  end)

  it("do not count broken constraints and what is retried", function()
    alerts.start()
    -- 42: counts
    for _ = 1, 60 do pcall(db.query, "select 1 from (values (1)) t where spec_none() = 1") end
    alerts.tick()
    assert.are.equal(1, (fetch "alerts").count)
    alerts.stop()
    alerts.start()
    local schema = scratch.schema("monitor_spec",
                                  { "create table monitor_spec.t (id int primary key)",
      "insert into monitor_spec.t values (1)" })
    for _ = 1, 60 do pcall(db.insert, "monitor_spec.t", { id = 1 }) end
    schema.drop()
    alerts.tick()
    assert.are.equal(0, (fetch "alerts").count)
  end)

  it("are evaluated while the host runs", function()
    local ticks = 0
    local every = host.every(0.001, "spec ticker", function() ticks = ticks + 1 end)
    scratch.await("three ticks", function() return ticks >= 3 end)
    every:stop()
    local seen = ticks
    moonpool.sleep(0.02)
    assert.is_true(ticks <= seen + 1)
  end)
end)

describe("scripts/monitoring", function()
  local function read(name)
    local file = assert(io.open(host.app_dir .. "/scripts/monitoring/" .. name))
    local text = file:read "a"
    file:close()
    return text
  end

  -- Those of a host that serves, and of this one, which has had more to count.
  local families
  setup(function()
    -- Some appear with their first event.
    local op = moonpool.operation { run = function(tx) return tx:value "select 1/0" end }
    pcall(moonpool.call, op, {})
    families = page.read(metrics.text()).families
    local token = service.token "--scopes monitor"
    local serving = service.start {
      ["scripts/ping.lua"] = 'return require "moonpool".operation { run = print }' }
    service.ask(serving, "GET", "/metrics", { token = token })
    local text = service.ask(serving, "GET", "/metrics", { token = token }).body
    serving:stop()
    for name, family in pairs(page.read(text).families) do families[name] = family end
  end)

  -- Every metric that a text names is one of the page.
  local function known(text)
    local count = 0
    for name in text:gmatch "%f[%w_]((%l+)_[%l_]+)" do
      if name:find "^moonpool_" or name:find "^process_" then
        local base = name:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "")
        assert.is_true(families[name] ~= nil or families[base] ~= nil
                       and families[base].kind == "histogram", name)
        count = count + 1
      end
    end
    assert.is_true(count > 0)
  end

  it("asks only for metrics that there are", function()
    known(read "rules.yml")
    local dashboard = json.decode(read "grafana.json")
    local ids = {}
    for _, panel in ipairs(dashboard.panels) do
      assert.is_nil(ids[panel.id])
      ids[panel.id] = true
      for _, target in ipairs(panel.targets) do known(target.expr) end
    end
  end)

  it("show each state of a host", function()
    local shown
    for _, panel in ipairs(json.decode(read "grafana.json").panels) do
      for _, target in ipairs(panel.targets) do
        if target.expr:find "by %(state%) %(moonpool_health_state{" then shown = panel end
      end
    end
    local colored = {}
    for _, override in ipairs(shown.fieldConfig.overrides) do
      colored[override.matcher.options] = true
    end
    local count = 0
    for state in metrics.text():gmatch 'moonpool_health_state{state="([%w_]+)"}' do
      assert.is_true(colored[state], state)
      count = count + 1
    end
    assert.are.equal(5, count)
  end)

  it("explains every metric, and no other", function()
    local text = read "README.md"
    local explained = {}
    for row in text:gmatch "\n(| `[mp][^\n]*)" do
      for name in row:match("^| ([^|]*)"):gmatch "`([%w_]+)`" do explained[name] = true end
    end
    for name in pairs(families) do
      if name:find "^moonpool_" or name:find "^process_" then
        assert.is_true(explained[name], name .. " is not explained")
      end
    end
    for name in pairs(explained) do
      assert.is_table(families[name], name .. " is explained, but not there")
    end
  end)
end)
