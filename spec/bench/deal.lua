-- The deal workload as an operation of the host, on the tables of schema.sql: the peer `moonpool`.
--   moonpool bench deal --db URL [--clients 20] [--conns 20] [--seconds 4] [--warmup 1]
--   [--dealerships 100] [--isolation rc|ser]
--                       [--group 1] [--groups 0] [--lanes 0] [--witness off|on]
-- Prints one JSON line. Ten statements as those of new.sql, in two round trips. --group: calls that
-- may share a transaction, with --groups N those of other lanes too; --lanes N: dealerships share N
-- lanes instead of having their own; --witness on: a lost COMMIT could be resolved (the other peers
-- cannot).
local moonpool = require "moonpool"
package.path   = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local is       = require "moonpool.is"
local meter    = require "bench.lib.meter"

local options = meter.options(...)

local create_deal = moonpool.operation {
  summary   = "Create a deal with a new customer, its number, default scenario and audit entry",
  input     = is.object { dealership_id = is.uuid, salesperson_id = is.uuid, lane = is.integer },
  isolation = options.level,
  timeout   = 10,
  retries   = 10, -- as many as the other peers have
  lane      = options.lanes > 0 and "deals:$lane" or "deal_number:$dealership_id",
  group     = options.group > 1 and options.group or nil,
  groups    = options.groups > 0 and options.groups or nil,
  witness   = options.witness == "on",

  run = function(tx, input)
    local customer_id, deal_id, scenario_id = tx:uuid(), tx:uuid(), tx:uuid()

    -- Round trip 1: BEGIN and all that comes before something must be known.
    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    local seller = tx:one("select id, dealership_id, role from users where id = $salesperson_id",
                          input,
                          "Salesperson not found: $salesperson_id")
    local customer = tx:insert("customers", {
      id            = customer_id,
      dealership_id = input.dealership_id,
      first_name    = "Jane",
      last_name     = "Doe",
      email         = "jane@example.org",
      phone         = "(512) 555-0199",
      address       = "1 Main St",
      city          = "Austin",
      state         = "TX",
      zip_code      = "78701",
      county        = "Travis",
    })
    local number = tx:one([[
      insert into deal_number_sequences as s (dealership_id, current_sequence)
      values ($dealership_id, 1)
      on conflict (dealership_id) do update set current_sequence = s.current_sequence + 1,
        updated_at = now()
      returning to_char(now(), 'YYYY-MMDD-')
                || lpad(current_sequence::text, greatest(4, length(current_sequence::text)), '0') as
                  text]], input)

    if seller.dealership_id ~= input.dealership_id then
      moonpool.fail("RESOURCE_NOT_FOUND", "Salesperson not found: " .. input.salesperson_id,
                    { status = 404 })
    end

    -- Round trip 2: the rest, and COMMIT.
    local deal = tx:insert("deals", {
      id                   = deal_id,
      dealership_id        = input.dealership_id,
      deal_number          = number.text,
      customer_id          = customer_id,
      salesperson_id       = input.salesperson_id,
      deal_state           = "DRAFT",
      customer_attached_at = tx:now(),
    })
    local scenario = tx:insert("deal_scenarios", {
      id                   = scenario_id,
      deal_id              = deal_id,
      name                 = "Scenario 1",
      scenario_type        = "FINANCE_DEAL",
      vehicle_price        = 0,
      down_payment         = 0,
      trade_allowance      = 0,
      trade_payoff         = 0,
      term                 = 60,
      apr                  = 8.9,
      total_tax            = 0,
      total_fees           = 0,
      monthly_payment      = 0,
      aftermarket_products = "[]",
    })
    tx:exec("update deals set active_scenario_id = $1, updated_at = now() where id = $2",
            scenario_id, deal_id)
    tx:exec([[
      insert into audit_log (deal_id, user_id, action, entity_type, entity_id, metadata)
      values ($deal_id, $user_id, 'create', 'deal', $deal_id, $metadata)]], {
      deal_id  = deal_id,
      user_id  = input.salesperson_id,
      metadata = { dealNumber = number.text, hasCustomer = true, hasVehicle = false },
    })
    return { deal = deal, scenario = scenario, customer = customer }
  end,
}

local dealerships, sellers = meter.ids(options.dealerships)

meter.run("moonpool", options, function()
  local input = {}
  return function()
    local d = math.random(#dealerships)
    input.lane = options.lanes > 0 and d % options.lanes or d
    input.dealership_id, input.salesperson_id = dealerships[d], sellers[d][math.random(5)]
    moonpool.call(create_deal, input)
  end
end)
