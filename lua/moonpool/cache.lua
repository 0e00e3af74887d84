-- moonpool.cache: a small memory of the host for what is read often and changes seldom. It survives
-- reloads, forgets what was not used for long, and is no part of any transaction. Inside of an
-- operation a key is one of its tenant.
--
-- Values are kept as JSON: what comes back is a copy, numbers with a fraction as decimals. What a
-- transaction has not committed yet must not be set; whoever changes what others may have cached
-- calls invalidate in the same transaction.
local db   = require "moonpool.db"
local host = require "moonpool.host"
local json = require "moonpool.json"

local cache = {}

local CHANNEL = "moonpool_cache"
local TTL_S   = 300

local listening = false

-- From the first use on: what other hosts invalidate. What they did while nobody listened is not
-- known.
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

--- Keeps a value. ttl: seconds, default 300. False if it is too large to be kept.
---@param key string
---@param value any
---@param options? { ttl?: number }
function cache.set(key, value, options)
  listen()
  return host.cache_set(key, value, options and options.ttl or TTL_S)
end

--- Forgets it on this host.
function cache.delete(key)
  return host.cache_delete(key)
end

--- Forgets it on this host, and on all others: inside of a transaction with its commit.
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
