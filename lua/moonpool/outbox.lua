-- moonpool.outbox: messages that transactions publish (tx:publish) and subscribers get. A
-- subscriber is an operation with `on = "topic"`. A message exists if, and only if, its transaction
-- has committed. The relay (moonpool.outbox.relay) delivers it at least once, in order per key. A
-- subscriber's changes of the database happen exactly once, because its transaction notes the
-- delivery.
local db    = require "moonpool.db"
local host  = require "moonpool.host"
local store = require "moonpool.outbox.store"

local outbox = {}

local under_way, again = false, false

-- Notifies the relays of all hosts. A notification only makes the delivery faster: relays also
-- poll. It is not part of the publishing transaction, because PostgreSQL lets transactions that
-- notify commit only one after the other. While a notification is being sent, all further ones are
-- combined into one.
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

-- run(options): runs the relay on this host, until the host is told to stop. -> { delivered=,
-- failed=, dead= }, counts of messages. Options:
--   until_idle   return when no message is left that could be delivered now
--   subscribers  name -> operation, instead of those of scripts/
--   deliver      function(op, name, message, xid): calls the subscriber and raises its failure,
--                instead of moonpool.outbox.relay's
--   backoff      seconds before a failed delivery is retried, doubled each time (default 1, at most
--                600)
--   poll         seconds between two fetches when no notification arrives (default 1)
function outbox.run(options)
  return require "moonpool.outbox.relay".run(options or {})
end

-- The messages whose delivery has failed: { subscriber=, message=, topic=, key=, tenant=,
-- deliveries=, dead=, error=, failed_at=, next_at=, payload= }, in the order of failed_at. filter:
-- { subscriber=, message=, dead= }, each optional.
function outbox.list(filter)
  return store.with(function(conn) return store.failures(conn, filter or {}) end)
end

-- Retries failed messages at once. For dead letters the deliveries are counted from 0 again, and
-- they come out of order, because later messages of their key were delivered. -> their number
function outbox.retry(filter)
  local count = store.with(function(conn) return store.requeue(conn, filter or {}) end)
  notify()
  return count
end

-- Discards failed messages: their subscriber never gets them. -> their number
function outbox.drop(filter)
  return store.with(function(conn) return store.drop(conn, filter or {}) end)
end

-- A list of { name=, topic=, waiting=, failing=, dead=, created_at=, seen_at= }: all subscribers
-- that were ever served and not forgotten.
function outbox.subscribers()
  return store.with(store.subscribers)
end

-- Deletes a subscriber that will not come back; messages are not kept for it any more. -> true if
-- the subscriber existed
function outbox.forget(name)
  return store.with(function(conn) return store.forget(conn, name) end)
end

return outbox
