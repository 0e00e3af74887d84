-- moonpool.outbox: messages that transactions publish (tx:publish) and subscribers get: operations
-- with `on = "topic"`. A message exists if, and only if, its transaction has committed. The relay
-- (moonpool.outbox.relay) delivers it at least once, in order per key; what a subscriber does in
-- the database happens exactly once, for its transaction notes the delivery.
local db    = require "moonpool.db"
local host  = require "moonpool.host"
local store = require "moonpool.outbox.store"

local outbox = {}

local under_way, again = false, false

-- A notification is only there to be fast: the relay also looks by itself. So it is not part of the
-- transaction, whose commit would wait for those of all others that notify; and while one is under
-- way, further ones are only one more.
local function notify()
  if under_way then
    again = true
    return
  end
  under_way = true
  repeat
    again = false
    local ok = pcall(db.value, "select pg_notify($1, '')", store.channel)
  until not (again and ok)
  under_way = false
end

host.on_publish(notify)

-- run(options): relays on this host, until it is told to stop. -> { delivered=, failed=, dead= },
-- counts of messages. Options:
--   until_idle   return when there is nothing left that could be delivered now
--   subscribers  name -> operation, instead of those of scripts/
--   deliver      function(op, name, message, xid): calls the subscriber and raises its failure,
--                instead of moonpool.outbox.relay's
--   backoff      seconds before a failed delivery is tried again, doubled each time (default 1, at
--                most 600)
--   poll         seconds between looks when no notification comes (default 1)
function outbox.run(options)
  return require "moonpool.outbox.relay".run(options or {})
end

-- What subscribers failed on: { subscriber=, message=, topic=, key=, tenant=, deliveries=, dead=,
-- error=, failed_at=, next_at=, payload= }, by time. filter: { subscriber=, message=, dead= }, each
-- optional.
function outbox.list(filter)
  return store.with(function(conn) return store.failures(conn, filter or {}) end)
end

-- Dead letters are tried again, at once and from the first delivery on; out of order, for their key
-- went on. -> how many
function outbox.retry(filter)
  local count = store.with(function(conn) return store.requeue(conn, filter or {}) end)
  notify()
  return count
end

-- Failed messages are given up: their subscriber never sees them. -> how many
function outbox.drop(filter)
  return store.with(function(conn) return store.drop(conn, filter or {}) end)
end

-- { name=, topic=, waiting=, failing=, dead=, created_at=, seen_at= } of all that ever ran.
function outbox.subscribers()
  return store.with(store.subscribers)
end

-- A subscriber that will not come back; what it has not seen is not kept for it any more. -> was
-- there one?
function outbox.forget(name)
  return store.with(function(conn) return store.forget(conn, name) end)
end

return outbox
