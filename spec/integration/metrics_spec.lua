-- What the host counts of transactions and statements, the history, and metrics of a script's own.
local db         = require "moonpool.db"
local metrics    = require "moonpool.metrics"
local moonpool   = require "moonpool"
local page       = require "spec.support.client.metrics_page"
local prometheus = require "spec.support.process.prometheus"
local scratch    = require "spec.support.data.scratch"

local unique = 0
local function fresh(suffix)
  unique = unique + 1
  return ("spec_%d_%s"):format(unique, suffix)
end

local function operation(fields)
  fields.run, fields[1] = fields[1], nil
  local op = moonpool.operation(fields)
  require("moonpool.operation.definition").of(op).name = fresh "operation"
  return op
end

local function stats_of(op)
  for _, entry in ipairs(metrics.operations()) do
    if entry.operation == op.name then return entry end
  end
end

-- How much each number grew while fn ran.
local function growth(read, fn)
  local before = read()
  fn()
  local grown = {}
  for name, value in pairs(read()) do
    if type(value) == "number" then grown[name] = value - before[name] end
  end
  return grown
end

local schema

setup(function()
  schema = scratch.schema("metrics_spec",
    { [[create function metrics_spec.raise(state text) returns void language plpgsql as
    $$ begin raise exception 'spec' using errcode = state; end $$]],
    "grant execute on function metrics_spec.raise to moonpool_app" })
end)

teardown(function() schema.drop() end)

local function seen() return page.read(metrics.text()) end

-- A transaction whose first attempts fail with these SQLSTATEs.
local function with_failures(...)
  local states = { ... }
  return db.transaction({ retries = #states }, function(tx)
    local state = states[tx.attempt]
    if state then tx:exec("select metrics_spec.raise($1)", state) end
  end)
end

describe("transaction statistics", function()
  it("count a commit by operation and isolation", function()
    local op = operation { isolation = "serializable", function(tx) return tx:value "select 1" end }
    local grown = growth(metrics.transactions, function()
      for _ = 1, 3 do moonpool.call(op, {}) end
    end)
    assert.are.same({ 3, 3, 0 }, { grown.total_transactions, grown.committed_transactions,
                                   grown.failed_transactions })
    local own = stats_of(op)
    assert.are.equal("serializable", own.isolation)
    assert.are.same({ 3, 3, 0 }, { own.total, own.committed, own.rolled_back })
    assert.is_true(own.avg_duration > 0 and own.p50 > 0 and own.p50 <= own.p95
                   and own.p95 <= own.p99)
    local labels = { operation = op.name, isolation = "serializable" }
    assert.are.equal(3, seen():value("moonpool_transaction_duration_seconds_count", labels))
    assert.are.equal(6, seen():value("moonpool_transaction_round_trips_total",
                                     { operation = op.name }))
  end)

  it("tell a script's own decision from a failure", function()
    local refuses = operation { function() moonpool.fail("NO", "no") end }
    local breaks = operation { function(tx) return tx:value "select 1/0" end }
    local grown = growth(metrics.transactions, function()
      pcall(moonpool.call, refuses, {})
      pcall(moonpool.call, breaks, {})
    end)
    assert.are.same({ 2, 1 }, { grown.rolled_back_transactions, grown.failed_transactions })
    local now = seen()
    assert.are.equal(1, now:value("moonpool_transaction_failures_total",
                                  { operation = breaks.name, reason = "22" }))
    assert.is_nil(now:value("moonpool_transaction_failures_total", { operation = refuses.name }))
    assert.are.equal(1, now:value("moonpool_transactions_total",
                                  { operation = refuses.name, outcome = "rolled_back" }))
  end)

  it("count retries by what called for them", function()
    local function retries(reason)
      return seen():value("moonpool_transaction_retries_total",
                          { operation = "db.transaction", reason = reason }) or 0
    end
    local serialization, deadlock = retries "serialization", retries "deadlock"
    local grown = growth(metrics.transactions, function() with_failures("40001", "40P01") end)
    assert.are.same({ 1, 1, 1 }, { grown.retried_transactions, grown.deadlock_retries,
                                   grown.committed_transactions })
    assert.are.same({ 1, 1 },
                    { retries "serialization" - serialization, retries "deadlock" - deadlock })
  end)

  it("tell how long calls waited in lanes, and how many shared a transaction", function()
    local op = operation { lane = "metrics_spec", isolation = "serializable", group = 10,
                           function(tx)
      tx:exec "select 1"
    end }
    local before = seen()
    local function grown(now, name) return now:value(name) - before:value(name) end
    local fns = {}
    for i = 1, 20 do fns[i] = function() moonpool.call(op, {}) end end
    moonpool.all(fns)
    local now = seen()
    assert.are.equal(20, grown(now, "moonpool_lane_wait_seconds_count"))
    assert.are.equal(20, grown(now, "moonpool_group_size_sum"))
    assert.is_true(grown(now, "moonpool_group_size_count") < 20)
    assert.are.equal(20, stats_of(op).committed)
    assert.are.equal(0, now:value "moonpool_lane_waiters")
  end)

  it("count an error in a hook", function()
    local op = operation { function(tx) tx:after_commit(function() error "spec" end) end }
    local before = metrics.transactions().hook_errors
    moonpool.call(op, {})
    while metrics.transactions().hook_errors == before do moonpool.sleep(0) end
    assert.are.equal(before + 1, metrics.transactions().hook_errors)
  end)
end)

describe("statement statistics", function()
  it("count statements, failures by SQLSTATE class, and times by operation", function()
    local op = operation { function(tx)
      tx:exec "select 1"
      return tx:value "select 2"
    end }
    local class = seen():value("moonpool_query_errors_total", { sqlstate_class = "42" }) or 0
    local grown = growth(metrics.pool, function()
      moonpool.call(op, {})
      pcall(db.query, "select nothing_like_it")
    end)
    assert.are.same({ 3, 1 }, { grown.total_queries, grown.failed_queries })
    assert.are.equal(2, seen():value("moonpool_query_duration_seconds_count",
                                     { operation = op.name }))
    assert.are.equal(class + 1,
                     seen():value("moonpool_query_errors_total", { sqlstate_class = "42" }))
  end)

  it("do not count what was skipped because another statement failed", function()
    local op = operation { function(tx)
      tx:exec "select 1/0"
      tx:exec "select 1"
      return tx:value "select 2"
    end }
    local grown = growth(metrics.pool, function() pcall(moonpool.call, op, {}) end)
    assert.are.same({ 1, 1 }, { grown.total_queries, grown.failed_queries })
  end)
end)

describe("the history of statements", function()
  it("gives the last ones, newest first, with where they came from", function()
    local op = operation { function(tx)
      return tx:query "select generate_series(1, 3)" -- the line
    end }
    moonpool.call(op, {})
    local last = metrics.queries { limit = 1 }[1]
    assert.are.equal("select generate_series($1, $2)", last.query)
    assert.are.equal(op.name, last.operation)
    assert.matches("metrics_spec%.lua:%d+$", last.line)
    assert.are.same({ true, 3 }, { last.success, last.rows })
    assert.is_true(last.duration > 0)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT", last.timestamp)
    db.query "select 'newer'"
    local both = metrics.queries { limit = 2 }
    assert.are.same({ "moonpool.db", op.name }, { both[1].operation, both[2].operation })
    assert.are.equal(both[1].number, both[2].number + 1)
  end)

  it("keeps a hundred, and slow and failed ones longer than traffic", function()
    pcall(db.query, "select 1 / (random() * 0)::int from pg_sleep(0.06)")
    local number = metrics.queries { limit = 1 }[1].number
    for i = 1, 120 do db.value("select $1::int", i) end
    local all = metrics.queries()
    assert.are.equal(100, #all)
    for _, entry in ipairs(all) do assert.is_true(entry.number > number) end
    local found
    for _, entry in ipairs(metrics.slow { threshold = 50 }) do
      found = found or entry.number == number
    end
    assert.is_true(found)
  end)

  it("gives what took at least so long", function()
    db.value "select pg_sleep(0.03)"
    for _, entry in ipairs(metrics.slow { threshold = 25 }) do
      assert.is_true(entry.duration >= 25)
    end
    assert.matches("pg_sleep", metrics.slow { threshold = 25 }[1].query)
    assert.has_error(function()
      metrics.slow { treshold = 25 }
    end, "metrics.slow: unknown option `treshold`")
  end)

  it("tells how one failed", function()
    pcall(db.query, "select 1 from no_such_table")
    local last = metrics.queries { limit = 1 }[1]
    assert.are.same({ false, "42P01" }, { last.success, last.sqlstate })
    assert.matches('^DATABASE_ERROR: relation "no_such_table" does not exist', last.error)
    assert.is_nil(last.rows)
  end)

  it("shows no value, wherever it stood", function()
    local secret = "s3cr3t"
    local texts = {
      "select 's3cr3t'", "select $q$s3cr3t$q$", "select E's3cr3t\\n'", "select 1 -- s3cr3t",
      "select /* s3cr3t */ 2",
      "select interval '1 day', 's3cr3t'::text", "set app.spec = 's3cr3t'",
      "do $$ begin perform 's3cr3t'; end $$",
      "select 's3cr3t", "selct 's3cr3t'", "select 's3cr3t'::int", "notify spec, 's3cr3t'",
      "prepare spec_p as select 's3cr3t'",
    }
    for _, text in ipairs(texts) do pcall(db.query, text) end
    pcall(db.query, "select $1::int", secret)
    pcall(db.query, "select $1::uuid", secret)
    for _, entry in ipairs(metrics.queries()) do
      for name, value in pairs(entry) do
        assert.is_nil(tostring(value):find(secret, 1, true), name .. " of " .. entry.query)
      end
    end
    assert.is_nil(metrics.text():find(secret, 1, true))
  end)
end)

describe("a script's own metrics", function()
  it("count", function()
    local name = fresh "things_total"
    local counter = metrics.counter(name, { help = "Things.", labels = { "kind" } })
    counter:add { kind = "a" }
    counter:add(2.5, { kind = "b" })
    metrics.counter(name, { labels = { "kind" } }):add { kind = "a" } -- the same one
    assert.are.equal(2, seen():value(name, { kind = "a" }))
    assert.are.equal(2.5, seen():value(name, { kind = "b" }))
    assert.are.equal(2, counter:value { kind = "a" })
    assert.are.equal("Things.", seen().families[name].help)
  end)

  it("go up and down", function()
    local name = fresh "level"
    local gauge = metrics.gauge(name)
    assert.are.equal(0, seen():value(name)) -- there from the start
    gauge:set(5)
    gauge:add(-7)
    assert.are.equal(-2, seen():value(name))
  end)

  it("observe, into buckets that hold their upper bound", function()
    local name = fresh "size"
    local histogram = metrics.histogram(name, { buckets = { 1, 2.5, 10 } })
    for _, value in ipairs { 0.5, 1, 2, 10, 11 } do histogram:observe(value) end
    local now = seen()
    assert.are.equal(2, now:value(name .. "_bucket", { le = "1" }))
    assert.are.equal(3, now:value(name .. "_bucket", { le = "2.5" }))
    assert.are.equal(4, now:value(name .. "_bucket", { le = "10" }))
    assert.are.equal(5, now:value(name .. "_bucket", { le = "+Inf" }))
    assert.are.equal(24.5, now:value(name .. "_sum"))
    assert.are.equal(2, histogram:quantile(0.5)) -- so few are known exactly
    assert.are.equal(11, histogram:quantile(0.99))
    assert.are.same({ { value = 24.5, bounds = { 1, 2.5, 10 }, counts = { 2, 3, 4, 5 } } },
                    moonpool.host.metric_values(name)[name])
  end)

  it("take any label value", function()
    local name = fresh "odd_total"
    local counter = metrics.counter(name, { labels = { "v" } })
    for _, value in ipairs { 'a"b', "a\\b", "äß€𝄞", "", 42, true } do counter:add { v = value } end
    for _, value in ipairs { 'a"b', "a\\b", "äß€𝄞", "", "42", "true" } do
      assert.are.equal(1, seen():value(name, { v = value }), value)
    end
    counter:add { v = "bad\xFFbyte\nbreak" }
    assert.are.equal(1, seen():value(name, { v = "bad?byte break" }))
    local values = {}
    for _, series in ipairs(moonpool.host.metric_values(name)[name]) do
      values[series.v] = series.value
    end
    assert.are.same({ ['a"b'] = 1, ["a\\b"] = 1, ["äß€𝄞"] = 1, [""] = 1, ["42"] = 1, ["true"] = 1,
                      ["bad?byte break"] = 1 }, values)
  end)

  it("stay bounded: what is too much is counted under \"other\"", function()
    local name = fresh "many_total"
    local counter = metrics.counter(name, { labels = { "id" } })
    for i = 1, 1000 do counter:add { id = i } end
    local now = seen()
    assert.are.equal(101, now:count(name))
    assert.are.equal(1, now:value(name, { id = "100" }))
    assert.are.equal(900, now:value(name, { id = "other" }))
  end)

  it("are refused where a name or a label is wrong", function()
    local function refused(fn, ...)
      local ok, e = pcall(fn, ...)
      assert.is_false(ok)
      assert.are.equal("INVALID_ARGUMENT", e.code)
      return e.message
    end
    assert.matches("spec_x_total", refused(metrics.counter, "spec_x"))
    assert.matches("the host's", refused(metrics.gauge, "moonpool_mine"))
    assert.matches("metric's name", refused(metrics.gauge, "a-b"))
    assert.matches("labels", refused(metrics.gauge, fresh "g",
                                     { labels = { "a", "b", "c", "d", "e" } }))
    assert.matches("unknown option `label`", refused(metrics.gauge, fresh "g", { label = {} }))
    assert.matches("above the last", refused(metrics.histogram, fresh "h", { buckets = { 1, 1 } }))
    local counter = metrics.counter(fresh "c_total", { labels = { "kind" } })
    assert.matches("only goes up", refused(counter.add, counter, -1, { kind = "a" }))
    assert.matches("needs its labels", refused(counter.add, counter))
    assert.matches("no value for the label kind", refused(counter.add, counter, { sort = "a" }))
    assert.matches("2 labels", refused(counter.add, counter, { kind = "a", sort = "b" }))
    local taken = fresh "taken"
    metrics.gauge(taken)
    assert.matches("another", refused(metrics.gauge, taken, { labels = { "x" } }))
    assert.matches("another", refused(metrics.histogram, taken))
  end)
end)

describe("the page", function()
  it("is what Prometheus reads, and names what the report names", function()
    local now = seen()
    for _, name in ipairs {
      "moonpool_transactions_total", "moonpool_transaction_duration_seconds",
      "moonpool_pool_connections",
      "moonpool_pool_connections_max", "moonpool_pool_waiters", "moonpool_query_duration_seconds",
      "moonpool_database_up", "moonpool_build_info", "moonpool_lane_waiters",
      "process_resident_memory_bytes",
      "process_start_time_seconds", "moonpool_loop_lag_seconds", "moonpool_pool_wait_seconds",
    } do
      assert.is_table(now.families[name], name)
    end
    local pool = metrics.pool()
    assert.are.equal(pool.max, now:value "moonpool_pool_connections_max")
    assert.are.equal(1, now:value "moonpool_database_up")
    local age = os.time() - now:value "process_start_time_seconds"
    assert.is_true(age >= -1 and age < 86400)
  end)

  it("passes promtool", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write((metrics.text():gsub("[^\n]*spec_[^\n]*\n", ""))) -- what the specs above made up
    file:close()
    local said, ok = prometheus.tool("check metrics < " .. path)
    os.remove(path)
    assert.is_true(ok, said)
  end)
end)
