-- moonpool.deliver: one message of the outbox for a subscriber of this generation; the relay in `moonpool serve` asks for it.
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local registry = require "moonpool.registry"
local relay    = require "moonpool.relay"

-- (name, JSON of { message, xid, payload }) -> "true" when the message is settled
return function(name, text)
  local order = json.decode(text, { decimals = true })
  local message = order.message
  message.payload = type(order.payload) == "table" and json.raw(order.payload) or order.payload
  local ok, failure = pcall(relay.deliver, registry.get(name), name, message, order.xid)
  if not ok and not (errors.is(failure) and failure.constraint == "delivered_pkey") then error(failure, 0) end
  return "true"
end
