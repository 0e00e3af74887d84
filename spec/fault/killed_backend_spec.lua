-- A backend that is ended under the host: while its connection is idle, while a statement runs,
-- between two statements, in and outside of transactions.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local is         = require "moonpool.is"
local test       = require "moonpool.test"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local scratch    = require "spec.support.data.scratch"

local walk_in = { first_name = "Walt", last_name = "Inman" }

-- An operation that adds one customer, with `strike(tx)` called in front of it and, behind it,
-- `strike_after(tx)`.
local function adding_customer(strike, strike_after)
  return moonpool.operation {
    input  = is.object { dealership_id = is.uuid },
    tenant = "dealership_id",
    run    = function(tx, input)
      local id = tx:uuid()
      if strike then strike(tx) end
      tx:insert("customers", { id = id, dealership_id = input.dealership_id, first_name = "Only",
                               last_name = "Once" })
      if strike_after then strike_after(tx) end
      return { id = id, attempt = tx.attempt }
    end,
  }
end

describe("a killed backend", function()
  local ours, schema

  setup(function()
    schema = scratch.schema("killed_backend_spec", { scratch.powers "killed_backend_spec" })
  end)
  teardown(function() schema.drop() end)

  before_each(function() ours = dealership.new() end)
  after_each(fault.assert_quiet)

  local function call(operation)
    local result, info = moonpool.call_info(operation, { dealership_id = ours.id })
    return result, info
  end

  local function assert_added_once(result)
    local rows = ours:rows("customers", { first_name = "Only" })
    assert.are.equal(1, #rows)
    assert.are.equal(result.id, rows[1].id)
  end

  describe("whose connection is idle", function()
    it("is not noticed by an operation", function()
      assert.truthy(fault.kill_all(fault.role()) >= 1)
      local result = call(adding_customer())
      assert_added_once(result)
    end)

    it("is not noticed by create_deal", function()
      fault.kill_all(fault.role())
      local deal = moonpool.call("create_deal", ours:deal_input { customer_data = walk_in }).deal
      assert.are.equal("0001", deal.deal_number:match "%d+$")
      fault.assert_ledger(ours)
    end)

    it("is not noticed by a query", function()
      fault.kill_all(fault.role())
      assert.are.equal(1, db.value "select 1")
    end)

    it("is replaced: the pool counts it as lost and is healthy again", function()
      db.value "select 1"
      local before = moonpool.metrics.pool()
      fault.kill_all(fault.role())
      db.value "select 1"
      local after = moonpool.metrics.pool()
      assert.truthy(after.lost > before.lost)
      assert.truthy(after.connects > before.connects)
      assert.is_true(after.healthy)
    end)
  end)

  describe("in an operation", function()
    it("while a statement runs: the operation starts again", function()
      local victim
      local result, info
      moonpool.all {
        function()
          result, info = call(adding_customer(function(tx)
            if tx.attempt > 1 then return end
            victim = tx:value "select pg_backend_pid()"
            tx:value "select pg_sleep(60)"
          end))
        end,
        function() fault.kill_sleeping(function() return victim end) end,
      }
      assert.are.equal(2, result.attempt)
      assert.are.equal(2, info.attempts)
      assert.are.equal(1, info.retries_connection)
      assert_added_once(result)
    end)

    it("by its own statement: the operation starts again", function()
      local result, info = call(adding_customer(function(tx)
        if tx.attempt == 1 then tx:value "select killed_backend_spec.end_me()" end
      end))
      assert.are.equal(2, info.attempts)
      assert_added_once(result)
    end)

    it("between two statements: the operation starts again", function()
      local kill, done = fault.killer()
      local result, info = call(adding_customer(function(tx)
        if tx.attempt > 1 then return end
        kill(tx:value "select pg_backend_pid()")
      end))
      done()
      assert.are.equal(2, info.attempts)
      assert_added_once(result)
    end)

    it("after its write was sent and seen, before COMMIT: written once", function()
      local kill, done = fault.killer()
      local result, info = call(adding_customer(nil, function(tx)
        if tx.attempt > 1 then return end
        kill(tx:value "select pg_backend_pid()") -- the insert travels along
      end))
      done()
      assert.are.equal(2, info.attempts)
      assert_added_once(result)
    end)

    it("is not seen by a pcall of the script", function()
      local caught = 0
      local result, info = call(adding_customer(function(tx)
        if tx.attempt > 1 then return end
        local ok = pcall(function() tx:value "select killed_backend_spec.end_me()" end)
        if not ok then caught = caught + 1 end
      end))
      assert.are.equal(0, caught)
      assert.are.equal(2, info.attempts)
      assert_added_once(result)
    end)

    it("inside a savepoint: starts again from the top", function()
      local result, info = call(adding_customer(function(tx)
        pcall(function()
          tx:savepoint(function(inner)
            if tx.attempt == 1 then inner:value "select killed_backend_spec.end_me()" end
          end)
        end)
      end))
      assert.are.equal(2, info.attempts)
      assert_added_once(result)
    end)

    it("three times: three retries", function()
      local result, info = call(adding_customer(function(tx)
        if tx.attempt <= 3 then tx:value "select killed_backend_spec.end_me()" end
      end))
      assert.are.equal(4, info.attempts)
      assert.are.equal(3, info.retries_connection)
      assert_added_once(result)
    end)

    it("every time: the caller is told, with the attempts, and nothing remains", function()
      local e = failure(call, adding_customer(nil, function(tx)
        tx:value "select killed_backend_spec.end_me()"
      end))
      assert.are.equal(4, e.attempts)
      assert.is_nil(rawget(e, "outcome_unknown"))
      assert.is_true(e.retryable)
      assert.are.equal(0, ours:count("customers"))
    end)

    it("runs its hooks for the attempt that counted", function()
      local committed, rolled_back = 0, 0
      call(adding_customer(function(tx)
        tx:after_commit(function() committed = committed + 1 end)
        tx:on_rollback(function() rolled_back = rolled_back + 1 end)
        if tx.attempt == 1 then tx:value "select killed_backend_spec.end_me()" end
      end))
      fault.eventually("the hook ran", function() return committed > 0 end)
      assert.are.equal(1, committed)
      assert.are.equal(0, rolled_back)
    end)
  end)

  describe("in db.transaction", function()
    it("starts it again", function()
      local attempts = 0
      ours:transaction(function(tx)
        attempts = tx.attempt
        tx:insert("customers", { id = tx:uuid(), dealership_id = ours.id, first_name = "Only",
                                 last_name = "Once" })
        if tx.attempt == 1 then tx:value "select killed_backend_spec.end_me()" end
      end)
      assert.are.equal(2, attempts)
      assert.are.equal(1, ours:count("customers", { first_name = "Only" }))
    end)
  end)

  describe("outside a transaction", function()
    it("fails a query that was running, and says so", function()
      local victim
      local e
      moonpool.all {
        function()
          e = failure(db.lease, function(conn)
            victim = conn.value "select pg_backend_pid()"
            conn.value "select pg_sleep(60)"
          end)
        end,
        function() fault.kill_sleeping(function() return victim end) end,
      }
      assert.truthy(e.sqlstate == "57P01" or e.code == "CONNECTION_LOST", tostring(e))
      assert.truthy(#e.message > 0)
      assert.is_nil(rawget(e, "outcome_unknown"))
    end)

    it("fails a query by its own statement, and says so", function()
      local e = failure(db.value, "select pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")
      assert.truthy(e.sqlstate == "57P01" or e.code == "CONNECTION_LOST", tostring(e))
      assert.is_nil(rawget(e, "outcome_unknown"))
      assert.are.equal(1, db.value "select 1")
    end)

    it("leaves the outcome of a write open, and says so", function()
      local base = test.database { empty = true }
      local own = db.open { url = base.admin_url, max = 2 }
      own.exec "create table notes (id int)"
      local e = failure(own.exec, [[
        with gone as (select pg_terminate_backend(pg_backend_pid())),
          slept as (select pg_sleep(60) from gone)
        insert into notes select 1 from slept]])
      assert.is_true(e.outcome_unknown)
      assert.truthy(e.message:find("may or may not", 1, true), e.message)
      assert.are.equal(0, own.value "select count(*) from notes")
      own.close()
      base.drop()
    end)

    it("ends a lease's connection for good", function()
      local first, second
      db.lease(function(conn)
        first = conn.value "select pg_backend_pid()"
        moonpool.all { function() fault.kill(first) end }
        second = failure(conn.value, "select 2")
      end)
      assert.truthy(second.code == "CONNECTION_LOST" or second.sqlstate == "57P01",
                    tostring(second))
      assert.are_not.equal(first, db.value "select pg_backend_pid()")
    end)
  end)
end)
