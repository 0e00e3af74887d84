-- Notes what became of an e-mail message. The first `sent` sets the time; a reason is kept while
-- the message is bounced or failed. Each of the two that changes leaves an audit entry; telling the
-- same again changes nothing and leaves none.
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
    status        = is.enum { "draft", "queued", "sent", "delivered", "opened", "bounced", "failed",
                              "received" },
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
      select status, error_message, deal_id from email_messages
       where dealership_id = $dealership_id and id = $message_id for no key update]],
      input, "E-mail message not found: $message_id")
    local message = tx:one([[
      update email_messages m
         set status        = $status,
             error_message = next.error_message,
             sent_at       = case when $status = 'sent' then coalesce(m.sent_at, now())
               else m.sent_at end,
             updated_at    = case when m.status = $status and m.error_message is not distinct
               from next.error_message
                                  then m.updated_at else now() end
        from (select case when $status in ('bounced', 'failed') then coalesce($error_message,
          error_message) end as error_message
                from email_messages where dealership_id = $dealership_id and id = $message_id) next
       where m.dealership_id = $dealership_id and m.id = $message_id
      returning m.id, m.dealership_id, m.deal_id, m.customer_id, m.folder, m.status, m.subject,
        m.error_message, m.sent_at,
                m.updated_at]],
      input, "E-mail message not found: $message_id")

    for _, field in ipairs { "status", "error_message" } do
      if before[field] ~= message[field] then
        audit.changed(tx, "email_message", input.message_id,
                      { actor = actor, deal_id = before.deal_id,
          field_name = field, old_value = before[field], new_value = message[field] })
      end
    end
    return { message = message }
  end,
}
