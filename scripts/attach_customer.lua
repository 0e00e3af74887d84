-- Attaches a customer to a deal. The first one makes the deal count: it gets its number.
-- Two round trips, two more where a number has to be taken.
local moonpool  = require "moonpool"
local is        = require "moonpool.is"
local accounts  = require "lib.accounts"
local audit     = require "lib.audit"
local numbering = require "lib.numbering"

local closed = { CANCELLED = true, DELIVERED = true }

return moonpool.operation {
  summary = "Attach a customer to a deal, which gets its number if it has none",

  input = is.object {
    dealership_id = is.uuid,
    deal_id       = is.uuid,
    customer_id   = is.uuid,
    user_id       = is.uuid:optional(),
  },
  output = is.object { deal = is.row, customer = is.row },

  tenant  = "dealership_id",
  actor   = "user_id",
  timeout = 10,
  lane    = "deal_number:$dealership_id",
  errors  = { deals_number_key = { "DUPLICATE_DEAL_NUMBER", 409 } },

  run = function(tx, input)
    -- The deal is locked and changed at once, and judged by what it was before: a failure undoes
    -- the change.
    local actor = accounts.actor(tx, input)
    local customer = tx:one(
      "select * from customers where dealership_id = $dealership_id and id = $customer_id", input,
                            "Customer not found: $customer_id")
    local before = tx:one(
      "select * from deals where dealership_id = $dealership_id and id = $deal_id for update",
      input,
                          "Deal not found: $deal_id")
    local deal = tx:one([[
      update deals
         set customer_id = $customer_id, updated_at = now(),
             customer_attached_at = case customer_id when $customer_id then customer_attached_at
               else now() end
       where dealership_id = $dealership_id and id = $deal_id returning *]], input,
         "Deal not found: $deal_id")

    if closed[before.deal_state] then
      moonpool.fail("DEAL_CLOSED", ("Deal is closed: %s is %s"):format(input.deal_id,
        before.deal_state), { status = 409 })
    end

    local changes = { customer_id = input.customer_id }
    if not before.deal_number then
      changes.deal_number = numbering.next_deal_number(tx, input).text
      deal = tx:one([[
        update deals set deal_number = $deal_number where dealership_id = $dealership_id
          and id = $deal_id returning *]],
        { deal_number = changes.deal_number, dealership_id = input.dealership_id,
          deal_id = input.deal_id },
        "Deal not found: $deal_id")
    end
    audit.changes(tx, "deal", input.deal_id, before, changes,
                  { actor = actor, deal_id = input.deal_id,
      metadata = { deal_number = changes.deal_number or before.deal_number } })

    return { deal = deal, customer = customer }
  end,
}
