-- moonpool.outbox.entry: one message of the outbox for a subscriber of this generation; the relay
-- in `moonpool serve` asks for it.
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local registry = require "moonpool.operation.registry"
local relay    = require "moonpool.outbox.relay"

-- What the relay has to know of a failure, to judge it and to tell it.
local function told(failure)
  failure = errors.of(failure)
  return { code = failure.code, message = failure.message, status = failure.status,
           sqlstate = failure.sqlstate, own_message = failure.own_message, line = failure.line,
           call_id = failure.call_id }
end

-- (name, JSON of { message, xid, payload }) -> "true" when the message is settled, else what has
-- failed, as JSON
return function(name, text)
  local order = json.decode(text, { decimals = true })
  local message = order.message
  message.payload = type(order.payload) == "table" and json.raw(order.payload) or order.payload
  local ok, failure = pcall(relay.call_subscriber, registry.get(name), name, message, order.xid)
  if ok or errors.is(failure) and failure.constraint == "delivered_pkey" then return "true" end
  return json.encode(told(failure))
end
