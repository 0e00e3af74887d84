-- Seeds a dealership to try things on: staff, customers, vehicles and a trade-in.
--   moonpool run scripts/tools/seed.lua
-- Adds what is missing and leaves alone what is there, so it may be run at any time.
local example = require "lib.example"

local added = example.ensure()
if added.total == 0 then
  print("nothing to do: " .. example.dealership.dealership_name .. " is complete")
else
  print("seeded " .. example.dealership.dealership_name .. " (" .. example.dealership.id .. ")")
  for _, name in ipairs { "dealership_settings", "users", "customers", "vehicles",
                          "trade_vehicles" } do
    print(string.format("  %-20s %d added", name, added[name]))
  end
end
