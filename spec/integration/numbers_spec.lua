-- generate_deal_number and generate_stock_number: what numbers look like, that no two are alike,
-- and who may take one.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local moonpool   = require "moonpool"

local operations = {
  generate_deal_number = { field = "deal_number", table_name = "deal_number_sequences",
                           counter = "current_sequence",
                           pattern = "^%d%d%d%d%-%d%d%d%d%-%d%d%d%d+$" },
  generate_stock_number = { field = "stock_number", table_name = "dealership_stock_settings",
                            counter = "current_counter",
                            pattern = "^STK%-%d%d%d%d%-%d%d%d%d%d%d+$" },
}

for name, about in pairs(operations) do
  describe(name, function()
    local ours

    before_each(function() ours = dealership.new() end)

    local function input(values)
      local all = { dealership_id = ours.id, user_id = ours.salesperson.id }
      for field, value in pairs(values or {}) do all[field] = value end
      return all
    end

    local function take(values, options)
      return moonpool.call(name, values or input(), options)
    end

    local function nothing_left()
      assert.are.equal(0, ours:count(about.table_name))
      assert.are.equal(0, ours:count "audit_log")
    end

    it("gives consecutive numbers", function()
      for expected = 1, 3 do
        local result = take()
        assert.truthy(result[about.field]:match(about.pattern), result[about.field])
        assert.are.equal(expected, result.sequence)
        assert.are.equal(expected, math.tointeger(result[about.field]:match "%d+$"))
      end
    end)

    it("gives each number once, to many at a time", function()
      local calls, seen = {}, {}
      for n = 1, 20 do calls[n] = function() return take().sequence end end
      for _, sequence in ipairs(moonpool.all(calls)) do seen[sequence] = true end
      assert.are.equal(20, #seen)
    end)

    it("counts for each dealership by itself", function()
      take()
      local theirs = dealership.new()
      assert.are.equal(
        1, take { dealership_id = theirs.id, user_id = theirs.salesperson.id }.sequence)
    end)

    it("gives numbers that grow wider than their padding", function()
      take()
      ours:transaction(function(tx)
        tx:exec(("update %s set %s = 999999 where dealership_id = $1"):format(about.table_name,
          about.counter), ours.id)
      end)
      assert.are.equal("1000000", take()[about.field]:match "%d+$")
    end)

    -- These two never have the same date.
    for _, timezone in ipairs { "Pacific/Kiritimati", "Pacific/Pago_Pago" } do
      it("has the date in " .. timezone, function()
        local there = dealership.new { timezone = timezone }
        local number = take(
          { dealership_id = there.id, user_id = there.salesperson.id })[about.field]
        local date = there:transaction(function(tx)
          return tx:value(
            "select to_char(timestamp at time zone $1, 'YYYY-MMDD') from audit_log where \z
              dealership_id = $2",
                          timezone, there.id)
        end)
        local shown = name == "generate_deal_number" and number:sub(1, 9)
          or number:match "^STK%-(%d+)%-"
        assert.are.equal(date:sub(1, #shown), shown)
      end)
    end

    it("leaves an audit entry, by the user or by the caller", function()
      local result = take()
      local entry = ours:rows("audit_log")[1]
      assert.are.equal("update", entry.action)
      assert.are.equal("dealership", entry.entity_type)
      assert.are.equal(ours.id, entry.entity_id)
      assert.are.equal(about.field, entry.field_name)
      assert.are.equal("0", entry.old_value)
      assert.are.equal("1", entry.new_value)
      assert.are.equal(result[about.field], entry.metadata[about.field])
      assert.are.equal(ours.salesperson.id, entry.user_id)

      local manager = ours:user()
      take({ dealership_id = ours.id }, { tenant = ours.id, as = manager.id })
      assert.are.equal(1, ours:count("audit_log", { user_id = manager.id }))
    end)

    it("needs somebody who acts", function()
      assert.are.equal("userId: is required where no caller is known",
                       failure(take, { dealership_id = ours.id }).message)
      local e = failure(take, { dealership_id = ours.id },
                        { tenant = ours.id, as = moonpool.uuid() })
      assert.are.equal("RESOURCE_NOT_FOUND", e.code)
      nothing_left()
    end)

    it("knows no other dealerships", function()
      local theirs = dealership.new()
      hostile.foreign(name, input, "user_id", "User", theirs.salesperson.id)
      local id = moonpool.uuid()
      assert.are.equal("Dealership not found: " .. id,
                       failure(take, input { dealership_id = id }).message)
      assert.are.equal("MULTI_TENANT_VIOLATION", failure(take, input { dealership_id = theirs.id },
                                                         { tenant = ours.id }).code)
      nothing_left()
      assert.are.equal(0, theirs:count(about.table_name))
    end)

    it("takes two round trips", function()
      take()
      local _, info = moonpool.call_info(name, input())
      assert.are.equal(2, info.round_trips)
    end)

    describe("given nonsense", function()
      hostile.fields(name, input,
                     { dealership_id = { "uuid", required = true }, user_id = { "uuid" } },
                     { nothing_left = nothing_left })
    end)
  end)
end

describe("a stock number", function()
  local ours

  before_each(function() ours = dealership.new() end)

  local function take()
    return moonpool.call("generate_stock_number",
                         { dealership_id = ours.id, user_id = ours.salesperson.id }).stock_number
  end

  local function settings(values)
    ours:transaction(function(tx)
      values.dealership_id = ours.id
      tx:insert("dealership_stock_settings", values)
    end)
  end

  it("looks as the dealership's settings say", function()
    settings { prefix = "HP", use_year_prefix = false, padding_length = 4 }
    assert.are.equal("HP-0001", take())
    assert.are.equal("HP-0002", take())
  end)

  it("goes on where the settings' counter stands", function()
    settings { current_counter = 41 }
    assert.truthy(take():match "^STK%-%d%d%d%d%-000042$")
  end)

  it("is not shorter than itself", function()
    settings { use_year_prefix = false, padding_length = 1, current_counter = 122 }
    assert.are.equal("STK-123", take())
  end)

  it("shares its counter with add_vehicle", function()
    take()
    local vehicle = moonpool.call("add_vehicle", { dealership_id = ours.id,
                                                   user_id = ours.salesperson.id, year = 2026,
                                                   make = "Honda", model = "Accord",
                                                   price = "1.00" }).vehicle
    assert.truthy(vehicle.stock_number:match "%-000002$")
  end)
end)
