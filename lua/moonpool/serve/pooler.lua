-- moonpool.serve.pooler: detects a pooler between this host and its database that gives the
-- transactions of a session to different backends. With such a pooler, session locks, prepared
-- statements and LISTEN are lost, and locks stay with the wrong session.
local db     = require "moonpool.db"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local pooler = {}

local ADVICE = "DATABASE_URL leads through a pooler that gives the transactions of a session to "
  .. "different backends (PgBouncer: pool_mode = transaction or statement); locks of lanes, "
  .. "prepared statements and LISTEN would be lost. Set pool_mode = session for this database, or "
  .. "connect to the server itself; see: moonpool help deploying"

-- SQLSTATEs that show another backend: a prepared statement exists that this session did not make
-- (42P05), or one that it made does not exist (26000).
local strangers = { ["42P05"] = true, ["26000"] = true }

-- The backend of the pool's only connection; "another's" if an error shows that the backend is not
-- this session's; nil if the database cannot be reached.
local function backend(pool)
  local ok, value = pcall(pool.value, "select pg_backend_pid()")
  if ok then return value end
  return errors.is(value) and strangers[value.sqlstate] and "another's" or nil
end

local ROUNDS = 5

-- Opens two sessions and asks them in turn, several times: other work of this host may take the
-- backends of a pooler in between, and so hide it once. Returns true if each session has its own
-- backend and keeps it.
local function is_apart()
  local one, two = db.open { max = 1 }, db.open { max = 1 }
  local _ <close> = setmetatable({}, { __close = function()
    one.close()
    two.close()
  end })
  local first, second
  for _ = 1, ROUNDS do
    local of_one = backend(one)
    local of_two = of_one and backend(two)
    if not of_two then return true end -- the database was not reached: nothing is known
    first, second = first or of_one, second or of_two
    if of_one ~= first or of_two ~= second then return false end
  end
  return first ~= second and first ~= "another's" and second ~= "another's"
end

--- What is wrong with the connection to the database, or nil.
---@return string?
function pooler.fault()
  -- A lost connection is replaced, and so has a new backend without a pooler: hence a second try.
  if is_apart() or is_apart() then return nil end
  return ADVICE
end

--- Checks in a separate task, because a host must also start without its database. Calls
--- refuse(fault) if it finds a fault.
---@param refuse fun(fault: string)
function pooler.check(refuse)
  host.spawn(function()
    local ok, fault = pcall(pooler.fault)
    if ok and fault then refuse(fault) end
  end)
end

return pooler
