-- Time that runs out: while a statement runs, while a connection is waited for, in a lane, between
-- attempts. The caller hears at once, nothing remains, and the connection is good for the next or
-- gone.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local is         = require "moonpool.is"
local test       = require "moonpool.test"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"

describe("a deadline that passes", function()
  local ours

  before_each(function() ours = dealership.new() end)
  after_each(fault.assert_quiet)

  local function operation(run, more)
    local definition = { input = is.object { dealership_id = is.uuid }, tenant = "dealership_id",
                         timeout = 0.3, run = run }
    for name, value in pairs(more or {}) do definition[name] = value end
    return moonpool.operation(definition)
  end

  local function add(tx, input)
    tx:insert("customers", { id = tx:uuid(), dealership_id = input.dealership_id,
                             first_name = "Late", last_name = "Comer" })
  end

  local function timed(fn)
    local from = moonpool.host.clock()
    local e = failure(fn)
    return e, moonpool.host.clock() - from
  end

  local function assert_late(e, took)
    assert.are.equal("DEADLINE_EXCEEDED", e.code, tostring(e))
    assert.is_nil(rawget(e, "outcome_unknown"))
    assert.truthy(took >= 0.25 and took < 3, took)
    fault.assert_quiet()
    assert.are.equal(0, ours:count("customers"))
    assert.are.equal(0, test.admin().value [[
      select count(*) from pg_stat_activity where state = 'active' and wait_event = 'PgSleep']])
  end

  it("while a statement runs: it is canceled", function()
    assert_late(timed(function()
      moonpool.call(operation(function(tx, input)
        add(tx, input)
        tx:value "select pg_sleep(60)"
      end), { dealership_id = ours.id })
    end))
  end)

  it("while the script waits for something else", function()
    assert_late(timed(function()
      moonpool.call(operation(function(tx, input)
        add(tx, input)
        tx:flush()
        moonpool.sleep(60)
      end), { dealership_id = ours.id })
    end))
  end)

  it("while a row is locked by another", function()
    local vehicle = ours:vehicle()
    local e, took
    ours:transaction(function(tx)
      tx:one("select id from vehicles where dealership_id = $1 and id = $2 for update", ours.id,
             vehicle.id)
      tx:flush()
      moonpool.all { function()
        e, took = timed(function()
          moonpool.call("create_deal",
                        ours:deal_input { customer_data = { first_name = "Late",
                                                            last_name = "Comer" },
                                          vehicle_id = vehicle.id }, { timeout = 0.3 })
        end)
      end }
    end)
    assert_late(e, took)
    assert.are.equal("available", ours:rows("vehicles", { id = vehicle.id })[1].status)
    assert.are.equal(0, ours:count("deal_number_sequences"))
  end)

  it("in the lane, behind another call", function()
    local late, took
    local outside, done = fault.outside()
    local slow = operation(function(tx)
      outside(function()
        late, took = timed(function()
          moonpool.call(operation(add, { lane = "late:$dealership_id" }),
                        { dealership_id = ours.id })
        end)
      end)
      return tx:value "select 1"
    end, { lane = "late:$dealership_id", timeout = 10 })
    assert.are.equal(1, moonpool.call(slow, { dealership_id = ours.id }))
    done()
    assert_late(late, took)
    assert.truthy(late.message:find("lane", 1, true), late.message)
  end)

  describe("while another host holds the lane", function()
    local more = { lane = "held:$dealership_id", isolation = "serializable" }

    local function key_of_lane()
      local key
      local outside, done = fault.outside()
      moonpool.call(operation(function(tx)
        local pid = tx:value "select pg_backend_pid()"
        outside(function()
          key = db.value([[
            select (classid::bigint << 32 | objid::bigint)::text from pg_locks
             where locktype = 'advisory' and granted and pid = $1::int]], pid)
        end)
      end, { lane = more.lane, isolation = more.isolation, timeout = 10 }),
      { dealership_id = ours.id })
      done()
      return assert(key, "the lane takes no lock between hosts")
    end

    local function call_while_held(run)
      local key, e, took = key_of_lane(), nil, nil
      db.lease(function(conn) -- the other host
        conn.value("select pg_advisory_lock($1::bigint)::text", key)
        e, took = timed(function()
          moonpool.call(operation(run, more), { dealership_id = ours.id })
        end)
        conn.value("select pg_advisory_unlock($1::bigint)", key)
      end)
      assert.truthy(took < 3, took)
      fault.assert_quiet()
      return e
    end

    -- Nobody holds it any more, and the lane goes on.
    local function assert_free()
      fault.eventually("the lock is free", function()
        return db.value [[select count(*) = 0 from pg_locks where locktype = 'advisory'
          and database =
                          (select oid from pg_database where datname = current_database())]]
      end)
      local before = ours:count("customers")
      moonpool.call(operation(add, more), { dealership_id = ours.id })
      assert.are.equal(before + 1, ours:count("customers"))
    end

    it("an operation that looks has stored nothing", function()
      local e = call_while_held(function(tx, input)
        add(tx, input)
        tx:flush()
      end)
      assert.are.equal("DEADLINE_EXCEEDED", e.code, tostring(e))
      assert_free()
      assert.are.equal(1, ours:count("customers"))
    end)

    -- The lock is only for speed: when the wait for it is canceled, the work behind it may still be
    -- done.
    it("an operation whose COMMIT travels along hears for certain what became of it", function()
      local key, ok, e = key_of_lane(), nil, nil
      db.lease(function(conn) -- the other host
        conn.value("select pg_advisory_lock($1::bigint)::text", key)
        ok, e = pcall(moonpool.call, operation(add, more), { dealership_id = ours.id })
        conn.value("select pg_advisory_unlock($1::bigint)", key)
      end)
      if not ok then assert.are.equal("DEADLINE_EXCEEDED", e.code, tostring(e)) end
      assert.are.equal(ok and 1 or 0, ours:count("customers"))
      assert_free()
    end)
  end)

  it("for a connection: the waiting call says who has them", function()
    local one = db.open { url = moonpool.host.app_url, max = 1 }
    local e, took
    one.lease(function()
      moonpool.all { function()
        e, took = timed(function()
          one.transaction({ timeout = 0.3 }, function(tx) return tx:value "select 1" end)
        end)
      end }
    end)
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
    assert.truthy(took < 3, took)
    assert.are.equal(1, one.value "select 1")
    one.close()
  end)

  it("while COMMIT waits: it is canceled, and the outcome is known", function()
    local base = test.database { empty = true }
    local own = db.open { url = base.admin_url, max = 2 }
    own.exec "create table notes (id int)"
    own.exec [[create function nap() returns trigger language plpgsql as $$
      begin perform pg_sleep(60); return null; end $$]]
    own.exec [[create constraint trigger nap after insert on notes deferrable initially deferred
      for each row execute
               function nap()]]
    local e, took = timed(function()
      own.transaction({ timeout = 0.3 }, function(tx) tx:exec "insert into notes values (1)" end)
    end)
    assert.are.equal("DEADLINE_EXCEEDED", e.code, tostring(e))
    assert.is_nil(rawget(e, "outcome_unknown"))
    assert.truthy(took < 3, took)
    assert.are.equal(0, own.value "select count(*) from notes")
    own.close()
    base.drop()
  end)

  it("leaves connections that answer their next user and nobody else", function()
    for _ = 1, 5 do
      timed(function()
        moonpool.call(operation(function(tx)
          tx:value "select pg_sleep(60)"
        end, { timeout = 0.02 }), { dealership_id = ours.id })
      end)
      for i = 1, 10 do assert.are.equal(i, db.value("select $1::int", i)) end
    end
  end)
end)
