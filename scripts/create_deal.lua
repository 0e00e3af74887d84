-- Creates a deal: the customer (new or known), the vehicle reserved, the number, the first
-- scenario, the audit entries. Two round trips: everything that can be asked before something must
-- be known, then everything that is written.
local moonpool  = require "moonpool"
local decimal   = require "moonpool.decimal"
local is        = require "moonpool.is"
local audit     = require "lib.audit"
local numbering = require "lib.numbering"
local scenarios = require "lib.scenario"

local customer_data = is.object {
  first_name = is.string:min(1):max(100):pattern("%S", "text that is not blank"),
  last_name  = is.string:min(1):max(100):pattern("%S", "text that is not blank"),
  email      = is.email:optional(),
  phone      = is.string:pattern("^[(][0-9][0-9][0-9][)] [0-9][0-9][0-9][-][0-9][0-9][0-9][0-9]$")
    :optional(),
  address    = is.string:max(200):optional(),
  city       = is.string:max(100):optional(),
  state      = is.string:max(50):optional(),
  zip_code   = is.string:max(20):optional(),
  county     = is.string:max(100):optional(),
}

local sellable = { available = true, pending = true }

return moonpool.operation {
  summary = "Create a deal with its customer, number, default scenario and audit entry",

  input = is.object {
    dealership_id    = is.uuid,
    salesperson_id   = is.uuid,
    customer_id      = is.uuid:optional(),
    customer_data    = customer_data:optional(),
    vehicle_id       = is.uuid:optional(),
    trade_vehicle_id = is.uuid:optional(),
    scenario_data    = scenarios.data:default({}),
    initial_state    = is.enum { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED",
                                 "DELIVERED" }:default("DRAFT"),
  },
  output = is.object { deal = is.row:of "deals", scenario = is.row:of "deal_scenarios",
                       customer = is.row:of "customers",
                       vehicle = is.row:of("vehicles"):optional() },

  tenant    = "dealership_id",
  actor     = "salesperson_id",
  isolation = "serializable",
  timeout   = 10,
  -- dealerships share index pages: on small tables their snapshots collide now and then
  retries   = 10,
  lane      = "deal_number:$dealership_id",
  errors    = { deals_number_key = { "DUPLICATE_DEAL_NUMBER", 409 } },

  round_trips = 2, -- with more, specs fail

  run = function(tx, input)
    if (input.customer_id == nil) == (input.customer_data == nil) then
      moonpool.fail("VALIDATION_ERROR",
                    input.customer_id and "Only one of customerId and customerData may be provided"
                                        or "Either customerId or customerData must be provided",
                                        { status = 400 })
    end
    local deal_id, scenario_id = tx:uuid(), tx:uuid()
    local customer_id = input.customer_id or tx:uuid()

    -- Round trip 1: queued here, sent by the first look below.
    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    tx:one("select id from users where dealership_id = $dealership_id and id = $salesperson_id",
           input,
           "Salesperson not found: $salesperson_id")
    local customer
    if input.customer_id then
      customer = tx:one(
        "select * from customers where dealership_id = $dealership_id and id = $customer_id", input,
                        "Customer not found: $customer_id")
    else
      local data = input.customer_data
      customer = tx:insert("customers", {
        id            = customer_id,
        dealership_id = input.dealership_id,
        first_name    = data.first_name,
        last_name     = data.last_name,
        email         = data.email,
        phone         = data.phone,
        address       = data.address,
        city          = data.city,
        state         = data.state,
        zip_code      = data.zip_code,
        county        = data.county,
      })
    end
    if input.trade_vehicle_id then
      tx:one(
        "select id from trade_vehicles where dealership_id = $dealership_id and id = \z
          $trade_vehicle_id", input,
             "Trade vehicle not found: $trade_vehicle_id")
    end
    -- The vehicle is locked and reserved at once, and judged by what it was before: a failure
    -- undoes the reservation.
    local before, vehicle
    if input.vehicle_id then
      before = tx:one(
        "select status from vehicles where dealership_id = $dealership_id and id = $vehicle_id \z
          for update", input,
                      "Vehicle not found: $vehicle_id")
      vehicle = tx:one([[
        update vehicles set status = 'pending', updated_at = now()
         where dealership_id = $dealership_id and id = $vehicle_id returning *]], input,
           "Vehicle not found: $vehicle_id")
    end
    local number = numbering.next_deal_number(tx, input)

    if before and not sellable[before.status] then
      moonpool.fail("VEHICLE_NOT_AVAILABLE", "Vehicle is not available: " .. input.vehicle_id,
                    { status = 409 })
    end

    -- Round trip 2: nothing below is looked at, so it all travels with COMMIT.
    local deal = tx:insert("deals", {
      id                   = deal_id,
      dealership_id        = input.dealership_id,
      deal_number          = number.text,
      deal_state           = input.initial_state,
      salesperson_id       = input.salesperson_id,
      customer_id          = customer_id,
      customer_attached_at = tx:now(),
      vehicle_id           = input.vehicle_id,
      trade_vehicle_id     = input.trade_vehicle_id,
      active_scenario_id   = scenario_id,
    })
    local data = input.scenario_data
    data.vehicle_price = vehicle and vehicle.price or decimal "0.00"
    local amounts = scenarios.compute(data)
    local scenario = tx:insert("deal_scenarios", {
      id                   = scenario_id,
      dealership_id        = input.dealership_id,
      deal_id              = deal_id,
      name                 = data.name,
      scenario_type        = data.scenario_type,
      vehicle_id           = input.vehicle_id,
      trade_vehicle_id     = input.trade_vehicle_id,
      vehicle_price        = data.vehicle_price,
      term                 = data.term,
      apr                  = data.apr,
      down_payment         = data.down_payment,
      trade_allowance      = data.trade_allowance,
      trade_payoff         = data.trade_payoff,
      total_tax            = data.total_tax,
      total_fees           = data.total_fees,
      amount_financed      = amounts.amount_financed,
      monthly_payment      = amounts.monthly_payment,
      total_cost           = amounts.total_cost,
      cash_due_at_signing  = amounts.cash_due_at_signing,
      aftermarket_products = data.aftermarket_products,
    })

    local actor = input.salesperson_id
    audit.created(tx, "deal", deal_id,
                  { actor = actor, deal_id = deal_id, metadata = { deal_number = number.text } })
    if input.customer_data then
      audit.created(tx, "customer", customer_id, { actor = actor, deal_id = deal_id })
    end
    if before and before.status ~= "pending" then
      audit.changed(tx, "vehicle", input.vehicle_id, { actor = actor, deal_id = deal_id,
        field_name = "status", old_value = before.status, new_value = "pending" })
    end

    return { deal = deal, scenario = scenario, customer = customer, vehicle = vehicle }
  end,
}
