-- add_vehicle: what it stores, the number it takes, and what it refuses.
local dealership = require "spec.support.data.dealership"
local decimal    = require "moonpool.decimal"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local moonpool   = require "moonpool"

local VIN = "1HGCM82633A004352"

local function add(input, options)
  return moonpool.call("add_vehicle", input, options).vehicle
end

describe("add_vehicle", function()
  local ours

  before_each(function() ours = dealership.new() end)

  local function input(values)
    local all = { dealership_id = ours.id, user_id = ours.salesperson.id, year = 2026,
                  make = "Honda", model = "Accord",
                  price = "28500.00" }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  local function nothing_left()
    for _, name in ipairs { "vehicles", "audit_log", "dealership_stock_settings" } do
      assert.are.equal(0, ours:count(name), name)
    end
  end

  it("stores what it is given", function()
    local id = add(input { vin = VIN:lower(), year = 2024, trim = "EX-L", condition = "used",
                           mileage = 61800,
                           exterior_color = "Silver", interior_color = "Black", price = "19900.5",
                           msrp = 33990,
                           cost = "15000.00", status = "in_transit" }).id
    local vehicle = ours:rows("vehicles", { id = id })[1]
    assert.are.equal(VIN, vehicle.vin)
    assert.are.equal(2024, vehicle.year)
    assert.are.equal("Honda", vehicle.make)
    assert.are.equal("Accord", vehicle.model)
    assert.are.equal("EX-L", vehicle.trim)
    assert.are.equal("used", vehicle.condition)
    assert.are.equal(61800, vehicle.mileage)
    assert.are.equal("Silver", vehicle.exterior_color)
    assert.are.equal("Black", vehicle.interior_color)
    assert.are.equal(decimal "19900.50", vehicle.price)
    assert.are.equal(decimal "33990.00", vehicle.msrp)
    assert.are.equal(decimal "15000.00", vehicle.cost)
    assert.are.equal("in_transit", vehicle.status)
  end)

  it("has defaults", function()
    local vehicle = add(input())
    assert.are.equal("new", vehicle.condition)
    assert.are.equal("available", vehicle.status)
    assert.are.equal(0, vehicle.mileage)
    assert.is_nil(vehicle.vin)
  end)

  it("gives consecutive stock numbers, and takes back those of vehicles that failed", function()
    assert.truthy(add(input { vin = VIN }).stock_number:match "^STK%-%d%d%d%d%-000001$")
    failure(add, input { vin = VIN })
    assert.truthy(add(input()).stock_number:match "^STK%-%d%d%d%d%-000002$")
  end)

  it("gives each number once, to many at a time", function()
    local calls, seen = {}, {}
    for n = 1, 20 do calls[n] = function() return add(input()).stock_number end end
    for _, number in ipairs(moonpool.all(calls)) do
      seen[math.tointeger(number:match "%d+$")] = true
    end
    for n = 1, 20 do assert.is_true(seen[n], tostring(n)) end
  end)

  it("refuses a VIN that the dealership has, in any case, and lets others have it", function()
    add(input { vin = VIN })
    for _, vin in ipairs { VIN, VIN:lower() } do
      local e = failure(add, input { vin = vin })
      assert.are.equal("VIN_TAKEN", e.code)
      assert.are.equal(409, e.status)
    end
    assert.are.equal(1, ours:count("vehicles"))
    local theirs = dealership.new()
    assert.are.equal(
      VIN, add(input { dealership_id = theirs.id, user_id = theirs.salesperson.id, vin = VIN }).vin)
  end)

  it("refuses a VIN that is wanted twice at once, once", function()
    local taken, refused = 0, 0
    moonpool.all {
      function()
        if pcall(add, input { vin = VIN }) then taken = taken + 1 else refused = refused + 1 end
      end,
      function()
        if pcall(add, input { vin = VIN }) then taken = taken + 1 else refused = refused + 1 end
      end,
    }
    assert.are.same({ 1, 1 }, { taken, refused })
    assert.are.equal(1, ours:count("vehicles"))
  end)

  it("says so when a vehicle bears the next number already", function()
    local number = add(input()).stock_number
    ours:transaction(function(tx)
      tx:exec("update dealership_stock_settings set current_counter = 0 where dealership_id = $1",
              ours.id)
    end)
    local e = failure(add, input())
    assert.are.equal("DUPLICATE_STOCK_NUMBER", e.code)
    assert.are.equal(409, e.status)
    assert.are.equal(1, ours:count("vehicles", { stock_number = number }))
  end)

  it("leaves an audit entry in the name of the user, or of the caller", function()
    local vehicle = add(input())
    local entry = ours:rows("audit_log", { entity_id = vehicle.id })[1]
    assert.are.equal("create", entry.action)
    assert.are.equal("vehicle", entry.entity_type)
    assert.are.equal(ours.salesperson.id, entry.user_id)
    assert.are.equal(vehicle.stock_number, entry.metadata.stock_number)

    local manager = ours:user { role = "sales_manager" }
    local second = add(input(), { tenant = ours.id, as = manager.id })
    assert.are.equal(manager.id, ours:rows("audit_log", { entity_id = second.id })[1].user_id)
  end)

  it("needs somebody who acts", function()
    local all = input()
    all.user_id = nil
    local e = failure(add, all)
    assert.are.equal("VALIDATION_ERROR", e.code)
    assert.are.equal("userId: is required where no caller is known", e.message)
    assert.truthy(add(all, { tenant = ours.id, as = ours.salesperson.id }).id)
  end)

  it("takes two round trips", function()
    add(input())
    local _, info = moonpool.call_info("add_vehicle", input())
    assert.are.equal(2, info.round_trips)
  end)

  it("knows no other dealerships", function()
    local theirs = dealership.new()
    hostile.foreign("add_vehicle", input, "user_id", "User", theirs.salesperson.id)
    local id = moonpool.uuid()
    local e = failure(add, input { dealership_id = id })
    assert.are.equal("Dealership not found: " .. id, e.message)
    assert.are.equal(404, e.status)
    e = failure(add, input { dealership_id = theirs.id }, { tenant = ours.id })
    assert.are.equal("MULTI_TENANT_VIOLATION", e.code)
    assert.are.equal(403, e.status)
    nothing_left()
    assert.are.equal(0, theirs:count("vehicles"))
  end)

  describe("given nonsense", function()
    local function column(name) return function(result) return result.vehicle[name] end end
    hostile.fields("add_vehicle", input, {
      dealership_id  = { "uuid", required = true },
      user_id        = { "uuid" },
      vin            = { "uuid" },
      year           = { "integer", required = true },
      make           = { "text", required = true, max = 100, stored = column "make" },
      model          = { "text", required = true, max = 100, stored = column "model" },
      trim           = { "text", max = 100, stored = column "trim" },
      condition      = { "enum" },
      mileage        = { "integer" },
      exterior_color = { "text", max = 50, stored = column "exterior_color" },
      interior_color = { "text", max = 50, stored = column "interior_color" },
      price          = { "decimal", required = true },
      msrp           = { "decimal" },
      cost           = { "decimal" },
      status         = { "enum" },
    }, { nothing_left = nothing_left })

    for what, values in pairs {
      ["a VIN of 16 characters"]   = { vin = VIN:sub(1, 16) },
      ["a VIN of 18 characters"]   = { vin = VIN .. "1" },
      ["a VIN with an O"]          = { vin = "O" .. VIN:sub(2) },
      ["the year 1899"]            = { year = 1899 },
      ["the year 2101"]            = { year = 2101 },
      ["a blank make"]             = { make = "   " },
      ["a negative mileage"]       = { mileage = -1 },
      ["a mileage past any"]       = { mileage = math.maxinteger },
      ["a negative price"]         = { price = "-0.01" },
      ["a price of half cents"]    = { price = "1.005" },
      ["a price that is too high"] = { price = "10000000000.00" },
      ["a status of deals"]        = { status = "pending" },
      ["a vehicle that is sold"]   = { status = "sold" },
    } do
      it("refuses " .. what, function()
        assert.are.equal("VALIDATION_ERROR", failure(add, input(values)).code)
        nothing_left()
      end)
    end
  end)
end)
