-- Reserves a deal number. Alone it may leave a gap: nobody is obliged to use the number. Deals made
-- by create_deal take theirs inside their own transaction, and leave none.
local moonpool  = require "moonpool"
local is        = require "moonpool.is"
local accounts  = require "lib.accounts"
local audit     = require "lib.audit"
local numbering = require "lib.numbering"

return moonpool.operation {
  summary = "Reserve the dealership's next deal number",

  input  = is.object { dealership_id = is.uuid, user_id = is.uuid:optional() },
  output = is.object { deal_number = is.string, sequence = is.integer },

  tenant  = "dealership_id",
  actor   = "user_id",
  timeout = 10,
  lane    = "deal_number:$dealership_id",

  run = function(tx, input)
    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    local actor  = accounts.actor(tx, input)
    local number = numbering.next_deal_number(tx, input)

    audit.changed(tx, "dealership", input.dealership_id,
                  { actor = actor, field_name = "deal_number",
      old_value = tostring(number.sequence - 1), new_value = tostring(number.sequence),
      metadata = { deal_number = number.text } })
    return { deal_number = number.text, sequence = number.sequence }
  end,
}
