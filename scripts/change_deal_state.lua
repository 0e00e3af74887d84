-- Moves a deal to another state, and its vehicle with it: a delivered deal sells it, a cancelled
-- one gives it back. Two round trips: everything is done in the first and judged by what was there
-- before; a failure undoes it.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local accounts = require "lib.accounts"
local audit    = require "lib.audit"

-- From where to where. What was cancelled or delivered stays so.
local moves = {
  DRAFT       = { IN_PROGRESS = true, CANCELLED = true },
  IN_PROGRESS = { APPROVED = true, CANCELLED = true },
  APPROVED    = { DELIVERED = true, IN_PROGRESS = true, CANCELLED = true },
  CANCELLED   = {},
  DELIVERED   = {},
}

local sellable = { available = true, pending = true }

-- What a move makes of the deal's vehicle. Whoever wants it in a deal of his own has it locked
-- first, so the deals that want it are all there to be seen.
local vehicle_update = {
  DELIVERED = [[
    update vehicles set status = 'sold', updated_at = now()
     where dealership_id = $dealership_id
       and id = (select vehicle_id from deals where dealership_id = $dealership_id
         and id = $deal_id)
    returning *]],
  CANCELLED = [[
    update vehicles v set status = 'available', updated_at = now()
     where v.dealership_id = $dealership_id and v.status = 'pending'
       and v.id = (select vehicle_id from deals where dealership_id = $dealership_id
         and id = $deal_id)
       and not exists (select 1 from deals o
                        where o.dealership_id = $dealership_id and o.vehicle_id = v.id
                          and o.id <> $deal_id
                          and o.deal_state not in ('CANCELLED', 'DELIVERED'))
    returning *]],
}

return moonpool.operation {
  summary = "Move a deal to another state; delivered sells its vehicle, cancelled frees it",

  input = is.object {
    dealership_id = is.uuid,
    deal_id       = is.uuid,
    user_id       = is.uuid:optional(),
    state         = is.enum { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED", "DELIVERED" },
  },
  -- the vehicle, where it changed
  output = is.object { deal = is.row, vehicle = is.row:optional() },

  tenant  = "dealership_id",
  actor   = "user_id",
  timeout = 10,

  run = function(tx, input)
    local actor = accounts.actor(tx, input)
    local before = tx:one(
      "select * from deals where dealership_id = $dealership_id and id = $deal_id for update",
      input,
                          "Deal not found: $deal_id")
    local deal = tx:one([[
      update deals set deal_state = $state, updated_at = now()
       where dealership_id = $dealership_id and id = $deal_id returning *]], input,
         "Deal not found: $deal_id")

    -- The vehicle is locked by a statement of its own: the next one sees what others did while this
    -- one waited.
    local stock, vehicle
    if vehicle_update[input.state] then
      stock = tx:one([[
        with v as (select status from vehicles
                    where dealership_id = $dealership_id
                      and id = (select vehicle_id from deals
                        where dealership_id = $dealership_id and id = $deal_id)
                      for update)
        select (select status from v) as status]], input)
      vehicle = tx:query(vehicle_update[input.state], input)[1]
    end

    if not moves[before.deal_state][input.state] then
      moonpool.fail("INVALID_STATE_CHANGE",
                    ("Deal cannot go from %s to %s: %s"):format(before.deal_state, input.state,
        input.deal_id), { status = 409 })
    end
    if input.state == "DELIVERED" and before.vehicle_id and not sellable[stock.status] then
      moonpool.fail("VEHICLE_NOT_AVAILABLE", "Vehicle is not available: " .. before.vehicle_id,
                    { status = 409 })
    end

    local entry = { actor = actor, deal_id = input.deal_id }
    audit.changes(tx, "deal", input.deal_id, before, { deal_state = input.state }, entry)
    if vehicle then
      audit.changes(tx, "vehicle", vehicle.id, stock, { status = vehicle.status }, entry)
    end

    return { deal = deal, vehicle = vehicle }
  end,
}
