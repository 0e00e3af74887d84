-- create_deal: what it makes, what it refuses, and that a refusal leaves nothing behind.
local moonpool   = require "moonpool"
local decimal    = require "moonpool.decimal"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"

local function create(input, options)
  return moonpool.call("create_deal", input, options)
end

local function refusal(input, options)
  return failure(create, input, options)
end

local walk_in = { first_name = "Walt", last_name = "Inman" }

describe("create_deal", function()
  local ours

  before_each(function()
    ours = dealership.new()
  end)

  describe("makes", function()
    it("a deal with a new customer and a vehicle", function()
      local vehicle = ours:vehicle { price = "28500.00" }
      local result = create(ours:deal_input {
        customer_data = { first_name = "Nora", last_name = "Quist", email = "nora@example.com",
                          phone = "(207) 555-0142",
                          address = "2 Elm St", city = "Bath", state = "ME", zip_code = "04530",
                          county = "Sagadahoc" },
        vehicle_id = vehicle.id,
      })

      local customer = result.customer
      assert.are.equal("Nora", customer.first_name)
      assert.are.equal("Quist", customer.last_name)
      assert.are.equal("nora@example.com", customer.email)
      assert.are.equal("(207) 555-0142", customer.phone)
      assert.are.equal("2 Elm St", customer.address)
      assert.are.equal("Bath", customer.city)
      assert.are.equal("ME", customer.state)
      assert.are.equal("04530", customer.zip_code)
      assert.are.equal("Sagadahoc", customer.county)

      local deal = result.deal
      assert.are.equal(ours.id, deal.dealership_id)
      assert.are.equal(ours.salesperson.id, deal.salesperson_id)
      assert.are.equal(customer.id, deal.customer_id)
      assert.are.equal(vehicle.id, deal.vehicle_id)
      assert.are.equal(result.scenario.id, deal.active_scenario_id)
      assert.is_not_nil(deal.customer_attached_at)

      assert.are.equal(deal.id, result.scenario.deal_id)
      assert.are.equal(vehicle.id, result.scenario.vehicle_id)
      assert.are.equal(decimal "28500.00", result.scenario.vehicle_price)

      assert.are.equal(vehicle.id, result.vehicle.id)
      assert.are.equal("pending", result.vehicle.status)
    end)

    it("what it says: the rows are in the database", function()
      local vehicle = ours:vehicle()
      local result = create(ours:deal_input { customer_data = walk_in, vehicle_id = vehicle.id })
      local deals = ours:rows("deals")
      assert.are.equal(1, #deals)
      assert.are.equal(result.deal.id, deals[1].id)
      assert.are.equal(result.deal.deal_number, deals[1].deal_number)
      assert.are.equal(
        1, ours:count("deal_scenarios", { id = result.scenario.id, deal_id = result.deal.id }))
      assert.are.equal(1, ours:count("customers", { id = result.customer.id }))
      assert.are.equal("pending", ours:rows("vehicles", { id = vehicle.id })[1].status)
    end)

    it("a deal for a customer it knows", function()
      local customer = ours:customer { first_name = "Known" }
      local result = create(ours:deal_input { customer_id = customer.id })
      assert.are.equal(customer.id, result.deal.customer_id)
      assert.are.equal("Known", result.customer.first_name)
      assert.are.equal(1, ours:count("customers"))
    end)

    it("a deal without a vehicle", function()
      local result = create(ours:deal_input { customer_data = walk_in })
      assert.is_nil(result.vehicle)
      assert.is_nil(result.deal.vehicle_id)
      assert.is_nil(result.scenario.vehicle_id)
      assert.are.equal(decimal "0.00", result.scenario.vehicle_price)
    end)

    it("a deal with a trade-in", function()
      local trade = ours:trade_vehicle()
      local result = create(ours:deal_input { customer_data = walk_in,
                                              trade_vehicle_id = trade.id })
      assert.are.equal(trade.id, result.deal.trade_vehicle_id)
      assert.are.equal(trade.id, result.scenario.trade_vehicle_id)
    end)

    it("a second deal on a vehicle that is pending", function()
      local vehicle = ours:vehicle { status = "pending" }
      local result = create(ours:deal_input { customer_data = walk_in, vehicle_id = vehicle.id })
      assert.are.equal("pending", result.vehicle.status)
      assert.are.equal(0, ours:count("audit_log", { entity_type = "vehicle" }))
    end)

    it("the defaults", function()
      local result = create(ours:deal_input { customer_data = walk_in })
      assert.are.equal("DRAFT", result.deal.deal_state)
      local scenario = result.scenario
      assert.are.equal("Scenario 1", scenario.name)
      assert.are.equal("FINANCE_DEAL", scenario.scenario_type)
      assert.are.equal(60, scenario.term)
      assert.are.equal(decimal "8.9", scenario.apr)
      for _, field in ipairs { "down_payment", "trade_allowance", "trade_payoff", "total_tax",
                               "total_fees",
                               "monthly_payment" } do
        assert.are.equal(decimal "0", scenario[field], field)
      end
      assert.are.same({}, scenario.aftermarket_products)
    end)

    it("the scenario it is given, whole", function()
      local scenario = create(ours:deal_input {
        customer_data = walk_in, initial_state = "IN_PROGRESS",
        scenario_data = { name = "Lease", scenario_type = "LEASE_DEAL", term = 36, apr = "5.25",
                          down_payment = "2000.50",
                          trade_allowance = "6400.00", trade_payoff = "1150.00",
                          total_tax = "1567.50",
                          total_fees = "299.00", monthly_payment = "412.33",
                          aftermarket_products = { { name = "Mats", unitPrice = "89.00" } } },
      }).scenario
      assert.are.equal("Lease", scenario.name)
      assert.are.equal("LEASE_DEAL", scenario.scenario_type)
      assert.are.equal(36, scenario.term)
      assert.are.equal(decimal "5.25", scenario.apr)
      assert.are.equal(decimal "2000.50", scenario.down_payment)
      assert.are.equal(decimal "6400.00", scenario.trade_allowance)
      assert.are.equal(decimal "1150.00", scenario.trade_payoff)
      assert.are.equal(decimal "1567.50", scenario.total_tax)
      assert.are.equal(decimal "299.00", scenario.total_fees)
      assert.are.equal(decimal "412.33", scenario.monthly_payment)
      assert.are.equal("Mats", scenario.aftermarket_products[1].name)
      assert.are.equal("89.00", scenario.aftermarket_products[1].unitPrice)
    end)

    it("the defaults of what a scenario leaves out", function()
      local scenario = create(ours:deal_input { customer_data = walk_in,
                                                scenario_data = { term = 48 } }).scenario
      assert.are.equal(48, scenario.term)
      assert.are.equal("Scenario 1", scenario.name)
      assert.are.equal(decimal "8.9", scenario.apr)
    end)

    for _, state in ipairs { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED", "DELIVERED" } do
      it("a deal in state " .. state, function()
        assert.are.equal(
          state, create(ours:deal_input { customer_data = walk_in,
                                          initial_state = state }).deal.deal_state)
      end)
    end

    it("values of the types that scripts know", function()
      local result = create(ours:deal_input { customer_data = walk_in,
                                              vehicle_id = ours:vehicle().id })
      assert.are.equal("integer", math.type(result.scenario.term))
      assert.are.equal("8.9000", tostring(result.scenario.apr))
      assert.are.equal("28500.00", tostring(result.vehicle.price))
      assert.are.equal("table", type(result.scenario.dealer_fees))
      assert.truthy(result.deal.created_at:match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[.%d]*Z$")
      assert.truthy(
        result.deal.id:match "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%\z
          x%x%x%x%x$")
      assert.is_nil(result.customer.email)
      assert.truthy(tostring(failure(function()
        return result.deal.deal_nummer
      end)):find("deal_number", 1, true))
    end)
  end)

  describe("numbers", function()
    it("are consecutive, from 0001, with the date in front", function()
      for expected = 1, 3 do
        local number = create(ours:deal_input { customer_data = walk_in }).deal.deal_number
        assert.truthy(number:match "^%d%d%d%d%-%d%d%d%d%-%d%d%d%d$", number)
        assert.are.equal(expected, math.tointeger(number:match "%d+$"))
      end
    end)

    it("grow wider after 9999", function()
      ours:transaction(function(tx)
        tx:insert("deal_number_sequences", { dealership_id = ours.id, current_sequence = 9998 })
      end)
      assert.are.equal(
        "9999", create(ours:deal_input { customer_data = walk_in }).deal.deal_number:match "%d+$")
      assert.are.equal("10000",
                       create(
                         ours:deal_input { customer_data = walk_in }).deal.deal_number:match "%d+$")
    end)

    it("are each dealership's own", function()
      local theirs = dealership.new()
      create(ours:deal_input { customer_data = walk_in })
      local number = create(theirs:deal_input { customer_data = walk_in }).deal.deal_number
      assert.are.equal("0001", number:match "%d+$")
    end)

    -- These two never have the same date.
    for _, timezone in ipairs { "Pacific/Kiritimati", "Pacific/Pago_Pago" } do
      it("carry the date in " .. timezone, function()
        local there = dealership.new { timezone = timezone }
        local deal = create(there:deal_input { customer_data = walk_in }).deal
        local date = there:transaction(function(tx)
          return tx:value([[
            select to_char(created_at at time zone $timezone, 'YYYY-MMDD') from deals
             where dealership_id = $dealership_id and id = $id]],
            { timezone = timezone, dealership_id = there.id, id = deal.id })
        end)
        assert.are.equal(date .. "-0001", deal.deal_number)
      end)
    end

    it("are given back by a deal that fails", function()
      local sold = ours:vehicle { status = "sold" }
      create(ours:deal_input { customer_data = walk_in })
      refusal(ours:deal_input { customer_data = walk_in, vehicle_id = sold.id })
      assert.are.equal(
        "0002", create(ours:deal_input { customer_data = walk_in }).deal.deal_number:match "%d+$")
    end)

    it("that are taken already are a domain error", function()
      local first = create(ours:deal_input { customer_data = walk_in }).deal
      ours:transaction(function(tx)
        tx:exec("update deal_number_sequences set current_sequence = 0 where dealership_id = $1",
                ours.id)
      end)
      local e = refusal(ours:deal_input { customer_data = walk_in })
      assert.are.equal("DUPLICATE_DEAL_NUMBER", e.code)
      assert.are.equal(409, e.status)
      assert.are.equal("deals_number_key", e.constraint)
      assert.are.equal(1, ours:count("deals", { deal_number = first.deal_number }))
    end)
  end)

  describe("writes in the audit log", function()
    it("the deal, with actor and number", function()
      local deal = create(ours:deal_input { customer_data = walk_in }).deal
      local entries = ours:rows("audit_log", { entity_type = "deal" })
      assert.are.equal(1, #entries)
      local entry = entries[1]
      assert.are.equal("create", entry.action)
      assert.are.equal(deal.id, entry.entity_id)
      assert.are.equal(deal.id, entry.deal_id)
      assert.are.equal(ours.salesperson.id, entry.user_id)
      assert.are.equal(deal.deal_number, entry.metadata.deal_number)
    end)

    it("who calls, rather than the salesperson", function()
      local manager = ours:user { role = "sales_manager" }
      create(ours:deal_input { customer_data = walk_in }, { tenant = ours.id, as = manager.id })
      for _, entry in ipairs(ours:rows("audit_log")) do
        assert.are.equal(manager.id, entry.user_id)
      end
    end)

    it("a new customer, but not one it knew", function()
      local result = create(ours:deal_input { customer_data = walk_in })
      local entries = ours:rows("audit_log", { entity_type = "customer" })
      assert.are.equal(1, #entries)
      assert.are.equal("create", entries[1].action)
      assert.are.equal(result.customer.id, entries[1].entity_id)
      create(ours:deal_input { customer_id = result.customer.id })
      assert.are.equal(1, ours:count("audit_log", { entity_type = "customer" }))
    end)

    it("the vehicle's change of status", function()
      local vehicle = ours:vehicle()
      local deal = create(ours:deal_input { customer_data = walk_in, vehicle_id = vehicle.id }).deal
      local entries = ours:rows("audit_log", { entity_type = "vehicle" })
      assert.are.equal(1, #entries)
      local entry = entries[1]
      assert.are.equal("update", entry.action)
      assert.are.equal(vehicle.id, entry.entity_id)
      assert.are.equal(deal.id, entry.deal_id)
      assert.are.equal("status", entry.field_name)
      assert.are.equal("available", entry.old_value)
      assert.are.equal("pending", entry.new_value)
    end)
  end)

  describe("refuses", function()
    -- A refusal leaves the dealership as it was.
    local function assert_nothing_left()
      for _, name in ipairs { "deals", "deal_scenarios", "customers", "audit_log",
                              "deal_number_sequences" } do
        assert.are.equal(0, ours:count(name), name)
      end
    end

    local function assert_refused(code, status, message, input, options)
      local e = refusal(input, options)
      assert.are.equal(code, e.code)
      assert.are.equal(status, e.status)
      if message then assert.are.equal(message, e.message) end
      return e
    end

    it("neither customer nor customer data", function()
      assert_refused("VALIDATION_ERROR", 400, "Either customerId or customerData must be provided",
                     ours:deal_input())
      assert_nothing_left()
    end)

    it("both customer and customer data", function()
      assert_refused("VALIDATION_ERROR", 400,
                     "Only one of customerId and customerData may be provided",
                     ours:deal_input { customer_id = moonpool.uuid(), customer_data = walk_in })
      assert_nothing_left()
    end)

    it("an unknown dealership", function()
      local id = moonpool.uuid()
      assert_refused("RESOURCE_NOT_FOUND", 404, "Dealership not found: " .. id,
                     { dealership_id = id, salesperson_id = ours.salesperson.id,
                       customer_data = walk_in })
    end)

    it("another dealership than the caller's", function()
      local theirs = dealership.new()
      assert_refused("MULTI_TENANT_VIOLATION", 403, nil,
                     theirs:deal_input { customer_data = walk_in }, { tenant = ours.id })
      assert.are.equal(0, theirs:count("deals"))
    end)

    -- field, label in the message, factory of a row
    local references = {
      { "salesperson_id", "Salesperson", function(d) return d.salesperson end },
      { "customer_id", "Customer", function(d) return d:customer() end },
      { "vehicle_id", "Vehicle", function(d) return d:vehicle() end },
      { "trade_vehicle_id", "Trade vehicle", function(d) return d:trade_vehicle() end },
    }
    for _, reference in ipairs(references) do
      local field, label, make = table.unpack(reference)

      local function input_with(id)
        local input = ours:deal_input { [field] = id }
        if field ~= "customer_id" then input.customer_data = walk_in end
        return input
      end

      it("an unknown " .. field, function()
        local id = moonpool.uuid()
        assert_refused("RESOURCE_NOT_FOUND", 404, label .. " not found: " .. id, input_with(id))
        assert_nothing_left()
      end)

      it("another dealership's " .. field .. " in the same words", function()
        local id = make(dealership.new()).id
        assert_refused("RESOURCE_NOT_FOUND", 404, label .. " not found: " .. id, input_with(id))
        assert_nothing_left()
      end)
    end

    for _, status in ipairs { "hold", "sold", "in_transit" } do
      it("a vehicle that is " .. status, function()
        local vehicle = ours:vehicle { status = status }
        assert_refused("VEHICLE_NOT_AVAILABLE", 409, "Vehicle is not available: " .. vehicle.id,
                       ours:deal_input { customer_data = walk_in, vehicle_id = vehicle.id })
        assert_nothing_left()
        assert.are.equal(status, ours:rows("vehicles", { id = vehicle.id })[1].status)
      end)
    end

    local invalid = {
      ["no dealership"]           = { dealership_id = false },
      ["no salesperson"]          = { salesperson_id = false },
      ["a malformed uuid"]        = { salesperson_id = "42" },
      ["an unknown state"]        = { initial_state = "LOST" },
      ["an unknown field"]        = { colour = "red" },
      ["a customer unnamed"]      = { customer_data = { first_name = "Walt" } },
      ["an empty name"]           = { customer_data = { first_name = "", last_name = "Inman" } },
      ["a bad e-mail address"]    =
        { customer_data = { first_name = "W", last_name = "I", email = "walt.example.com" } },
      ["a bad phone number"]      =
        { customer_data = { first_name = "W", last_name = "I", phone = "207-555-0100" } },
      ["an unknown scenario type"] = { scenario_data = { scenario_type = "GIFT" } },
      ["a term of no months"]     = { scenario_data = { term = 0 } },
      ["a term of 121 months"]    = { scenario_data = { term = 121 } },
      ["half a month"]            = { scenario_data = { term = 36.5 } },
      ["an apr below zero"]       = { scenario_data = { apr = "-0.1" } },
      ["an apr of 100"]           = { scenario_data = { apr = "100" } },
      ["a negative amount"]       = { scenario_data = { down_payment = "-0.01" } },
      ["an amount too large"]     = { scenario_data = { down_payment = "10000000000.00" } },
      ["an amount that is text"]  = { scenario_data = { total_tax = "much" } },
    }
    for what, fields in pairs(invalid) do
      it(what, function()
        local input = ours:deal_input { customer_data = walk_in }
        for name, value in pairs(fields) do input[name] = value or nil end
        assert_refused("VALIDATION_ERROR", 400, nil, input)
        assert_nothing_left()
      end)
    end
  end)

  describe("costs", function()
    -- A statement's types are asked for once per host, which is not the operation's cost: the
    -- second call counts.
    local function second_call(make_input)
      moonpool.call("create_deal", make_input())
      local _, info = moonpool.call_info("create_deal", make_input())
      return info
    end

    it("two round trips with a new customer and a vehicle", function()
      local info = second_call(function()
        return ours:deal_input { customer_data = walk_in, vehicle_id = ours:vehicle().id }
      end)
      assert.are.equal(2, info.round_trips)
      assert.are.equal(1, info.attempts)
    end)

    it("two round trips with a known customer, a vehicle and a trade-in", function()
      local customer = ours:customer()
      local info = second_call(function()
        return ours:deal_input { customer_id = customer.id, vehicle_id = ours:vehicle().id,
                                 trade_vehicle_id = ours:trade_vehicle().id }
      end)
      assert.are.equal(2, info.round_trips)
    end)

    it("two round trips without a vehicle", function()
      local info = second_call(function() return ours:deal_input { customer_data = walk_in } end)
      assert.are.equal(2, info.round_trips)
    end)
  end)
end)
