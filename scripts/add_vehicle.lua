-- Takes a vehicle into stock, under the dealership's next stock number.
local moonpool  = require "moonpool"
local is        = require "moonpool.is"
local accounts  = require "lib.accounts"
local audit     = require "lib.audit"
local numbering = require "lib.numbering"

local amount = is.decimal:scale(2):min(0):max("9999999999.99")
local name   = is.string:min(1):max(100):pattern("%S", "text that is not blank")

return moonpool.operation {
  summary = "Take a vehicle into stock under the next stock number",

  input = is.object {
    dealership_id  = is.uuid,
    user_id        = is.uuid:optional(),
    vin            = is.string:min(17):max(17):pattern("^[A-HJ-NPR-Za-hj-npr-z0-9]+$",
                                                       "a VIN: letters but I, O and Q, and digits")
                                                         :optional(),
    year           = is.integer:min(1900):max(2100),
    make           = name,
    model          = name,
    trim           = is.string:max(100):optional(),
    condition      = is.enum { "new", "used", "certified" }:default("new"),
    mileage        = is.integer:min(0):max(9999999):default(0),
    exterior_color = is.string:max(50):optional(),
    interior_color = is.string:max(50):optional(),
    price          = amount,
    msrp           = amount:optional(),
    cost           = amount:optional(),
    -- A deal makes it pending, a delivery sells it.
    status         = is.enum { "available", "hold", "in_transit" }:default("available"),
  },
  output = is.object { vehicle = is.row:of "vehicles" },

  tenant  = "dealership_id",
  actor   = "user_id",
  timeout = 10,
  lane    = "stock_number:$dealership_id",
  errors  = {
    vehicles_vin_key          =
      { "VIN_TAKEN", 409, "A vehicle with this VIN is in the dealership's stock already" },
    vehicles_stock_number_key = { "DUPLICATE_STOCK_NUMBER", 409 },
  },

  run = function(tx, input)
    -- Round trip 1
    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    local actor  = accounts.actor(tx, input)
    local number = numbering.next_stock_number(tx, input)
    local stock_number = number.text

    -- Round trip 2, with COMMIT
    local vehicle_id = tx:uuid()
    local vehicle = tx:insert("vehicles", {
      id             = vehicle_id,
      dealership_id  = input.dealership_id,
      stock_number   = stock_number,
      vin            = input.vin and input.vin:upper(),
      year           = input.year,
      make           = input.make,
      model          = input.model,
      trim           = input.trim,
      condition      = input.condition,
      mileage        = input.mileage,
      exterior_color = input.exterior_color,
      interior_color = input.interior_color,
      price          = input.price,
      msrp           = input.msrp,
      cost           = input.cost,
      status         = input.status,
    })
    audit.created(tx, "vehicle", vehicle_id,
                  { actor = actor, metadata = { stock_number = stock_number } })
    return { vehicle = vehicle }
  end,
}
