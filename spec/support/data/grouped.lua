-- Operations whose calls share a transaction, on the customers of one dealership.
local is       = require "moonpool.is"
local moonpool = require "moonpool"

local grouped = {}

--- An operation of a name (`input.name`) in a dealership's lane; `more`: fields of its own.
function grouped.operation(run, more)
  local definition = { input = is.object { dealership_id = is.uuid, name = is.string },
                       tenant = "dealership_id",
                       lane = "group:$dealership_id", group = 16, group_ms = 10000, timeout = 10,
                       run = run }
  for name, value in pairs(more or {}) do definition[name] = value end
  return moonpool.operation(definition)
end

--- What most of them do: a customer with the call's name, or with this one.
function grouped.insert(tx, input, name)
  return tx:insert("customers", { id = tx:uuid(), dealership_id = input.dealership_id,
                                  first_name = name or input.name,
                                  last_name = "Grouped" })
end

--- The names of a dealership's customers, sorted.
function grouped.names(dealership)
  local names = {}
  for i, row in ipairs(dealership:rows("customers")) do names[i] = row.first_name end
  table.sort(names)
  return names
end

return grouped
