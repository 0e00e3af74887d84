-- Transactions that start again from the top, their deadlines and hooks, on a real server.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

local await, elsewhere = scratch.await, scratch.elsewhere
local define, call, refusal, with_pool_of = inline.define, inline.call, inline.refusal,
  inline.with_pool_of

describe("a transaction", function()
  local schema

  setup(function()
    schema = scratch.schema("tx_retry_spec", {
      [[create table tx_retry_spec.things (
          id int primary key, name text, other text, amount numeric(12,2),
            constraint things_name_key unique (name))]],
      [[create table tx_retry_spec.late (
          id int primary key, value text constraint late_value_key unique deferrable initially
            deferred)]],
      "create table tx_retry_spec.counters (id int primary key, n int not null)",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate tx_retry_spec.things, tx_retry_spec.late, tx_retry_spec.counters"
    schema.owner.exec "insert into tx_retry_spec.counters select i, 0 from generate_series(1, 3) i"
  end)

  local function things()
    return schema.owner.value "select count(*) from tx_retry_spec.things"
  end

  local function counter(id)
    return schema.owner.value("select n from tx_retry_spec.counters where id = $1", id or 1)
  end

  -- Raises a serialization failure in tx (repeatable read or serializable): another session changes
  -- counter 1 behind the snapshot's back, then tx does.
  local function conflict(tx)
    tx:value "select n from tx_retry_spec.counters where id = 1"
    elsewhere(function()
      schema.owner.exec "update tx_retry_spec.counters set n = n + 1 where id = 1"
    end)
    tx:exec "update tx_retry_spec.counters set n = n + 100 where id = 1"
    tx:value "select 1"
  end

  describe("is restarted from the top", function()
    it("after a serialization failure, which pcall cannot see", function()
      local attempts, seen_by_pcall = {}, 0
      local result, info = moonpool.call_info(define(function(tx)
        attempts[#attempts + 1] = tx.attempt
        tx:exec("insert into tx_retry_spec.things (id) values ($1)", tx.attempt)
        local ok = pcall(function() if tx.attempt < 3 then conflict(tx) end end)
        if not ok then seen_by_pcall = seen_by_pcall + 1 end
        return "attempt " .. tx.attempt
      end, { isolation = "repeatable read" }), {})
      assert.are.equal("attempt 3", result)
      assert.are.same({ 1, 2, 3 }, attempts)
      assert.are.equal(0, seen_by_pcall)
      assert.are.same({ 3, 2, 0 },
                      { info.attempts, info.retries_serialization, info.retries_deadlock })
      assert.are.equal(
        "3", schema.owner.value "select string_agg(id::text, ',') from tx_retry_spec.things")
      assert.are.equal(2, counter())
    end)

    it("from any depth of savepoints", function()
      local _, info = moonpool.call_info(define(function(tx)
        tx:savepoint(function()
          pcall(function()
            tx:savepoint(function() if tx.attempt == 1 then conflict(tx) end end)
          end)
        end)
        tx:exec("insert into tx_retry_spec.things (id) values ($1)", tx.attempt)
      end, { isolation = "repeatable read" }), {})
      assert.are.equal(2, info.attempts)
      assert.are.equal(
        "2", schema.owner.value "select string_agg(id::text, ',') from tx_retry_spec.things")
    end)

    it("when two serializable transactions write what the other read, found at COMMIT or before",
       function()
      -- Write skew: both see the sum 0 and add 1 to a counter of their own; one of the two orders
      -- must be kept.
      local inside = 0
      local function add(own)
        return define(function(tx)
          local sum = tx:value "select sum(n) from tx_retry_spec.counters where id < 3"
          if tx.attempt == 1 then
            inside = inside + 1
            await("the other transaction", function() return inside == 2 end)
          end
          tx:exec("update tx_retry_spec.counters set n = n + $2 + 1 where id = $1", own, sum)
        end, { isolation = "serializable" }, "write_skew")
      end
      local infos = moonpool.all {
        function() return (select(2, moonpool.call_info(add(1), {}))) end,
        function() return (select(2, moonpool.call_info(add(2), {}))) end,
      }
      assert.are.equal(3, infos[1].attempts + infos[2].attempts)
      assert.are.equal(3, counter(1) + counter(2))
    end)

    it("after a deadlock", function()
      local inside = 0
      local function lock(first, second)
        return define(function(tx)
          tx:value("update tx_retry_spec.counters set n = n + 1 where id = $1 returning n", first)
          if tx.attempt == 1 then
            inside = inside + 1
            await("the other transaction", function() return inside == 2 end)
          end
          tx:value("update tx_retry_spec.counters set n = n + 1 where id = $1 returning n", second)
        end, {}, "deadlock")
      end
      local before = host.transaction_stats().deadlock_retries
      local infos = moonpool.all {
        function() return (select(2, moonpool.call_info(lock(1, 2), {}))) end,
        function() return (select(2, moonpool.call_info(lock(2, 1), {}))) end,
      }
      assert.are.equal(3, infos[1].attempts + infos[2].attempts)
      assert.are.equal(1, infos[1].retries_deadlock + infos[2].retries_deadlock)
      assert.are.equal(before + 1, host.transaction_stats().deadlock_retries)
      assert.are.same({ 2, 2 }, { counter(1), counter(2) })
    end)

    it("with fresh input, though the script changed it", function()
      local seen = {}
      call(function(tx, input)
        local extra = rawget(input, "extra")
        seen[#seen + 1] = ("%s %d %s"):format(input.name, #input.list, tostring(extra))
        input.name, input.list[2], input.extra = "changed", "more", "new"
        if tx.attempt == 1 then conflict(tx) end
      end, { isolation = "repeatable read",
             input = is.object { name = is.string, list = is.array(is.string) } },
        { name = "given", list = { "one" } })
      assert.are.same({ "given 1 nil", "given 1 nil" }, seen)
    end)

    it("with the same uuids, time and random numbers", function()
      local drawn = {}
      call(function(tx)
        drawn[#drawn + 1] = { tx:uuid(), tx:now(), tx:random(), tx:uuid(), tx:random(1000000),
                              tx:now() }
        if tx.attempt < 3 then conflict(tx) end
      end, { isolation = "repeatable read" })
      assert.are.equal(3, #drawn)
      assert.are.same(drawn[1], drawn[2])
      assert.are.same(drawn[1], drawn[3])
      assert.are_not.equal(drawn[1][1], drawn[1][4])
      assert.is_truthy(drawn[1][1]:match "^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$")
      assert.is_truthy(drawn[1][2]:match "^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d+Z$")
      assert.is_true(drawn[1][3] >= 0 and drawn[1][3] < 1)
      assert.is_true(drawn[1][5] >= 1 and drawn[1][5] <= 1000000)
    end)

    it("uuids are of version 7, but under a snapshot isolation of version 4", function()
      local function versions(isolation)
        return call(function(tx)
          return { tx:uuid():sub(15, 15), tx:uuid(4):sub(15, 15), tx:uuid(7):sub(15, 15) }
        end, { isolation = isolation })
      end
      assert.are.same({ "7", "4", "7" }, versions "read committed")
      assert.are.same({ "4", "4", "7" }, versions "repeatable read")
      assert.are.same({ "4", "4", "7" }, versions "serializable")
    end)

    it("other calls draw other ones", function()
      local function draw() return call(function(tx) return tx:uuid() .. tx:random() end) end
      assert.are_not.equal(draw(), draw())
    end)

    it("as often as `retries` says, then the failure is the caller's", function()
      local runs = 0
      local e = refusal(function(tx)
        runs = runs + 1
        tx:exec("insert into tx_retry_spec.things (id) values ($1)", runs)
        conflict(tx)
      end, { isolation = "repeatable read", retries = 2 })
      assert.are.equal(3, runs)
      assert.are.equal(3, e.attempts)
      assert.are.equal("SERIALIZATION_FAILURE", e.code)
      assert.are.equal("40001", e.sqlstate)
      assert.are.equal(503, e.status)
      assert.is_true(e.retryable)
      assert.are.equal(0, things())
      inline.everything_is_given_back(schema.owner)
    end)

    it("never with retries = 0", function()
      local runs = 0
      local e = refusal(function(tx)
        runs = runs + 1
        conflict(tx)
      end, { isolation = "repeatable read", retries = 0 })
      assert.are.same({ 1, 1 }, { runs, e.attempts })
    end)

    it("not after an ordinary failure", function()
      local runs = 0
      refusal(function(tx)
        runs = runs + 1
        tx:exec "insert into tx_retry_spec.things (id) values (1), (1)"
      end)
      assert.are.equal(1, runs)
    end)

    it("not for an error that a script dressed up as a serialization failure", function()
      local runs = 0
      local e = refusal(function()
        runs = runs + 1
        moonpool.fail("SERIALIZATION_FAILURE", "pretended",
                      { sqlstate = "40001", retryable = true })
      end)
      assert.are.same({ 1, "pretended" }, { runs, e.message })
    end)

    it("when its connection is cut before COMMIT", function()
      local _, info = moonpool.call_info(define(function(tx)
        tx:exec("insert into tx_retry_spec.things (id) values ($1)", tx.attempt)
        local pid = tx:value "select pg_backend_pid()"
        if tx.attempt == 1 then
          elsewhere(function() test.admin().value("select pg_terminate_backend($1)", pid) end)
          pcall(function() return tx:value "select pg_sleep(10)" end)
        end
      end), {})
      assert.are.same({ 2, 1 }, { info.attempts, info.retries_connection })
      assert.are.equal(
        "2", schema.owner.value "select string_agg(id::text, ',') from tx_retry_spec.things")
    end)

    it("db.transaction as well", function()
      local runs = 0
      db.transaction({ isolation = "repeatable read" }, function(tx)
        runs = runs + 1
        if tx.attempt == 1 then conflict(tx) end
      end)
      assert.are.equal(2, runs)
    end)
  end)

  describe("keeps its deadline", function()
    local function assert_late(e, began)
      assert.are.equal("DEADLINE_EXCEEDED", e.code)
      assert.are.equal(504, e.status)
      assert.is_true(host.clock() - began < 5, "it took too long")
      inline.everything_is_given_back(schema.owner)
      assert.are.equal(0, things())
    end

    it("while a statement runs", function()
      local began = host.clock()
      local seen_by_pcall = false
      local e = refusal(function(tx)
        tx:exec "insert into tx_retry_spec.things (id) values (1)"
        seen_by_pcall = not pcall(function() return tx:value "select pg_sleep(30)" end)
      end, { timeout = 0.2 })
      assert_late(e, began)
      assert.is_false(seen_by_pcall)
    end)

    it("while the script waits for something else", function()
      local began = host.clock()
      local e = refusal(function(tx)
        tx:insert("tx_retry_spec.things", { id = 1 })
        moonpool.sleep(30)
      end, { timeout = 0.2 })
      assert_late(e, began)
    end)

    it("while it waits for a row lock", function()
      local held, release = false, false
      local holder = moonpool.spawn(function()
        return db.transaction(function(tx)
          tx:value "select n from tx_retry_spec.counters where id = 1 for update"
          held = true
          await("the release", function() return release end)
        end)
      end)
      await("the lock", function() return held end)
      local began = host.clock()
      local e = refusal(function(tx)
        tx:exec "insert into tx_retry_spec.things (id) values (1)"
        tx:value "select n from tx_retry_spec.counters where id = 1 for update"
      end, { timeout = 0.2 })
      release = true
      holder:wait()
      assert_late(e, began)
    end)

    it("while it waits for a connection", function()
      with_pool_of(1, function()
        local held, release = false, false
        local holder = moonpool.spawn(function()
          db.lease(function(conn)
            conn.value "select 1"
            held = true
            await("the release", function() return release end)
          end)
        end)
        await("the lease", function() return held end)
        local began, runs = host.clock(), 0
        local e = refusal(function() runs = runs + 1 end, { timeout = 0.2 })
        local waiting = host.pool_stats().waiting_clients
        release = true
        holder:wait()
        assert.are.equal(0, runs)
        assert.are.equal(0, waiting)
        assert_late(e, began)
      end)
    end)

    it("between attempts", function()
      local began = host.clock()
      local e = refusal(function(tx)
        tx:exec("insert into tx_retry_spec.things (id) values ($1)", tx.attempt)
        conflict(tx)
      end, { isolation = "repeatable read", timeout = 0.5, retries = 100 })
      -- It gives up when the next attempt would start too late, with the failure that would have
      -- been retried.
      assert.is_truthy(e.code == "DEADLINE_EXCEEDED" or e.code == "SERIALIZATION_FAILURE", e.code)
      assert.is_true(e.attempts > 1)
      assert.is_true(host.clock() - began < 3)
      inline.everything_is_given_back(schema.owner)
      assert.are.equal(0, things())
    end)

    it("over all attempts together", function()
      local runs, began = 0, host.clock()
      local e = refusal(function(tx)
        runs = runs + 1
        if tx.attempt == 1 then conflict(tx) end
        tx:value "select pg_sleep(30)"
      end, { isolation = "repeatable read", timeout = 0.7 })
      assert.are.equal(2, runs)
      assert.are.equal(2, e.attempts)
      assert_late(e, began)
    end)

    it("of db.transaction", function()
      local began = host.clock()
      local e = failure(db.transaction, { timeout = 0.2 }, function(tx)
        tx:exec "insert into tx_retry_spec.things (id) values (1)"
        tx:value "select pg_sleep(30)"
      end)
      assert_late(e, began)
    end)
  end)

  describe("runs hooks:", function()
    it("after_commit once each, when the work is visible", function()
      local runs, visible, early = 0, nil, nil
      call(function(tx)
        tx:on_rollback(function() runs = runs + 100 end)
        tx:after_commit(function()
          visible = db.value "select count(*) from tx_retry_spec.things"
          runs = runs + 1
        end)
        tx:exec "insert into tx_retry_spec.things (id) values (1)"
        tx:after_commit(function() runs = runs + 10 end)
        tx:value "select 1"
        early = runs
      end)
      await("the hooks", function() return runs >= 11 end)
      db.value "select 1"
      assert.are.same({ 0, 11, 1 }, { early, runs, visible })
    end)

    it("after_commit of the attempt that committed only", function()
      local seen = {}
      call(function(tx)
        local attempt = tx.attempt
        tx:after_commit(function() seen[#seen + 1] = attempt end)
        tx:on_rollback(function() seen[#seen + 1] = "rollback" end)
        if attempt < 3 then conflict(tx) end
      end, { isolation = "repeatable read" })
      await("the hook", function() return #seen > 0 end)
      assert.are.same({ 3 }, seen)
    end)

    it("on_rollback gets the reason, after_commit does not run", function()
      local seen, committed = nil, false
      refusal(function(tx)
        tx:after_commit(function() committed = true end)
        tx:on_rollback(function(e) seen = e end)
        tx:exec "insert into tx_retry_spec.things (id) values (1), (1)"
      end)
      await("the hook", function() return seen end)
      assert.are.equal("23505", seen.sqlstate)
      assert.is_false(committed)
    end)

    it("on_rollback once, after the last attempt", function()
      local seen = {}
      refusal(function(tx)
        tx:on_rollback(function(e) seen[#seen + 1] = e end)
        conflict(tx)
      end, { isolation = "repeatable read", retries = 1 })
      await("the hook", function() return #seen > 0 end)
      assert.are.equal(1, #seen)
      assert.are.equal("40001", seen[1].sqlstate)
      assert.are.equal(2, seen[1].attempts)
    end)

    it("on_rollback of a deadline", function()
      local seen
      refusal(function(tx)
        tx:on_rollback(function(e) seen = e end)
        tx:value "select pg_sleep(30)"
      end, { timeout = 0.2 })
      await("the hook", function() return seen end)
      assert.are.equal("DEADLINE_EXCEEDED", seen.code)
    end)

    it("on_rollback of a COMMIT that failed", function()
      local seen, committed = nil, false
      refusal(function(tx)
        tx:after_commit(function() committed = true end)
        tx:on_rollback(function(e) seen = e end)
        tx:exec "insert into tx_retry_spec.late values (1, 'same'), (2, 'same')"
      end)
      await("the hook", function() return seen end)
      assert.are.equal("23505", seen.sqlstate)
      assert.is_false(committed)
    end)

    it("an error in one is counted and changes nothing", function()
      local before, other = host.transaction_stats().hook_errors, false
      assert.are.equal("fine", call(function(tx)
        tx:after_commit(function() error "a hook that fails on purpose" end)
        tx:after_commit(function() other = true end)
        tx:exec "insert into tx_retry_spec.things (id) values (1)"
        return "fine"
      end))
      await("the hooks", function()
        return other and host.transaction_stats().hook_errors == before + 1
      end)
      assert.are.equal(1, things())
    end)
  end)
end)
