-- Isolation: the three levels by what they let a transaction see, read_only and deferrable, and
-- what an operation that joins another's transaction gets of its own.
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local host       = require "moonpool.host"
local inline     = require "spec.support.data.inline"
local moonpool   = require "moonpool"
local scratch    = require "spec.support.data.scratch"
local caller     = require "spec.support.process.caller"
local proxy      = require "spec.support.process.proxy"
local test       = require "moonpool.test"

local call, define, refusal = inline.call, inline.define, inline.refusal

describe("isolation:", function()
  local schema

  setup(function()
    schema = scratch.schema("isolation_spec",
                            { "create table isolation_spec.things (id int primary key, n int not \z
                              null)" })
  end)
  teardown(function() schema.drop() end)
  before_each(function()
    schema.owner.exec "truncate isolation_spec.things"
    schema.owner.exec "insert into isolation_spec.things values (1, 0), (2, 0)"
  end)
  after_each(test.calm)

  local function change()
    schema.owner.exec "update isolation_spec.things set n = n + 1 where id = 1"
  end
  local function look(tx) return tx:value "select n from isolation_spec.things where id = 1" end

  describe("what another transaction commits", function()
    local function seen(level, more)
      local fields = { isolation = level }
      for name, value in pairs(more or {}) do fields[name] = value end
      return call(function(tx)
        local before = look(tx)
        scratch.elsewhere(change)
        return { before, look(tx) }
      end, fields)
    end

    it("is seen at once by read committed, which is the default", function()
      assert.are.same({ 0, 1 }, seen "read committed")
      assert.are.same({ 1, 2 }, seen(nil))
    end)

    it("is not seen by repeatable read and serializable", function()
      assert.are.same({ 0, 0 }, seen "repeatable read")
      assert.are.same({ 1, 1 }, seen "serializable")
      assert.are.same({ 2, 2 }, seen("serializable", { read_only = true, deferrable = true }))
    end)
  end)

  -- Two that read both rows and change one each: write skew.
  local function skew(level)
    local inside = 0
    local function one(id)
      return function()
        return (select(2, moonpool.call_info(define(function(tx)
          local sum = tx:value "select sum(n) from isolation_spec.things"
          if tx.attempt == 1 then
            inside = inside + 1
            scratch.await("the other", function() return inside == 2 end)
          end
          tx:exec("update isolation_spec.things set n = $2 + 1 where id = $1", id, sum)
        end, { isolation = level }, "skew"), {})))
      end
    end
    local infos = moonpool.all { one(1), one(2) }
    return infos[1].attempts + infos[2].attempts,
      schema.owner.value "select sum(n) from isolation_spec.things"
  end

  it("write skew passes repeatable read, and serializable does one of the two again", function()
    assert.are.same({ 2, 2 }, { skew "repeatable read" })
    schema.owner.exec "update isolation_spec.things set n = 0"
    assert.are.same({ 3, 3 }, { skew "serializable" })
  end)

  describe("read_only", function()
    local function write(tx)
      return tx:exec "update isolation_spec.things set n = 9 where id = 1"
    end

    it("refuses a write wherever it is sent, COMMIT's segment too", function()
      for _, level in ipairs { "read committed", "repeatable read", "serializable" } do
        assert.are.equal("25006", refusal(write, { read_only = true, isolation = level }).sqlstate)
        assert.are.equal("25006", refusal(function(tx)
          write(tx)
          return look(tx)
        end, { read_only = true, isolation = level }).sqlstate)
        assert.are.equal("25006", failure(db.transaction, { read_only = true, isolation = level },
                                          write).sqlstate)
      end
      assert.are.equal("25006", refusal(function(tx)
        return
          tx:value "with w as (update isolation_spec.things set n = 9 returning n) select max(n) \z
            from w"
      end, { read_only = true }).sqlstate)
    end)

    it("refuses tx:publish", function()
      assert.are.equal("25006", refusal(function(tx)
        tx:publish("topic", {})
      end, { read_only = true }).sqlstate)
    end)

    it("is done again when its connection ends, at each statement and at COMMIT", function()
      for _, at in ipairs { 1, 2, 3, "commit" } do
        test.fail_next { sqlstate = "57P01", at = at, times = 2 }
        local result, info = moonpool.call_info(define(function(tx)
          local n = look(tx)
          tx:exec "select 1"
          return n + tx:value "select 1"
        end, { read_only = true }), {})
        assert.are.same({ 1, 3, 2, false },
                        { result, info.attempts, info.retries_connection, info.resolved })
        assert.are.equal(2, test.failures())
      end
    end)

    it("is done again whatever message of its connection is the last", function()
      local wire = proxy.start()
      local other = caller.start(wire:url(host.app_url), { DB_POOL_MAX = "1" })
      local ours = dealership.new()
      local made = moonpool.call("create_deal",
                                 ours:deal_input { customer_data = { first_name = "Rea",
                                   last_name = "Der" } })
      local input = { dealership_id = ours.id, deal_id = made.deal.id }
      local function read(at)
        local answer = other:call("get_deal", input)
        assert.is_true(answer.ok, ("%s: %s"):format(at or "no fault", moonpool.json.encode(answer)))
        assert.are.equal(made.deal.id, answer.result.deal.id)
        return answer.info
      end
      read()
      read()
      wire:watch()
      read()
      local messages = wire:list()
      local cuts, again = 0, 0
      local actions = { "cut before", "cut within 1", "cut after" }
      for i, message in ipairs(messages) do
        read() -- what the new connection has not seen is prepared
        local at = ("%s %d %s"):format(message.side, message.n, actions[i % 3 + 1])
        wire:watch(at)
        local info = read(at)
        if wire:order "told" ~= "none" then cuts = cuts + 1 end
        again = again + info.attempts - 1
        assert.is_true(info.attempts <= 2, at)
      end
      assert.is_true(#messages > 10 and cuts >= #messages - 2,
                     ("%d cuts, %d messages"):format(cuts, #messages))
      -- what was cut behind COMMIT
      assert.is_true(again >= cuts - 3, ("%d cuts, %d done again"):format(cuts, again))
      other:stop()
      wire:stop()
    end)

    it("is not done again for a failure of its own", function()
      assert.are.equal(1, refusal(function(tx)
        return tx:value "select 1 / 0"
      end, { read_only = true }).attempts)
    end)
  end)

  describe("deferrable", function()
    local function safe(tx)
      return { tx:value "select current_setting('transaction_deferrable')",
               tx:value "select current_setting('transaction_read_only')" }
    end

    it("goes with serializable and read_only", function()
      local fields = { isolation = "serializable", read_only = true, deferrable = true }
      assert.are.same({ "on", "on" }, call(safe, fields))
      assert.are.same({ "on", "on" }, db.transaction(fields, safe))
    end)

    it("is refused without them, where it would do nothing", function()
      for _, fields in ipairs { {}, { read_only = true }, { isolation = "serializable" } } do
        fields.deferrable = true
        inline.contains(failure(db.transaction, fields, safe), "deferrable needs")
        inline.contains(failure(define, safe, fields), "`deferrable` needs")
      end
    end)

    it("waits for a snapshot that no writer can spoil", function()
      local release, waiting = false, nil
      local writer = moonpool.spawn(function()
        db.transaction({ isolation = "serializable" }, function(tx)
          look(tx)
          tx:exec "update isolation_spec.things set n = 5 where id = 1"
          tx:flush()
          scratch.await("the release", function() return release end)
        end)
      end)
      scratch.await("the writer", function()
        return test.admin().value "select count(*) > 0 from pg_locks where mode = 'SIReadLock'"
      end)
      local reader = moonpool.spawn(function()
        return call(look, { isolation = "serializable", read_only = true, deferrable = true })
      end)
      fault.eventually("the reader waits", function()
        waiting =
          test.admin().value "select count(*) from pg_stat_activity where wait_event = \z
            'SafeSnapshot'"
        return waiting == 1
      end)
      release = true
      writer:wait()
      assert.is_truthy(({ [0] = true, [5] = true })[reader:wait()])
    end)
  end)

  describe("an operation that joins another's transaction", function()
    local function insert(tx) tx:exec "insert into isolation_spec.things values (3, 3)" end
    local function things()
      return
        schema.owner.value "select string_agg(id::text, ',' order by id) from isolation_spec.things"
    end

    it("sees what that has done, at that one's isolation", function()
      local inner = define(function(tx) return { look(tx), tx.isolation } end)
      assert.are.same({ 7, "serializable" }, call(function(tx)
        tx:exec "update isolation_spec.things set n = 7 where id = 1"
        return moonpool.call(inner, {})
      end, { isolation = "serializable" }))
    end)

    it("needs an isolation that is as high as its own", function()
      local levels = { "read committed", "repeatable read", "serializable" }
      for outer = 1, 3 do
        for inner = 1, 3 do
          local joined = define(function() return "joined" end, { isolation = levels[inner] })
          local function join()
            return call(function()
              return moonpool.call(joined, {})
            end, { isolation = levels[outer] })
          end
          if inner <= outer then
            assert.are.equal("joined", join())
          else
            local e = failure(join)
            assert.are.equal("INVALID_ARGUMENT", e.code)
            inline.contains(e.message, levels[inner], levels[outer])
          end
        end
      end
    end)

    it("cannot write if it says that it only reads, and its caller still can", function()
      local inner = define(insert, { read_only = true })
      local reads = define(look, { read_only = true })
      call(function(tx)
        assert.are.equal(0, moonpool.call(reads, {}))
        tx:exec "insert into isolation_spec.things values (4, 4)"
        assert.are.equal("25006", failure(moonpool.call, inner, {}).sqlstate)
        tx:exec "insert into isolation_spec.things values (5, 5)"
      end)
      assert.are.equal("1,2,4,5", things())
    end)

    it("nor can what it calls itself", function()
      local write = define(insert)
      local e = refusal(function()
        moonpool.call(define(function() moonpool.call(write, {}) end, { read_only = true }), {})
      end)
      assert.are.equal("25006", e.sqlstate)
      assert.are.equal("1,2", things())
    end)

    it("cannot write where its caller only reads", function()
      assert.are.equal("25006", refusal(function()
        moonpool.call(define(insert), {})
      end, { read_only = true }).sqlstate)
    end)

    it("keeps its connection in the pool", function()
      inline.with_pool_of(1, function()
        db.value "select 1"
        local before = host.pool_stats().connects
        for _ = 1, 3 do
          call(function()
            moonpool.call(define(look, { read_only = true }), {})
            pcall(moonpool.call, define(function() error "on purpose" end), {})
          end)
        end
        assert.are.equal(before, host.pool_stats().connects)
      end)
    end)
  end)
end)
