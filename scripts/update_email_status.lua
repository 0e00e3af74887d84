-- Notes what became of an e-mail message. The first `sent` sets the time; a reason is kept while the message is bounced or
-- failed. Telling the same status again changes nothing and leaves no entry.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local accounts = require "lib.accounts"
local audit    = require "lib.audit"

return moonpool.operation {
  summary = "Change the status of an e-mail message",

  input = is.object {
    dealership_id = is.uuid,
    message_id    = is.uuid,
    user_id       = is.uuid:optional(),
    status        = is.enum { "draft", "queued", "sent", "delivered", "opened", "bounced", "failed", "received" },
    error_message = is.string:max(2000):optional(),
  },
  output = is.object { message = is.row },

  tenant  = "dealership_id",
  actor   = "user_id",
  timeout = 10,

  run = function(tx, input)
    if input.error_message and input.status ~= "bounced" and input.status ~= "failed" then
      local message = "goes with the status bounced or failed only"
      moonpool.fail("VALIDATION_ERROR", "errorMessage: " .. message,
                    { status = 400, fields = { { path = "errorMessage", message = message } } })
    end
    -- Round trip 1: the message is locked, and judged by what it was before.
    local actor  = accounts.actor(tx, input)
    local before = tx:one([[
      select status, deal_id from email_messages
       where dealership_id = $dealership_id and id = $message_id for no key update]], input, "E-mail message not found: $message_id")
    local message = tx:one([[
      update email_messages
         set status        = $status,
             error_message = case when $status in ('bounced', 'failed') then coalesce($error_message, error_message) end,
             sent_at       = case when $status = 'sent' then coalesce(sent_at, now()) else sent_at end,
             updated_at    = case when status = $status and $error_message is null then updated_at else now() end
       where dealership_id = $dealership_id and id = $message_id
      returning id, dealership_id, deal_id, customer_id, folder, status, subject, error_message, sent_at, updated_at]],
      input, "E-mail message not found: $message_id")

    if before.status ~= input.status then
      audit.changed(tx, "email_message", input.message_id, { actor = actor, deal_id = before.deal_id,
        field_name = "status", old_value = before.status, new_value = input.status })
    end
    return { message = message }
  end,
}
