-- Shows one deal with all that belongs to it, as of one moment.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local json     = require "moonpool.json"

-- What the deal names, or nil: joined to the deal, so that there is always a row to wait for, and
-- one wait for all.
local function named(tx, input, table_name, column)
  local row = tx:one(([[
    select t.* from deals d left join %s t on t.dealership_id = d.dealership_id and t.id = d.%s
     where d.dealership_id = $dealership_id and d.id = $deal_id]]):format(table_name, column),
       input, "Deal not found: $deal_id")
  return function() return row.id and row or nil end
end

return moonpool.operation {
  summary = "Show a deal with its scenarios, customer, vehicles and latest audit entries",

  input = is.object {
    dealership_id = is.uuid,
    deal_id       = is.uuid,
    audit_limit   = is.integer:min(0):max(100):default(20),
  },
  output = is.object {
    deal          = is.row,
    scenarios     = is.array(is.row),                 -- in the order of their making
    customer      = is.row:optional(),
    vehicle       = is.row:optional(),
    trade_vehicle = is.row:optional(),
    audit_entries = is.array(is.row),                 -- newest first
  },

  tenant    = "dealership_id",
  isolation = "repeatable read",
  read_only = true,
  timeout   = 10,

  run = function(tx, input)
    local deal = tx:one(
      "select * from deals where dealership_id = $dealership_id and id = $deal_id", input,
                        "Deal not found: $deal_id")
    local customer      = named(tx, input, "customers", "customer_id")
    local vehicle       = named(tx, input, "vehicles", "vehicle_id")
    local trade_vehicle = named(tx, input, "trade_vehicles", "trade_vehicle_id")
    local scenarios = tx:query([[
      select * from deal_scenarios where dealership_id = $dealership_id and deal_id = $deal_id
       order by created_at, id limit 1000]], input)
    local audit_entries = tx:query([[
      select * from audit_log where dealership_id = $dealership_id and deal_id = $deal_id
       order by timestamp desc, id desc limit $audit_limit]], input)

    return { deal = deal, scenarios = json.array(scenarios), customer = customer(),
             vehicle = vehicle(),
             trade_vehicle = trade_vehicle(), audit_entries = json.array(audit_entries) }
  end,
}
