-- moonpool.serve.pooler: is there a pooler between this host and its database that gives each
-- transaction another backend? With one, session locks, prepared statements and LISTEN are lost,
-- and locks stay with the wrong session.
local db     = require "moonpool.db"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local pooler = {}

local ADVICE = "DATABASE_URL leads through a pooler that gives the transactions of a session to "
  .. "different backends (PgBouncer: pool_mode = transaction or statement); locks of lanes, "
  .. "prepared statements and LISTEN would be lost. Set pool_mode = session for this database, or "
  .. "connect to the server itself; see: moonpool help deploying"

-- A prepared statement that this session did not make is there, or one that it made is not.
local strangers = { ["42P05"] = true, ["26000"] = true }

-- The backend that the pool's one connection speaks to; "another's" where a statement tells it.
local function backend(pool)
  local ok, value = pcall(pool.value, "select pg_backend_pid()")
  if ok then return value end
  return errors.is(value) and strangers[value.sqlstate] and "another's" or nil
end

-- Two sessions, one after the other and both open: each has a backend of its own, and keeps it.
local function is_apart()
  local one, two = db.open { max = 1 }, db.open { max = 1 }
  local _ <close> = setmetatable({}, { __close = function()
    one.close()
    two.close()
  end })
  local first, second = backend(one), backend(two)
  local again = first and second and backend(one)
  if not again then return true end -- not reached: nothing can be said
  return first == again and first ~= second and first ~= "another's" and second ~= "another's"
end

--- What is wrong with the way to the database, or nil.
---@return string?
function pooler.fault()
  -- A connection that was lost in between is replaced: that is no pooler.
  if is_apart() or is_apart() then return nil end
  return ADVICE
end

--- Finds out in a task of its own, for a host starts without its database too; calls refuse(fault).
---@param refuse fun(fault: string)
function pooler.check(refuse)
  host.spawn(function()
    local ok, fault = pcall(pooler.fault)
    if ok and fault then refuse(fault) end
  end)
end

return pooler
