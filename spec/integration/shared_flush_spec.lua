-- flush = "shared": a call's COMMIT does not flush, others see its work at once, and its caller
-- hears of it after a later flush. Here the flush is held up by a lock on the row that it updates.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local fault    = require "spec.support.workload.fault"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

describe("a shared flush", function()
  local schema, gate, told

  setup(function()
    schema = scratch.schema("shared_flush", {
      "create table shared_flush.things (name text primary key, n integer not null default 0)",
    })
    gate = db.open { url = moonpool.host.admin_url, max = 3 }
  end)
  teardown(function()
    gate.close()
    schema.drop()
  end)
  before_each(function()
    schema.owner.exec "truncate shared_flush.things"
    told = {}
  end)
  after_each(function() fault.assert_quiet() end)

  local function store(fields)
    return inline.define(function(tx, input)
      tx:exec("insert into shared_flush.things (name) values ($name)", input)
      return tx.attempt
    end, fields or { flush = "shared" })
  end

  local function look(fields)
    return inline.define(function(tx, input)
      return { tx:value("select count(*) from shared_flush.things where name = $name", input),
               tx.attempt }
    end, fields or { read_only = true })
  end

  local function visible(name)
    return fault.eventually(name .. " is visible", function()
      return gate.value("select true from shared_flush.things where name = $1", name)
    end)
  end

  -- The first COMMIT that wants it finds no connection for it, and flushes by itself.
  local function warm()
    local n = 0
    fault.eventually("there is a connection for flushes", function()
      n = n + 1
      moonpool.call(store(), { name = "warm" .. n })
      return gate.value "select true from moonpool.witness where operation = 'flush' limit 1"
    end)
  end

  -- Calls `fn` while no flush ends.
  local function held(fn)
    warm()
    return gate.lease(function(conn)
      conn.exec "begin"
      conn.exec "select from moonpool.witness where operation = 'flush' for update"
      local ok, result = pcall(fn, function() conn.exec "rollback" end,
                               conn.value "select pg_backend_pid()")
      conn.exec "rollback"
      if not ok then error(result, 0) end
    end)
  end

  local function start(name, op, input)
    return moonpool.spawn(function()
      local ok, result = pcall(moonpool.call, op, input or { name = name })
      told[name] = ok and "done" or result.code
      return ok and result or nil
    end)
  end

  local function flush_waits(pid)
    return fault.eventually("a flush waits", function()
      return gate.value([[
        select pid from pg_stat_activity where $1 = any(pg_blocking_pids(pid))]], pid)
    end)
  end

  it("is waited for by the caller, not by the others", function()
    held(function(release, pid)
      local first = start("first", store())
      visible "first"
      flush_waits(pid)
      assert.is_nil(told.first)
      release()
      assert.are.equal(1, first:wait())
    end)
  end)

  it("holds back who may have seen what is not flushed", function()
    held(function(release, pid)
      local first = start("first", store())
      visible "first"
      local reader = start("reader", look(), { name = "first" })
      local loser = start("loser", store { flush = "own" }, { name = "first" })
      flush_waits(pid)
      fault.eventually("all calls are over", function()
        return moonpool.metrics.pool().active_connections == 0
      end)
      assert.are.same({}, told)
      release()
      assert.are.same({ 1, 1 }, reader:wait())
      loser:wait()
      first:wait()
      assert.are.same({ first = "done", reader = "done", loser = "UNIQUE_VIOLATION" }, told)
    end)
  end)

  it("is not waited for by who flushes by himself, nor when all is flushed", function()
    held(function(release, pid)
      assert.are.same({ 0, 1 }, moonpool.call(look(), { name = "first" }))
      local first = start("first", store())
      visible "first"
      flush_waits(pid)
      assert.are.equal(1, moonpool.call(store { flush = "own" }, { name = "own" }))
      -- That COMMIT has flushed the first call's, too.
      assert.are.same({ 1, 1 }, moonpool.call(look(), { name = "first" }))
      assert.is_nil(told.first)
      release()
      first:wait()
    end)
  end)

  it("does not hold up the lane", function()
    local fields = { flush = "shared", lane = "shared_flush" }
    held(function(release)
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = start("lane" .. i, store(fields))
        visible("lane" .. i)
      end
      assert.are.same({}, told)
      release()
      for i = 1, 5 do tasks[i]:wait() end
    end)
  end)

  it("comes before hooks", function()
    local hooked
    local op = inline.define(function(tx, input)
      tx:exec("insert into shared_flush.things (name) values ($name)", input)
      tx:after_commit(function() hooked = true end)
    end, { flush = "shared" })
    held(function(release, pid)
      local first = start("first", op)
      visible "first"
      flush_waits(pid)
      assert.is_nil(hooked)
      release()
      first:wait()
      fault.eventually("the hook runs", function() return hooked end)
    end)
  end)

  it("that is lost leaves it to the witness: the work is there, and is done once", function()
    held(function(release, pid)
      local first = start("first", store())
      visible "first"
      local reader = start("reader", look(), { name = "first" })
      gate.value("select pg_terminate_backend($1)", flush_waits(pid))
      assert.are.equal(1, first:wait())
      assert.are.equal("done", told.first)
      release()
      assert.are.equal(1, reader:wait()[1])
      assert.are.equal(1, gate.value [[
        select count(*) from shared_flush.things where name = 'first']])
    end)
  end)

  it("that does not end before the deadline leaves the outcome unknown", function()
    held(function(release, pid)
      local op = store { flush = "shared", timeout = 1 }
      local e = failure(moonpool.call, op, { name = "late" })
      assert.are.equal("OUTCOME_UNKNOWN", e.code)
      assert.is_true(e.outcome_unknown)
      local reader = look { read_only = true, timeout = 1 }
      assert.are.equal("DEADLINE_EXCEEDED", failure(moonpool.call, reader, { name = "late" }).code)
      flush_waits(pid)
      release()
    end)
    assert.are.same({ 1, 1 }, moonpool.call(look(), { name = "late" }))
  end)

  it("covers a group", function()
    local fields = { flush = "shared", lane = "shared_flush", group = 10 }
    held(function(release, pid)
      local tasks = {}
      for i = 1, 5 do tasks[i] = start("group" .. i, store(fields)) end
      for i = 1, 5 do visible("group" .. i) end
      flush_waits(pid)
      assert.are.same({}, told)
      release()
      for i = 1, 5 do assert.are.equal(1, tasks[i]:wait()) end
    end)
  end)

  it("covers the answer that a key keeps", function()
    held(function(release, pid)
      local op = inline.define(function(tx, input)
        tx:exec("insert into shared_flush.things (name) values ($name)", input)
        return input.name
      end, { flush = "shared" })
      local function keyed(name)
        return moonpool.spawn(function()
          told[name] = moonpool.call(op, { name = "keyed" }, { key = "k" .. pid })
        end)
      end
      local first = keyed "first"
      visible "keyed"
      local second = keyed "second"
      flush_waits(pid)
      fault.eventually("all calls are over", function()
        return moonpool.metrics.pool().active_connections == 0
      end)
      assert.are.same({}, told)
      release()
      first:wait()
      second:wait()
      assert.are.same({ first = "keyed", second = "keyed" }, told)
    end)
  end)

  it("is db.transaction's too", function()
    held(function(release, pid)
      local task = moonpool.spawn(function()
        told.tx = db.transaction({ flush = "shared" }, function(tx)
          tx:exec "insert into shared_flush.things (name) values ('tx')"
          return "done"
        end)
      end)
      visible "tx"
      flush_waits(pid)
      assert.is_nil(told.tx)
      release()
      task:wait()
      assert.are.equal("done", told.tx)
    end)
  end)
end)
