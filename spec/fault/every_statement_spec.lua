-- create_deal, disturbed at each of its calls and statements: an error of the script leaves
-- nothing, a failure that calls for a retry leaves exactly what an undisturbed call leaves.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local is         = require "moonpool.is"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local meddler    = require "spec.support.workload.meddler"

local buyer = { first_name = "Nora", last_name = "Quist" }

describe("create_deal, disturbed at every statement,", function()
  local ours, vehicle, owner

  setup(function()
    owner = db.open { url = moonpool.host.owner_url, max = 1 }
    owner.exec [[
      create or replace function spec_raise(state text) returns int language plpgsql as
      $$ begin raise exception 'injected' using errcode = state; end $$]]
    owner.exec("grant execute on function spec_raise(text) to " .. fault.role())
  end)
  teardown(function()
    owner.exec "drop function if exists spec_raise(text)"
    owner.close()
  end)
  before_each(function()
    ours = dealership.new()
    vehicle = ours:vehicle { price = "28500.00" }
  end)
  after_each(fault.assert_quiet)

  local function input()
    return ours:deal_input { customer_data = buyer, vehicle_id = vehicle.id,
                             trade_vehicle_id = ours:trade_vehicle().id }
  end

  local function count(only_statements)
    local n = meddler.count("create_deal", input(), only_statements)
    ours = dealership.new()
    vehicle = ours:vehicle { price = "28500.00" }
    return n
  end

  local function assert_nothing(what)
    assert.are.same({ customers = 0, deals = 0, deal_scenarios = 0, audit_log = 0,
                      deal_number_sequences = 0 },
                    fault.snapshot(ours), what)
    assert.are.same(vehicle.status, ours:rows("vehicles", { id = vehicle.id })[1].status, what)
  end

  local function assert_whole(what)
    assert.are.same({ customers = 1, deals = 1, deal_scenarios = 1, audit_log = 3,
                      deal_number_sequences = 1 },
                    fault.snapshot(ours), what)
    local _, deals = fault.assert_ledger(ours)
    assert.are.equal(1, deals, what)
    assert.are.equal("pending", ours:rows("vehicles", { id = vehicle.id })[1].status, what)
  end

  -- Without the ids and times that differ from call to call.
  local function essence(result)
    local e = {}
    for _, thing in ipairs { "deal", "scenario", "customer", "vehicle" } do
      for column, value in pairs(result[thing]) do
        local passing = column:find "id$" or column:find "_at$" or column == "stock_number"
        if not passing then
          e[thing .. "." .. column] = type(value) == "table" and moonpool.json.encode(value)
            or tostring(value)
        end
      end
    end
    return e
  end

  it("leaves nothing when its script fails there", function()
    local k = count(false)
    assert.truthy(k >= 12, k)
    for n = 1, k do
      local operation = meddler.operation("create_deal", function(call, _, method)
        if call == n then error("out of order at call " .. n .. ", " .. method) end
      end)
      local e = failure(moonpool.call, operation, input())
      assert.are.equal("SCRIPT_ERROR", e.code)
      assert.truthy(e.message:find("at call " .. n, 1, true), e.message)
      assert.are.equal(1, e.attempts)
      assert_nothing("script error at call " .. n)
    end
    assert.are.equal("0001", moonpool.call("create_deal", input()).deal.deal_number:match "%d+$")
    assert_whole()
  end)

  it("leaves nothing when its script fails there after all before was sent", function()
    for n = 1, count(true) do
      local operation = meddler.operation("create_deal", function(call, tx)
        if call ~= n then return end
        tx:flush()
        error("late at statement " .. n)
      end, true)
      local e = failure(moonpool.call, operation, input())
      assert.are.equal("SCRIPT_ERROR", e.code)
      assert_nothing("script error behind statement " .. n)
    end
  end)

  it("leaves nothing when a statement fails there, even if its error is caught", function()
    for n = 1, count(true) do
      for _, caught in ipairs { false, true } do
        local operation = meddler.operation("create_deal", function(call, tx)
          if call ~= n then return end
          if caught then
            pcall(function() tx:value "select 1/0" end)
          else
            tx:exec "select 1/0"
          end
        end, true)
        local e = failure(moonpool.call, operation, input())
        assert.are.equal("22012", e.sqlstate, tostring(e))
        assert.are.equal(1, e.attempts)
        assert_nothing("failed statement in front of statement " .. n)
      end
    end
  end)

  for _, state in ipairs { "40001", "40P01" } do
    it("gives the undisturbed result after a " .. state, function()
      local expected = essence(moonpool.call("create_deal", input()))
      for n = 1, count(true) do
        ours = dealership.new()
        vehicle = ours:vehicle { price = "28500.00" }
        local operation = meddler.operation("create_deal", function(call, tx)
          if call == n and tx.attempt == 1 then tx:exec("select spec_raise($1)", state) end
        end, true)
        local result, info = moonpool.call_info(operation, input())
        local what = state .. " in front of statement " .. n
        assert.are.equal(2, info.attempts, what)
        assert.are.equal(state == "40001" and 1 or 0, info.retries_serialization, what)
        assert.are.equal(state == "40P01" and 1 or 0, info.retries_deadlock, what)
        assert.are.same(expected, essence(result), what)
        assert_whole(what)
      end
    end)
  end

  it("gives the undisturbed result when the failure comes as the last statement, with COMMIT",
     function()
    local original = require "moonpool.operation.registry".get "create_deal"
    local operation = moonpool.operation {
      input = original.input, tenant = original.tenant, isolation = original.isolation,
      lane = original.lane,
      run = function(tx, given)
        local result = original.run(tx, given)
        if tx.attempt < 3 then tx:exec("select spec_raise($1)", "40001") end
        return result
      end,
    }
    local result, info = moonpool.call_info(operation, input())
    assert.are.equal(3, info.attempts)
    assert.are.equal(2, info.retries_serialization)
    assert.are.equal("0001", result.deal.deal_number:match "%d+$")
    assert_whole()
  end)

  it("never shows a retry to a pcall of the script", function()
    local caught = 0
    local operation = meddler.operation("create_deal", function(call, tx)
      if call ~= 3 or tx.attempt > 1 then return end
      local ok = pcall(function() tx:value("select spec_raise($1)", "40001") end)
      if not ok then caught = caught + 1 end
    end, true)
    local _, info = moonpool.call_info(operation, input())
    assert.are.equal(0, caught)
    assert.are.equal(2, info.attempts)
    assert_whole()
  end)

  it("tells the caller when it happens every time, and leaves nothing", function()
    local runs = 0
    local operation = meddler.operation("create_deal", function(call, tx)
      if call == 1 then runs = runs + 1 end
      if call == 5 then tx:exec("select spec_raise($1)", "40001") end
    end, true)
    local e = failure(moonpool.call, operation, input())
    assert.are.equal("40001", e.sqlstate)
    assert.are.equal(4, e.attempts)
    assert.are.equal(4, runs)
    assert.is_true(e.retryable)
    assert.is_nil(rawget(e, "outcome_unknown"))
    assert_nothing()
  end)

  it("starts again over a real conflict", function()
    local runs = 0
    local outside, done = fault.outside()
    local reader = moonpool.operation {
      input = is.object { dealership_id = is.uuid }, tenant = "dealership_id",
      isolation = "serializable",
      run = function(tx, given)
        runs = runs + 1
        local seen = tx:value("select count(*) from customers where dealership_id = $dealership_id",
                              given)
        if tx.attempt == 1 then -- another does the same and is done first
          outside(function()
            ours.db.transaction({ tenant = ours.id, isolation = "serializable" }, function(other)
              local count_seen = other:value(
                "select count(*) from customers where dealership_id = $1", ours.id)
              other:insert("customers",
                           { id = other:uuid(), dealership_id = ours.id, first_name = "Count",
                             last_name = tostring(count_seen) })
            end)
          end)
        end
        tx:insert("customers", { id = tx:uuid(), dealership_id = given.dealership_id,
                                 first_name = "Count",
                                 last_name = tostring(seen) })
        return { seen = seen }
      end,
    }
    local result, info = moonpool.call_info(reader, { dealership_id = ours.id })
    done()
    assert.are.equal(2, info.attempts)
    assert.are.equal(2, runs)
    assert.are.equal(1, info.retries_serialization)
    assert.are.equal(1, result.seen)
    assert.are.equal(1, ours:count("customers", { last_name = "0" }))
    assert.are.equal(1, ours:count("customers", { last_name = "1" }))
  end)

  it("calls a conflict by one name, whether a statement or COMMIT meets it", function()
    local function meet(write_first)
      return failure(ours.db.transaction,
                     { tenant = ours.id, isolation = "serializable", retries = 0 }, function(tx)
        local function write(via, name)
          via:insert("customers", { id = via:uuid(), dealership_id = ours.id,
                                    first_name = "Conflict", last_name = name })
        end
        tx:value("select count(*) from customers where dealership_id = $1", ours.id)
        if write_first then
          write(tx, "mine")
          tx:flush()
        end
        moonpool.all { function()
          ours.db.transaction({ tenant = ours.id, isolation = "serializable" }, function(other)
            other:value("select count(*) from customers where dealership_id = $1", ours.id)
            write(other, "other")
          end)
        end }
        if not write_first then write(tx, "mine") end
      end)
    end
    local at_commit, at_statement = meet(true), meet(false)
    assert.are.equal("40001", at_commit.sqlstate)
    assert.are.equal("40001", at_statement.sqlstate)
    assert.is_true(at_commit.retryable)
    assert.is_true(at_statement.retryable)
    assert.are.equal(at_statement.code, at_commit.code)
    assert.are.equal(at_statement.status, at_commit.status)
    assert.are.equal(0, ours:count("customers", { last_name = "mine" }))
  end)
end)
