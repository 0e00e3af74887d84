-- The project's own create_deal with a new customer and no vehicle, on the project's own schema:
-- the peer `create_deal` of `moonpool bench deal`. It does more than the workload of deal.lua
-- (tenant, row level security, composite keys, a second audit entry, checks of everything), so its
-- numbers are for information.
--   moonpool bench real --db URL [--clients 20] [--seconds 4] [--warmup 1] [--dealerships 100]
--                       [--isolation rc|ser]
local moonpool = require "moonpool"
package.path   = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local meter    = require "bench.lib.meter"
local options  = require "bench.lib.options"

local given = options(meter.defaults { dealerships = 100, conns = 20 }, ...)
local level = meter.level(given)

-- The operation as it stands in scripts/, but for the isolation that this run asks for.
local function create_deal()
  local make = moonpool.operation
  moonpool.operation = function(definition)
    definition.isolation = level
    return make(definition)
  end
  local _ <close> = setmetatable({}, { __close = function() moonpool.operation = make end })
  return dofile(moonpool.app_dir .. "/scripts/create_deal.lua")
end

local operation            = create_deal()
local dealerships, sellers = meter.ids(given.dealerships)

local customer = {
  first_name = "Jane", last_name = "Doe", email = "jane@example.org", phone = "(512) 555-0199",
  address = "1 Main St",
  city = "Austin", state = "TX", zip_code = "78701", county = "Travis",
}

meter.run(given, function()
  local input = { customer_data = customer }
  return function()
    local d = math.random(#dealerships)
    input.dealership_id, input.salesperson_id = dealerships[d], sellers[d][math.random(5)]
    moonpool.call(operation, input)
  end
end, { peer = "moonpool-create_deal", dealerships = given.dealerships })
