-- The example dealership: its staff, customers, vehicles and a trade-in, under ids that are easy to
-- recognise. What the seed and the demo share.
local db = require "moonpool.db"

local function id(kind, n)
  return string.format("00000000-0000-7000-8%03d-%012d", kind, n)
end

local dealership_id = id(0, 1)

local example = {
  dealership = { id = dealership_id, dealership_name = "Harbor Point Motors",
                 timezone = "America/New_York",
                 phone = "(207) 555-0100", email = "hello@harborpoint.example",
                 address = "1 Harbor Road",
                 city = "Portland", state = "ME", zip_code = "04101", county = "Cumberland" },
  users = {
    { id = id(1, 1), username = "ana.silva", email = "ana.silva@harborpoint.example",
      full_name = "Ana Silva", role = "salesperson" },
    { id = id(1, 2), username = "ben.okafor", email = "ben.okafor@harborpoint.example",
      full_name = "Ben Okafor", role = "salesperson" },
    { id = id(1, 3), username = "carla.lind", email = "carla.lind@harborpoint.example",
      full_name = "Carla Lind", role = "sales_manager" },
    { id = id(1, 4), username = "dev.mehta", email = "dev.mehta@harborpoint.example",
      full_name = "Dev Mehta", role = "finance_manager" },
    { id = id(1, 5), username = "eva.stone", email = "eva.stone@harborpoint.example",
      full_name = "Eva Stone", role = "admin" },
  },
  customers = {
    { id = id(2, 1), first_name = "Grace", last_name = "Hill", email = "grace.hill@example.com",
      phone = "(207) 555-0111", city = "Portland", state = "ME" },
    { id = id(2, 2), first_name = "Hugo", last_name = "Martin", email = "hugo.martin@example.com",
      phone = "(207) 555-0112", city = "Bath", state = "ME" },
    { id = id(2, 3), first_name = "Irene", last_name = "Novak", phone = "(207) 555-0113",
      city = "Brunswick", state = "ME" },
  },
  vehicles = {
    { id = id(3, 1), stock_number = "HP-1001", vin = "1HGCM82633A004352", year = 2026,
      make = "Honda", model = "Accord", trim = "EX-L", exterior_color = "Silver",
      price = "32450.00", msrp = "33990.00" },
    { id = id(3, 2), stock_number = "HP-1002", vin = "5YFBURHE0HP610001", year = 2026,
      make = "Toyota", model = "Corolla", trim = "SE", exterior_color = "Blue", price = "26180.00",
      msrp = "26900.00" },
    { id = id(3, 3), stock_number = "HP-1003", vin = "1FTFW1ET5DFC10312", year = 2025,
      make = "Ford", model = "F-150", trim = "Lariat", exterior_color = "Black",
      price = "58990.00", msrp = "61200.00" },
    { id = id(3, 4), stock_number = "HP-1004", vin = "JM3KFBDM0N0500001", year = 2024,
      make = "Mazda", model = "CX-5", trim = "Premium", exterior_color = "Red", price = "28500.00",
      condition = "certified", mileage = 14200 },
    { id = id(3, 5), stock_number = "HP-1005", vin = "4S4BSANC5K3300001", year = 2019,
      make = "Subaru", model = "Outback", trim = "Limited", exterior_color = "Green",
      price = "19900.00", condition = "used", mileage = 61800 },
    { id = id(3, 6), stock_number = "HP-1006", vin = "KM8J33A46LU100001", year = 2026,
      make = "Hyundai", model = "Tucson", trim = "SEL", exterior_color = "White",
      price = "31240.00", status = "in_transit" },
  },
  trade_vehicles = {
    { id = id(4, 1), customer_id = id(2, 1), year = 2016, make = "Honda", model = "Civic",
      trim = "LX", mileage = 88400,
      condition = "fair", estimated_value = "6400.00", payoff_amount = "1150.00",
      payoff_lender = "Casco Credit Union" },
  },
}

-- Inserts the rows that are not there yet, found by their id.
local function add_missing(tx, table_name, rows)
  local present = {}
  for _, row in ipairs(tx:query("select id from " .. table_name .. " where dealership_id = $1",
                                dealership_id)) do
    present[row.id] = true
  end
  local added = 0
  for _, row in ipairs(rows) do
    if not present[row.id] then
      local values = { dealership_id = dealership_id }
      for column, value in pairs(row) do values[column] = value end
      tx:insert(table_name, values)
      added = added + 1
    end
  end
  return added
end

local function add_logins(tx)
  for _, kind in ipairs { "username", "email" } do
    tx:exec([[
      insert into user_logins (kind, value, dealership_id, user_id)
      select $kind, lower(]] .. kind .. [[), u.dealership_id, u.id
        from users u
       where u.dealership_id = $dealership_id
         and not exists (select 1 from user_logins l
                          where l.dealership_id = u.dealership_id and l.user_id = u.id
                            and l.kind = $kind)]],
      { kind = kind, dealership_id = dealership_id })
  end
end

--- Adds what is missing and leaves alone what is there. Gives the number of rows added to each
--- table, and their sum in `total`.
function example.ensure()
  return db.transaction({ tenant = dealership_id }, function(tx)
    local added = { dealership_settings = 0 }
    if not tx:first("select id from dealership_settings where id = $1", dealership_id) then
      tx:insert("dealership_settings", example.dealership)
      added.dealership_settings = 1
    end
    added.users = add_missing(tx, "users", example.users)
    add_logins(tx)
    for _, name in ipairs { "customers", "vehicles", "trade_vehicles" } do
      added[name] = add_missing(tx, name, example[name])
    end
    added.total = 0
    for name, count in pairs(added) do
      if name ~= "total" then added.total = added.total + count end
    end
    return added
  end)
end

return example
