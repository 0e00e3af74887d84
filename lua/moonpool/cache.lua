-- moonpool.cache: a small cache of the host for values that are read often and change rarely. It
-- survives reloads, evicts the values that were unused for the longest time, and is independent of
-- transactions. Inside an operation a key belongs to the operation's tenant.
--
-- Values are stored as JSON: `get` returns a copy, with numbers that have a fraction as decimals.
-- Values that a transaction has not committed yet must not be cached. Code that changes data which
-- may be cached must call `invalidate` in the same transaction.
local db   = require "moonpool.db"
local host = require "moonpool.host"
local json = require "moonpool.json"

local cache = {}

local CHANNEL = "moonpool_cache"
local TTL_S   = 300

local listening = false

-- From the first use on, listens for the keys that other hosts invalidate. Notifications sent while
-- the connection was lost are unknown, so a reconnection clears the cache.
local function listen()
  if listening then return end
  listening = true
  host.listen_soon(CHANNEL, function(payload, event)
    if event then return host.cache_clear() end
    local scope, key = table.unpack(json.decode(payload))
    host.cache_delete(key, scope)
  end)
end

--- The value, or nil.
---@param key string
function cache.get(key)
  listen()
  return host.cache_get(key)
end

--- Stores a value. ttl: seconds, default 300. Returns false if the value is too large.
---@param key string
---@param value any
---@param options? { ttl?: number }
function cache.set(key, value, options)
  listen()
  return host.cache_set(key, value, options and options.ttl or TTL_S)
end

--- Deletes a key on this host.
function cache.delete(key)
  return host.cache_delete(key)
end

--- Deletes a key on this host, and on all others; inside a transaction, on the others when it
--- commits.
function cache.invalidate(key)
  local payload = json.encode(json.array { host.cache_scope(key), key })
  local tx = host.current_tx()
  host.cache_delete(key)
  if tx then
    host.own_exec(tx, "select pg_notify('" .. CHANNEL .. "', $1)", payload)
  else
    db.own_notify(CHANNEL, payload)
  end
end

--- entries, bytes, max_bytes, hits, misses, evictions
cache.stats = host.cache_stats

return cache
