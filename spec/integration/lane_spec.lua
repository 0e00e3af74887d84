-- Lanes: calls whose lane is equal run one after another in the order they came, and wait without a
-- connection.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local await = scratch.await

local serial = 0

-- A lane that no other spec uses.
local function fresh(name)
  serial = serial + 1
  return ("lane_spec:%s:%d"):format(name or "lane", serial)
end

local function define(lane, run, fields)
  local definition = { lane = lane, run = run }
  for name, value in pairs(fields or {}) do definition[name] = value end
  return moonpool.operation(definition)
end

-- An operation that stays inside until it is told to leave.
local function gate(lane, fields)
  local self = { entered = 0, open = false }
  self.op = define(lane, function()
    self.entered = self.entered + 1
    await("the gate to open", function() return self.open end)
    return "passed"
  end, fields)
  function self.hold()
    local handle = moonpool.spawn(moonpool.call, self.op, {})
    await("somebody inside", function() return self.entered == 1 end)
    return handle
  end
  return self
end

describe("a lane", function()
  it("lets calls in one after another, in the order they came", function()
    local order, inside, most = {}, 0, 0
    local op = define(fresh(), function(tx, input)
      inside = inside + 1
      most = math.max(most, inside)
      order[#order + 1] = input.n
      tx:value "select 1"
      moonpool.sleep(0)
      tx:value "select 2"
      inside = inside - 1
      return input.n
    end)
    local calls, expected = {}, {}
    for n = 1, 50 do
      calls[n] = function() return (moonpool.call(op, { n = n })) end
      expected[n] = n
    end
    assert.are.same(expected, moonpool.all(calls))
    assert.are.same(expected, order)
    assert.are.equal(1, most)
  end)

  it("is shared by operations that name it alike", function()
    local lane, log = fresh(), {}
    local function logging(name)
      return define(lane, function(tx)
        log[#log + 1] = name .. " in"
        tx:value "select 1"
        log[#log + 1] = name .. " out"
      end)
    end
    local first, second = logging "first", logging "second"
    moonpool.all { function()
      moonpool.call(first, {})
    end, function() moonpool.call(second, {}) end }
    assert.are.same({ "first in", "first out", "second in", "second out" }, log)
  end)

  it("of other values runs at the same time", function()
    local inside = 0
    local op = define(fresh() .. ":$id", function()
      inside = inside + 1
      await("all three", function() return inside == 3 end)
      return true
    end, { timeout = 10, input = is.object { id = is.string } })
    local calls = {}
    for n = 1, 3 do calls[n] = function() return (moonpool.call(op, { id = "id " .. n })) end end
    assert.are.same({ true, true, true }, moonpool.all(calls))
  end)

  it("whose value the input has not is an error of the script", function()
    local e = failure(moonpool.call, define("x:$nobody", function() end), {})
    assert.are.equal("SCRIPT_ERROR", e.code)
    assert.is_truthy(e.message:find("nobody", 1, true), e.message)
  end)

  it("holds no connection for those who wait", function()
    inline.with_pool_of(2, function()
      local held = gate(fresh())
      local first = held.hold()
      local waiting = {}
      for n = 1, 20 do waiting[n] = moonpool.spawn(moonpool.call, held.op, {}) end
      -- One connection is the holder's; the other is everybody else's.
      assert.are.equal(7, db.value "select 7")
      assert.are.equal(8, moonpool.call(moonpool.operation { run = function(tx)
        return tx:value "select 8"
      end }, {}))
      assert.are.equal(0, host.pool_stats().waiting_clients)
      assert.are.equal(1, host.pool_stats().active_connections)
      assert.are.equal(1, held.entered)
      held.open = true
      assert.are.equal("passed", first:wait())
      for _, handle in ipairs(waiting) do assert.are.equal("passed", handle:wait()) end
      assert.are.equal(21, held.entered)
    end)
  end)

  it("keeps the deadline of those who wait, and forgets them", function()
    local held = gate(fresh())
    local first = held.hold()
    local began, ran = host.clock(), false
    local late = define(held.op.lane, function() ran = true end, { timeout = 0.2 })
    local e = failure(moonpool.call, late, {})
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
    assert.are.equal(504, e.status)
    assert.is_truthy(e.message:find("lane", 1, true), e.message)
    assert.is_true(host.clock() - began < 5)
    held.open = true
    first:wait()
    -- The lane goes on behind the one that gave up.
    assert.are.equal("next", moonpool.call(define(held.op.lane, function() return "next" end), {}))
    assert.is_false(ran)
  end)

  it("counts the wait in the deadline", function()
    local held = gate(fresh())
    local first = held.hold()
    local began = host.clock()
    local waiting = moonpool.spawn(moonpool.call, define(held.op.lane, function(tx)
      tx:value "select pg_sleep(30)"
    end, { timeout = 1 }), {})
    await("half of its time", function() return host.clock() - began > 0.5 end)
    held.open = true
    first:wait()
    assert.are.equal("DEADLINE_EXCEEDED", failure(waiting.wait, waiting).code)
    assert.is_true(host.clock() - began < 1.9, "the deadline began anew behind the lane")
  end)

  it("tells how long a call waited in it", function()
    local held = gate(fresh())
    local first = held.hold()
    local waiting = moonpool.spawn(function()
      return (select(2, moonpool.call_info(held.op, {})))
    end)
    local began = host.clock()
    await("50 ms", function() return host.clock() - began > 0.05 end)
    held.open = true
    first:wait()
    local info = waiting:wait()
    assert.is_true(info.lane_ms >= 40, tostring(info.lane_ms))
  end)

  for what, run in pairs {
    ["script's error"] = function() error "on purpose" end,
    ["failed statement"] = function(tx) return tx:value "select 1 / 0" end,
    ["failed COMMIT"] = function(tx) tx:exec "select 1 / 0" end,
    ["domain error"] = function() moonpool.fail("NO", "no") end,
    ["misuse"] = function(tx) tx:exec "commit" end,
  } do
    it("is left after a " .. what, function()
      local lane = fresh()
      local broken, fine = define(lane, run), define(lane, function()
        return "fine"
      end, { timeout = 5 })
      local results = moonpool.all {
        function() return (pcall(moonpool.call, broken, {})) end,
        function() return (moonpool.call(fine, {})) end,
        function() return (pcall(moonpool.call, broken, {})) end,
        function() return (moonpool.call(fine, {})) end,
      }
      assert.are.same({ false, "fine", false, "fine" }, results)
    end)
  end

  it("is left after a deadline inside", function()
    local lane = fresh()
    local slow = define(lane, function(tx) tx:value "select pg_sleep(30)" end, { timeout = 0.2 })
    local fine = define(lane, function() return "fine" end, { timeout = 5 })
    local results = moonpool.all {
      function() return failure(moonpool.call, slow, {}).code end,
      function() return (moonpool.call(fine, {})) end,
    }
    assert.are.same({ "DEADLINE_EXCEEDED", "fine" }, results)
  end)

  it("is kept over the attempts of a call", function()
    local schema = scratch.schema("lane_spec", { "create table lane_spec.counters (n int)",
                                                 "insert into lane_spec.counters values (0)" })
    local lane, log = fresh(), {}
    local retried = define(lane, function(tx)
      log[#log + 1] = "attempt " .. tx.attempt
      tx:value "select n from lane_spec.counters"
      if tx.attempt == 1 then
        scratch.elsewhere(function()
          schema.owner.exec "update lane_spec.counters set n = n + 1"
        end)
      end
      tx:exec "update lane_spec.counters set n = n + 10"
    end, { isolation = "repeatable read" })
    local other = define(lane, function() log[#log + 1] = "other" end)
    local ok, e = pcall(moonpool.all, { function()
      moonpool.call(retried, {})
    end, function() moonpool.call(other, {}) end })
    schema.drop()
    assert.is_true(ok, tostring(e))
    assert.are.same({ "attempt 1", "attempt 2", "other" }, log)
  end)

  it("is not waited for by an operation that joins its caller", function()
    local lane = fresh()
    local inner = define(lane, function() return "inner" end)
    local outer = define(lane, function() return (moonpool.call(inner, {})) end, { timeout = 5 })
    assert.are.equal("inner", moonpool.call(outer, {}))
  end)

  it("holds an advisory lock between hosts for serializable work, and gives it back", function()
    local held = gate(fresh(), { isolation = "serializable" })
    local seen
    local op = define(fresh(), function(tx)
      tx:value "select 1"
      seen = scratch.elsewhere(function()
        return db.value "select count(*) from pg_locks where locktype = 'advisory' and granted"
      end)
    end, { isolation = "serializable" })
    moonpool.call(op, {})
    assert.is_true(seen >= 1)
    failure(moonpool.call, define(held.op.lane, function(tx) return tx:value "select 1 / 0" end,
      { isolation = "serializable" }), {})
    failure(moonpool.call, define(held.op.lane, function(tx) tx:exec "select 1 / 0" end,
      { isolation = "serializable" }), {})
    await("the locks to be released", function()
      return db.value [[select count(*) = 0 from pg_locks l join pg_stat_activity a using (pid)
                         where l.locktype = 'advisory' and a.usename = 'moonpool_app']]
    end)
  end)

  it("that is full answers BUSY", function()
    local output, code = scratch.script([[
      local moonpool = require "moonpool"
      local leave = false
      local op = moonpool.operation { lane = "one", run = function(tx, input)
        while not leave do moonpool.sleep(0) end
        return input.n
      end }
      local handles = {}
      for n = 1, 3 do handles[n] = moonpool.spawn(moonpool.call, op, { n = n }) end
      moonpool.sleep(0)
      local ok, e = pcall(moonpool.call, op, { n = 4 })
      print(ok, e.code, e.status)
      -- Another lane has room: nobody needs to wait.
      print(moonpool.call(moonpool.operation { lane = "two", run = function() return "other" end },
        {}))
      leave = true
      for n = 1, 3 do print(handles[n]:wait()) end
      print(moonpool.call(op, { n = 5 }))
    ]], { MOONPOOL_LANE_LIMIT = "2", MOONPOOL_LOG_LEVEL = "error" })
    assert.are.equal("false\tBUSY\t503\nother\n1\n2\n3\n5\n", output)
    assert.are.equal(0, code)
  end)
end)
