-- Shows a deal being created: the operation `create_deal` on the example dealership, and what it
-- left in the database.
--   moonpool run scripts/tools/demo.lua
-- Every run takes an available vehicle, and brings one in when none is left.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local decimal  = require "moonpool.decimal"
local example  = require "lib.example"

local dealership_id  = example.dealership.id
local salesperson_id = example.users[1].id

-- Printing ----------------------------------------------------------------------------------------

-- Colour only for a person at a terminal who has not declined it.
local colour = not os.getenv("NO_COLOR") and (os.getenv("TERM") or "dumb") ~= "dumb"
  and os.execute("test -t 1") == true

local function paint(code, text)
  return colour and ("\27[" .. code .. "m" .. text .. "\27[0m") or text
end

local function heading(text)
  print()
  print(paint("1", text))
end

local function line(label, value, note)
  print(string.format("  %s%s%s", paint("2", string.format("%-18s", label)), tostring(value),
                      note and paint("2", "  " .. note) or ""))
end

-- "28500.00" -> "$28,500.00"
local function money(amount)
  local whole, cents = tostring(amount):match("^(%d+)%.?(%d*)$")
  whole = whole:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return "$" .. whole .. "." .. (cents .. "00"):sub(1, 2)
end

-- The data ----------------------------------------------------------------------------------------

local people = {
  { "Maya", "Fontaine" }, { "Noah", "Berg" }, { "Olivia", "Reyes" }, { "Piotr", "Zielinski" },
  { "Quinn", "Abara" },
  { "Rosa", "Keller" }, { "Samir", "Haddad" }, { "Tess", "Lindqvist" }, { "Umar", "Farouk" },
  { "Vera", "Costa" },
}

local function available_vehicle()
  return db.transaction({ tenant = dealership_id }, function(tx)
    local vehicle = tx:first([[
      select * from vehicles where dealership_id = $1 and status = 'available' order by stock_number
        limit 1]], dealership_id)
    if vehicle then return vehicle end
    local count = tx:value("select count(*) from vehicles where dealership_id = $1", dealership_id)
    return tx:insert("vehicles", {
      id = tx:uuid(), dealership_id = dealership_id,
      stock_number = string.format("HP-%d", 1001 + count), year = 2026,
      make = "Kia", model = "Sportage", trim = "EX", exterior_color = "Grey", price = "29990.00",
      msrp = "30890.00",
    })
  end)
end

-- What a desk would work out for 60 months: the loan, and its monthly payment by the usual annuity
-- formula.
local function desk(price)
  local down, tax, fees, apr, term = decimal("4000.00"), (price * decimal("0.055")):round(2),
    decimal("299.00"),
                                     decimal("6.9"), 60
  local financed = price + tax + fees - down
  local monthly_rate = (apr / decimal("1200")):round(12)
  local growth = ((decimal("1") + monthly_rate) ^ term):round(12)
  return {
    name = "60 months, $4,000 down", term = term, apr = apr, down_payment = down, total_tax = tax,
    total_fees = fees,
    monthly_payment = (financed * monthly_rate * growth / (growth - decimal("1"))):round(2),
    aftermarket_products = { { name = "Paint protection", price = "399.00" } },
  }
end

-- The demonstration -------------------------------------------------------------------------------

local function pasteable_call(vehicle)
  return string.format(
    [[build/moonpool call create_deal '{"dealershipId":"%s","salespersonId":"%s",]]
      .. [["customerId":"%s","vehicleId":"%s"}']],
    dealership_id, salesperson_id, example.customers[1].id, vehicle.id)
end

local added = example.ensure()
if added.total > 0 then
  print(string.format("seeded %s: %d rows", example.dealership.dealership_name, added.total))
end

local vehicle = available_vehicle()
local deals_before = db.transaction({ tenant = dealership_id }, function(tx)
  return tx:value("select count(*) from deals where dealership_id = $1", dealership_id)
end)
local person = people[deals_before % #people + 1]

local input = {
  dealership_id  = dealership_id,
  salesperson_id = salesperson_id,
  customer_data  = {
    first_name = person[1], last_name = person[2],
    phone = string.format("(207) 555-%04d", 200 + deals_before % 9000),
    email = string.lower(person[1] .. "." .. person[2] .. "@example.com"), city = "Portland",
    state = "ME",
  },
  vehicle_id     = vehicle.id,
  scenario_data  = desk(vehicle.price),
  initial_state  = "IN_PROGRESS",
}

-- A rehearsal, rolled back: it leaves nothing behind, not even a gap in the numbers. A host asks
-- for the parameter types of each text once; the deal below then shows the round trips that every
-- further deal takes.
local rehearsed = {}
pcall(db.transaction, { tenant = dealership_id, isolation = "serializable" }, function()
  moonpool.call("create_deal", input, { tenant = dealership_id, as = salesperson_id })
  error(rehearsed)
end)

local result, info = moonpool.call_info("create_deal", input,
                                        { tenant = dealership_id, as = salesperson_id })

local deal, scenario, customer, sold = result.deal, result.scenario, result.customer, result.vehicle

heading("Deal " .. deal.deal_number)
line("state", deal.deal_state)
line("dealership", example.dealership.dealership_name, example.dealership.timezone)
line("salesperson", example.users[1].full_name)
line("customer", customer.first_name .. " " .. customer.last_name,
     customer.phone .. "  " .. customer.email)
line("vehicle", string.format("%d %s %s %s", sold.year, sold.make, sold.model, sold.trim or ""),
     string.format("stock %s, was %s, now %s", sold.stock_number, vehicle.status, sold.status))

heading("Scenario: " .. scenario.name)
line("type", scenario.scenario_type,
     scenario.id == deal.active_scenario_id and "the deal's active one" or nil)
line("price", money(scenario.vehicle_price))
line("tax, fees", money(scenario.total_tax) .. ", " .. money(scenario.total_fees))
line("down payment", money(scenario.down_payment))
line("monthly", string.format("%d x %s", scenario.term, money(scenario.monthly_payment)),
     "at " .. tostring(scenario.apr):gsub("0+$", "") .. " %")

heading("Audit log")
local entries = db.transaction({ tenant = dealership_id }, function(tx)
  return tx:query([[
    select a.action, a.entity_type, a.field_name, a.old_value, a.new_value, a.metadata, u.full_name,
           to_char(a.timestamp at time zone d.timezone, 'HH24:MI:SS.US') as clock
      from audit_log a
      join users u on u.dealership_id = a.dealership_id and u.id = a.user_id
      join dealership_settings d on d.id = a.dealership_id
     where a.dealership_id = $1 and a.deal_id = $2
     order by a.timestamp]], dealership_id, deal.id)
end)
for _, entry in ipairs(entries) do
  local what = entry.field_name
    and string.format("%s: %s -> %s", entry.field_name, entry.old_value, entry.new_value)
               or entry.metadata.deal_number or ""
  print(string.format("  %s  %-10s %s %-9s %s", paint("2", entry.clock), entry.full_name,
                      entry.action, entry.entity_type, what))
end

heading("Cost")
line("round trips", info.round_trips, "from BEGIN to COMMIT")
line("statements", info.statements)
line("attempts", info.attempts)
line("time", string.format("%.1f ms", info.duration_ms))

heading("Try next")
print("  " .. pasteable_call(available_vehicle()))
print(
  "  build/moonpool run scripts/tools/demo.lua       # another deal: the next number, another \z
    vehicle")
print("  build/moonpool db psql --owner                  # look around in the database")
