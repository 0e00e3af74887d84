-- What bounds a transaction: timeouts of its own that nobody else meets, the host's deadline for
-- COMMIT, protection from transactions that idle, the budget for retries; and what the error tells
-- of the attempts.
local caller     = require "spec.support.process.caller"
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local inline     = require "spec.support.data.inline"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local scratch    = require "spec.support.data.scratch"
local test       = require "moonpool.test"

local call, define, refusal = inline.call, inline.define, inline.refusal

describe("a transaction is bounded by", function()
  local schema

  setup(function()
    schema = scratch.schema("bounds_spec", {
      "create table bounds_spec.things (id int primary key, n int)",
      "insert into bounds_spec.things values (1, 0)",
    })
  end)
  teardown(function() schema.drop() end)
  after_each(test.calm)

  describe("statement_timeout and lock_timeout,", function()
    local function settings(tx)
      return { tx:value "select current_setting('statement_timeout')",
               tx:value "select current_setting('lock_timeout')" }
    end

    local function of_session()
      return { db.value "show statement_timeout", db.value "show lock_timeout" }
    end

    it("which hold for its connection no longer than it lasts", function()
      inline.with_pool_of(1, function()
        local before = of_session()
        local fields = { statement_timeout = 7.5, lock_timeout = 2 }
        assert.are.same({ "7500ms", "2s" }, call(settings, fields))
        assert.are.same(before, of_session())
        assert.are.same(before, call(settings))
        refusal(function(tx) tx:value "select 1 / 0" end, fields)
        assert.are.same(before, of_session())
        test.fail_next { sqlstate = "40001", at = 2 }
        assert.are.same({ "7500ms", "2s" }, call(settings, fields))
        assert.are.same(before, call(settings))
      end)
    end)

    it("of less than a millisecond are one", function()
      assert.are.equal("1ms", call(function(tx)
        return tx:value "select current_setting('lock_timeout')"
      end, { lock_timeout = 0.0001 }))
    end)

    it("the first of which ends a statement that runs too long", function()
      local e = refusal(function(tx)
        tx:value "select pg_sleep(30)"
      end, { statement_timeout = 0.05 })
      assert.are.equal("57014", e.sqlstate)
      assert.are.equal(1, e.attempts)
      inline.contains(e.line, "bounds_spec.lua")
    end)

    it("the second a wait for a lock", function()
      local held, release = false, false
      local holder = moonpool.spawn(function()
        db.transaction(function(tx)
          tx:value "select n from bounds_spec.things where id = 1 for update"
          held = true
          scratch.await("the release", function() return release end)
        end)
      end)
      scratch.await("the lock", function() return held end)
      local e = refusal(function(tx)
        tx:value "update bounds_spec.things set n = n + 1 where id = 1 returning n"
      end,
        { lock_timeout = 0.05 })
      release = true
      holder:wait()
      assert.are.equal("55P03", e.sqlstate)
      assert.are.equal(1, e.attempts)
    end)
  end)

  describe("the deadline for COMMIT", function()
    local database, owner, host, ours

    setup(function()
      database = test.database()
      owner = db.open { url = database.owner_url, max = 1 }
      local admin = db.open { url = database.admin_url, max = 1 }
      admin.exec "create sequence naps"
      admin.exec "grant usage on sequence naps to moonpool_app"
      -- Sleeps in the first COMMIT; what a sequence gave does not come back.
      admin.exec [[create function nap() returns trigger language plpgsql as
                   $$ begin if nextval('naps') = 1 then perform pg_sleep(600); end if;
                     return null; end $$]]
      admin.exec [[create constraint trigger nap after insert on deals deferrable initially deferred
                   for each row execute function nap()]]
      admin.close()
      test.on(database, function(own) ours = dealership.new { db = own } end)
      host = caller.start(database.app_url, { MOONPOOL_COMMIT_TIMEOUT = "200" })
    end)
    teardown(function()
      host:stop()
      owner.close()
      database.drop()
    end)

    it("ends the connection that is at it; another finds out that nothing was stored, and does it",
       function()
      local answer = host:call("create_deal",
                               ours:deal_input { customer_data = { first_name = "Slow",
                                 last_name = "End" } },
        { timeout = 60 })
      assert.is_true(answer.ok, json.encode(answer))
      assert.are.equal(2, answer.info.attempts)
      assert.is_true(answer.info.resolved)
      fault.eventually("the first backend is gone", function()
        return test.admin().value([[
          select count(*) = 0 from pg_stat_activity where datname = $1 and wait_event = 'PgSleep']],
            database.name)
      end)
      test.on(database, function(own)
        ours.db = own
        assert.are.equal(1, ours:count "deals")
        assert.are.equal(1, ours:count "deal_scenarios")
      end)
    end)
  end)

  describe("what ends transactions that idle:", function()
    it("each session's own setting, should the host itself stand still", function()
      assert.are.equal("1min", call(function(tx)
        return tx:value "select current_setting('idle_in_transaction_session_timeout')"
      end))
    end)

    it("the server, and the host does the work again on another connection", function()
      local attempts = db.transaction(function(tx)
        tx:exec "set local idle_in_transaction_session_timeout = '50ms'"
        local pid = tx:value "select pg_backend_pid()"
        if tx.attempt == 1 then
          scratch.elsewhere(function()
            fault.eventually("the backend is ended", function()
              return test.admin().value("select count(*) = 0 from pg_stat_activity where pid = $1",
                                        pid)
            end)
          end)
        end
        tx:value "select 1"
        return tx.attempt
      end)
      assert.are.equal(2, attempts)
    end)

    it("the host's deadline, which a script that waits meets first", function()
      local e = refusal(function(tx)
        tx:value "select n from bounds_spec.things where id = 1 for update"
        moonpool.sleep(30)
      end, { timeout = 0.1 })
      assert.are.equal("DEADLINE_EXCEEDED", e.code)
      inline.everything_is_given_back(schema.owner)
    end)
  end)

  describe("the host's budget for retries", function()
    -- `calls` at once, each of which always fails with 57P03; then one alone.
    local function storm(budget, calls, retries)
      local output, code = scratch.script(([[
        local moonpool = require "moonpool"
        local op = moonpool.operation { retries = %d, timeout = 300,
          run = function(tx) tx:value "select moonpool_fault.raise('57P03')" end }
        local function attempt()
          local _, e = pcall(moonpool.call, op, {})
          return { attempts = e.attempts, message = e.message, code = e.code, sqlstate = e.sqlstate,
            status = e.status,
                   retryable = e.retryable }
        end
        local all = {}
        for i = 1, %d do all[i] = attempt end
        local ends = moonpool.all(all)
        ends[#ends + 1] = attempt()
        local refused = require "moonpool.metrics".transactions().refused_retries
        print(moonpool.json.encode { ends = ends, refused = refused })]]):format(retries, calls),
        { MOONPOOL_RETRY_BUDGET = tostring(budget), MOONPOOL_LOG_LEVEL = "error",
          DB_POOL_MAX = "5" })
      assert.are.equal(0, code, output)
      local told = json.decode(output)
      return told.ends, told.refused
    end

    local function attempts_of(ends)
      local sum = 0
      for _, e in ipairs(ends) do sum = sum + e.attempts end
      return sum
    end

    it("when it is used up, failures are told at once and say so", function()
      local ends, refused = storm(1, 250, 100)
      local last = ends[#ends]
      assert.is_true(refused >= 200 and refused <= #ends, tostring(refused))
      assert.are.equal(1, last.attempts)
      assert.are.equal("NO_DATABASE", last.code)
      assert.are.equal("57P03", last.sqlstate)
      assert.are.equal(503, last.status)
      assert.is_true(last.retryable)
      inline.contains(last.message,
                      "because the operation's budget for retries is used up", "injected")
      -- 100 in reserve, and one for each hundred calls
      local retried = attempts_of(ends) - #ends
      assert.is_true(retried >= 100 and retried <= 103, tostring(retried))
    end)

    it("is each tenant's own, for each operation; all together have the host's", function()
      local output, code = scratch.script([[
        local moonpool = require "moonpool"
        local definition = require "moonpool.operation.definition"
        local function failing(name)
          local op = moonpool.operation { retries = 1, timeout = 300,
            run = function(tx) tx:value "select moonpool_fault.raise('57P03')" end }
          definition.of(op).name = name
          return op
        end
        local function attempts(op, tenant)
          local _, e = pcall(moonpool.call, op, {}, { tenant = tenant, as = "u" })
          return e.attempts, e.message
        end
        local function exhaust(op, tenant)
          local calls = {}
          for i = 1, 120 do calls[i] = function() attempts(op, tenant) end end
          moonpool.all(calls)
          return (attempts(op, tenant))
        end
        local one, two = failing "one", failing "two"
        local a, b = moonpool.uuid(), moonpool.uuid()
        local told = { exhaust(one, a), (attempts(one, b)), (attempts(two, a)) }
        for i = 1, 15 do exhaust(one, moonpool.uuid()) end
        local n, message = attempts(one, moonpool.uuid())
        told[4], told[5] = n, message
        print(moonpool.json.encode(told))]],
        { MOONPOOL_RETRY_BUDGET = "1", MOONPOOL_LOG_LEVEL = "error", DB_POOL_MAX = "10" })
      assert.are.equal(0, code, output)
      local told = json.decode(output)
      assert.are.same({ 1, 2, 2, 1 }, { told[1], told[2], told[3], told[4] })
      inline.contains(told[5], "the host's budget for retries is used up")
    end)

    it("is not drawn on by conflicts: each has all its attempts", function()
      local output, code = scratch.script([[
        local moonpool = require "moonpool"
        local op = moonpool.operation { retries = 2, timeout = 300,
          run = function(tx) tx:value "select moonpool_fault.raise('40001')" end }
        local sum, calls = 0, {}
        for i = 1, 120 do
          calls[i] = function()
            local _, e = pcall(moonpool.call, op, {})
            sum = sum + e.attempts
          end
        end
        moonpool.all(calls)
        print(sum)]], { MOONPOOL_RETRY_BUDGET = "1", MOONPOOL_LOG_LEVEL = "error",
          DB_POOL_MAX = "5" })
      assert.are.equal(0, code, output)
      assert.are.equal(3 * 120, tonumber(output))
    end)

    it("0 is none: each call has all its attempts", function()
      assert.are.equal(4 * 3, attempts_of(storm(0, 3, 2)))
    end)
  end)
end)

describe("the error of a transaction tells", function()
  after_each(test.calm)

  local function attempt(fields) return define(function(tx) tx:exec "select 1" end, fields) end

  it("how many attempts there were, why they failed and what was waited", function()
    test.fail_next { sqlstate = "40001", at = 1, times = 10 }
    local e = failure(moonpool.call, attempt { retries = 2 }, {})
    assert.are.equal(3, e.attempts)
    assert.are.equal(3, #e.retries)
    for i, retry in ipairs(e.retries) do
      assert.are.equal("40001", retry.reason)
      assert.is_true(retry.delay_ms >= 0 and retry.delay_ms <= 100 * 2 ^ (i - 1),
                     tostring(retry.delay_ms))
    end
    assert.are.equal(0, e.retries[3].delay_ms)
  end)

  it("the reason of each, also of a connection that was lost", function()
    test.fail_next { sqlstate = "57P01", at = 1, times = 10 }
    local e = failure(moonpool.call, attempt { retries = 1 }, {})
    assert.are.equal("CONNECTION_LOST", e.code)
    assert.are.equal(2, e.attempts)
    assert.are.equal(2, #e.retries)
    for _, retry in ipairs(e.retries) do
      assert.is_truthy(retry.reason == "57P01" or retry.reason == "CONNECTION_LOST", retry.reason)
    end
  end)

  it("nothing of retries where there was one attempt", function()
    test.fail_next { sqlstate = "23514", at = 1 }
    local e = failure(moonpool.call, attempt(), {})
    assert.are.equal(1, e.attempts)
    assert.is_nil(rawget(e, "retries"))
  end)
end)
