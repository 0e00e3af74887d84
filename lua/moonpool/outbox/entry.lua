-- moonpool.outbox.entry: delivers one message of the outbox to a subscriber of this generation. The
-- relay of `moonpool serve` calls it.
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local registry = require "moonpool.operation.registry"
local relay    = require "moonpool.outbox.relay"

-- The fields of a failure that the relay needs to classify it and to log it.
local function told(failure)
  failure = errors.of(failure)
  return { code = failure.code, message = failure.message, status = failure.status,
           sqlstate = failure.sqlstate, own_message = failure.own_message, line = failure.line,
           call_id = failure.call_id }
end

-- (name, JSON of { message, xid, payload }) -> "true" if the message is delivered (now or before),
-- else the failure as JSON
return function(name, text)
  local order = json.decode(text, { decimals = true })
  local message = order.message
  message.payload = type(order.payload) == "table" and json.raw(order.payload) or order.payload
  local ok, failure = pcall(relay.call_subscriber, registry.get(name), name, message, order.xid)
  if ok or errors.is(failure) and failure.constraint == "delivered_pkey" then return "true" end
  return json.encode(told(failure))
end
