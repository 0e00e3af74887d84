-- Makes a fresh dealership with what a spec needs of staff, customers and vehicles, as the
-- application role. Every spec takes its own, so specs neither share rows nor clean up.
local moonpool   = require "moonpool"
local default_db = require "moonpool.db"

---@class spec.dealership
---@field id string
---@field db moonpool.db
---@field timezone string
---@field salesperson table   a row of users
local dealership = {}
dealership.__index = dealership

local serial = 0

-- Different in every process and call: usernames and e-mail addresses are unique over all
-- dealerships.
local function unique(prefix)
  serial = serial + 1
  return prefix .. moonpool.uuid():gsub("-", ""):sub(-12) .. serial
end

local function with_defaults(values, defaults)
  local merged = {}
  for name, value in pairs(defaults) do merged[name] = value end
  for name, value in pairs(values or {}) do merged[name] = value end
  return merged
end

--- Runs fn(tx) in a transaction of this dealership.
function dealership:transaction(fn)
  return self.db.transaction({ tenant = self.id }, fn)
end

--- Adds a row to a table of the dealership and gives it as stored.
function dealership:insert(table_name, values)
  return self:transaction(function(tx)
    return tx:insert(table_name, with_defaults(values, { dealership_id = self.id, id = tx:uuid() }))
  end)
end

--- Rows of one of the dealership's tables, those that have all the given values.
function dealership:rows(table_name, match)
  local condition = "dealership_id = $dealership_id"
  local params = with_defaults(match, { dealership_id = self.id })
  for column in pairs(match or {}) do
    condition = condition .. string.format(" and %s = $%s", column, column)
  end
  return self:transaction(function(tx)
    return tx:query("select * from " .. table_name .. " where " .. condition, params)
  end)
end

function dealership:count(table_name, match)
  return #self:rows(table_name, match)
end

function dealership:user(values)
  local name = unique "user"
  values = with_defaults(values, { username = name, email = name .. "@example.com",
                                   full_name = "Sam Seller" })
  return self:transaction(function(tx)
    local user = tx:insert("users",
                           with_defaults(values, { dealership_id = self.id, id = tx:uuid() }))
    for _, kind in ipairs { "username", "email" } do
      tx:insert("user_logins", { kind = kind, value = user[kind]:lower(), dealership_id = self.id,
                                 user_id = user.id })
    end
    return user
  end)
end

function dealership:customer(values)
  return self:insert("customers",
                     with_defaults(values, { first_name = "Cora", last_name = "Keane" }))
end

function dealership:vehicle(values)
  return self:insert("vehicles", with_defaults(values, {
    stock_number = unique "S", year = 2026, make = "Honda", model = "Accord", price = "28500.00" }))
end

function dealership:trade_vehicle(values)
  return self:insert("trade_vehicles",
                     with_defaults(values, { year = 2016, make = "Honda", model = "Civic" }))
end

--- A message in the dealership's own mailbox.
function dealership:email_message(values)
  return self:insert("email_messages", with_defaults(values, {
    folder = "drafts", from_address = "sales@example.com", to_addresses = { "cora@example.com" },
    subject = "Your car" }))
end

--- A deal put straight into the tables, without its operation.
function dealership:deal(values)
  return self:insert("deals", with_defaults(values, { salesperson_id = self.salesperson.id }))
end

--- The smallest legal input of create_deal, with the given fields added.
function dealership:deal_input(values)
  return with_defaults(values, { dealership_id = self.id, salesperson_id = self.salesperson.id })
end

--- The smallest legal input of register_user, under a name that nobody has, with the given fields
--- added.
function dealership:registration(values)
  local name = unique "new"
  return with_defaults(values,
                       { dealership_id = self.id, username = name, email = name .. "@example.com",
                         full_name = "Nell Newman", password = "Correct-Horse-7" })
end

---@param options? { db?: moonpool.db, timezone?: string }
---@return spec.dealership
function dealership.new(options)
  options = options or {}
  local self = setmetatable({
    id = moonpool.uuid(), db = options.db or default_db,
    timezone = options.timezone or "America/New_York",
  }, dealership)
  self:transaction(function(tx)
    tx:insert("dealership_settings",
              { id = self.id, dealership_name = unique "Dealership ", timezone = self.timezone })
  end)
  self.salesperson = self:user()
  return self
end

return dealership
