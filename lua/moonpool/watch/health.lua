-- moonpool.watch.health: the host's state (src/pool/health.h says which there are), and what to do
-- about it. Who looks asks the database over the host's own connection; what is said of the pool is
-- known at once.
local host  = require "moonpool.host"
local rules = require "moonpool.alerts.rules"

local health = {}

local FRESH_S = 1    -- so long one look serves all who ask
local LOOK_MS = 2000 -- for the database to answer

-- What anybody may hear: no address, no name.
local messages = {
  saturated   = "all database connections are in use; calls wait for one",
  read_only   = "the database takes no writes; what only reads is served",
  unreachable = "the database does not answer; calls wait for it, then fail with 503",
  draining    = "the host is stopping: it ends its work and takes none",
}

-- Instead of the above, where the server said why.
local refusals = {
  ["28P01"] = "the database refused the host's password",
  ["28000"] = "the database refused the host's role",
  ["3D000"] = "the database server has no database of this name",
  ["53300"] = "the database server has no connection left to give",
  ["57P03"] = "the database server is starting up or shutting down",
}

-- For who can do something about it.
local advice = {}
for _, rule in ipairs(rules) do
  if rule.state then advice[rule.state] = rule.action end
end

local looking, looked_at, ticker = false, nil, nil

--- Asks the database now, unless somebody does, or did within a second.
function health.look()
  if looking or looked_at and host.clock() - looked_at < FRESH_S then return end
  looking = true
  -- also if the asking task is ended
  local _ <close> = setmetatable({}, { __close = function() looking = false end })
  host.look(LOOK_MS)
  looked_at = host.clock()
end

local function told(now)
  now.message = refusals[now.sqlstate] or messages[now.state]
  now.advice = advice[now.state] -- nil: healthy
  return now
end

--- { state =, works =, sound =, seconds =, message =, advice =, reason =, sqlstate =, failures =,
--- holders =, full_s =, waited_s = }; looks first, unless that is done each second
function health.now()
  if not ticker then health.look() end
  return told(host.health())
end

local said = "healthy"

local function tick()
  health.look()
  local now = told(host.health())
  if now.state == said then return end
  said = now.state
  if said == "healthy" then
    host.log("info", "healthy again", "health")
  else
    host.log(now.sound and "info" or "warn", ("%s: %s%s; %s"):format(said, now.message,
      now.reason and " (" .. now.reason .. ")" or "", now.advice), "health")
  end
end

--- Looks from now on, each second; what a serving host does, in one of its Lua states.
function health.start()
  if ticker then return end
  health.look()
  ticker = host.every(FRESH_S, "health", tick)
end

function health.watched() return ticker ~= nil end

function health.stop()
  if ticker then ticker:stop() end
  ticker = nil
end

return health
