-- The network falls silent: nothing arrives any more, and nobody is told. Calls end all the same,
-- and those who can be told the truth are.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local caller     = require "spec.support.process.caller"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local proxy      = require "spec.support.process.proxy"
local test       = require "moonpool.test"

describe("a network that falls silent", function()
  local wire, host, ours

  setup(function()
    wire = proxy.start()
    host = caller.start(wire:url(moonpool.host.app_url),
                        { DB_POOL_MAX = "2", MOONPOOL_COMMIT_TIMEOUT = "300" })
  end)
  teardown(function()
    wire:watch()
    host:stop()
    wire:stop()
  end)
  before_each(function() ours = dealership.new() end)

  local function create(timeout, ...)
    wire:watch(...)
    return host:call("create_deal",
                     ours:deal_input { customer_data = { first_name = "Sil", last_name = "Ent" } },
      { timeout = timeout })
  end

  local function assert_deals(count)
    -- What the server still holds of the dead connection goes with it.
    wire:watch()
    fault.eventually("no transaction is open", function()
      return test.admin().value([[
        select count(*) = 0 from pg_stat_activity where usename = $1 and xact_start is not null]],
          fault.role())
    end)
    local _, deals = fault.assert_ledger(ours)
    assert.are.equal(count, deals)
  end

  it("behind COMMIT: another connection finds out that it is stored", function()
    create(10)
    ours = dealership.new()
    local answer = create(10, "B commit freeze")
    fault.eventually("the unlock to be answered in vain", function()
      return wire:order "told" ~= "none"
    end)
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert.are.equal(1, answer.info.attempts)
    assert_deals(1)
  end)

  it("in front of COMMIT: another connection finds out that it is not stored, and it is done again",
     function()
    create(10)
    ours = dealership.new()
    local answer = create(10, "F commit freeze")
    fault.eventually("the unlock to be answered in vain", function()
      return wire:order "told" ~= "none"
    end)
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert.are.equal(2, answer.info.attempts)
    assert_deals(1)
  end)

  it(
    "in front of COMMIT, of a call without a witness: its caller hears what did not come, in his \z
      words", function()
    local input = ours:deal_input { customer_data = { first_name = "Sil", last_name = "Ent" } }
    wire:watch()
    host:call("create_deal", input, nil, { witness = false })
    ours = dealership.new()
    input = ours:deal_input { customer_data = { first_name = "Sil", last_name = "Ent" } }
    wire:watch "F commit freeze"
    local e = host:call("create_deal", input, { timeout = 10 }, { witness = false }).error
    assert.are.equal("OUTCOME_UNKNOWN", e.code, moonpool.json.encode(e))
    assert.truthy(e.message:find("the database did not answer COMMIT within 0.3 s", 1, true),
                  e.message)
    assert_deals(0)
  end)

  it("in the middle: the call ends at its deadline, and nothing is stored", function()
    create(10)
    ours = dealership.new()
    local answer = create(1, "F begin3 freeze")
    fault.eventually("the unlock to be answered in vain", function()
      return wire:order "told" ~= "none"
    end)
    assert.is_false(answer.ok)
    assert.are.equal("DEADLINE_EXCEEDED", answer.error.code)
    assert_deals(0)
  end)

  it(
    "behind COMMIT's answer, before the lane's lock is given back: the connection is closed, not \z
      kept for ever", function()
    local alone = caller.start(wire:url(moonpool.host.app_url), { DB_POOL_MAX = "1" })
    local function make()
      return alone:call("create_deal",
                        ours:deal_input { customer_data = { first_name = "Sil",
                                                            last_name = "Ent" } }, nil,
        { isolation = "serializable" })
    end
    make() -- the connection is there and knows all statements
    wire:watch()
    make()
    local unlock
    for _, message in ipairs(wire:list()) do
      -- behind the segment's end
      if message.side == "B" and message.command == "COMMIT" then unlock = message.n + 2 end
    end
    wire:watch(("B %d freeze"):format(unlock))
    assert.is_true(make().ok)
    fault.eventually("the unlock to be answered in vain", function()
      return wire:order "told" ~= "none"
    end)
    local answer = make() -- nothing is told to the network in between
    alone:stop()
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert_deals(4)
  end)

  it("in the middle, and for the cancel, too: the connection is closed all the same", function()
    local alone = caller.start(wire:url(moonpool.host.app_url), { DB_POOL_MAX = "1" })
    local function make(timeout)
      return alone:call("create_deal",
                        ours:deal_input { customer_data = { first_name = "Sil",
                                                            last_name = "Ent" } },
        { timeout = timeout })
    end
    wire:watch()
    make()
    wire:watch "F begin3 freeze"
    wire:order "deaf"
    assert.are.equal("DEADLINE_EXCEEDED", make(0.2).error.code)
    ours = dealership.new() -- what the server still does for the first is in nobody's way
    local answer = make()
    alone:stop() -- nor does a stop wait for the cancel
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert_deals(1)
  end)

  it(
    "in a statement of a kept connection, and for its cancel: what follows on it fails, too, and \z
      the host goes on", function()
    local via = db.open { url = wire:url(moonpool.host.app_url), max = 1 }
    local first, second
    wire:watch()
    via.lease(function(conn)
      conn.value "select 1"
      wire:watch "B 1 freeze"
      wire:order "deaf"
      first = failure(function() conn.value "select 2" end)
      second = failure(function() conn.value "select 3" end)
    end, { timeout = 0.2 })
    assert.are.equal("CONNECTION_LOST", first.code, tostring(first))
    assert.are.equal("CONNECTION_LOST", second.code, tostring(second))
    wire:watch()
    assert.are.equal(4, math.tointeger(via.value "select 4"))
    via.close()
  end)

  it(
    "in the middle: the server's side of it is ended, and its locks with it, long before the \z
      server notices", function()
    local via = db.open { url = wire:url(moonpool.host.app_url), max = 2 }
    wire:watch "B insert freeze"
    local e = failure(function()
      via.transaction({ tenant = ours.id, timeout = 0.2 }, function(tx)
        return tx:insert("customers", { id = tx:uuid(), dealership_id = ours.id, first_name = "Sil",
                                        last_name = "Ent" }).id
      end)
    end)
    assert.are.equal("DEADLINE_EXCEEDED", e.code, tostring(e))
    fault.eventually("no transaction is open", function()
      return test.admin().value([[
        select count(*) = 0 from pg_stat_activity where usename = $1 and xact_start is not null]],
          fault.role())
    end)
    wire:watch()
    via.close()
    assert.are.equal(0, ours:count("customers"))
  end)

  it("is only slow: nothing is lost by waiting", function()
    create(10)
    ours = dealership.new()
    local answer = create(10, "F commit delay 100", "B insert delay 100")
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert.are.equal(1, answer.info.attempts)
    assert_deals(1)
  end)
end)
