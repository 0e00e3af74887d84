-- moonpool.watch.health: the host's state (src/pool/health.h lists the states), and what to do
-- about it. A check queries the database over the host's own connection. The state of the pool is
-- known without a query.
local host  = require "moonpool.host"
local rules = require "moonpool.alerts.rules"

local health = {}

local FRESH_S = 1    -- the result of a check is used for this long
local LOOK_MS = 2000 -- time for the database to answer

-- Messages that are shown without a token, so they have no address and no name.
local messages = {
  saturated   = "all database connections are in use; calls wait for one",
  read_only   = "the database takes no writes; what only reads is served",
  unreachable = "the database does not answer; calls wait for it, then fail with 503",
  draining    = "the host is stopping: it ends its work and takes none",
}

-- Used instead of `messages`, by the SQLSTATE with which the server refused the connection.
local refusals = {
  ["28P01"] = "the database refused the host's password",
  ["28000"] = "the database refused the host's role",
  ["3D000"] = "the database server has no database of this name",
  ["53300"] = "the database server has no connection left to give",
  ["57P03"] = "the database server is starting up or shutting down",
}

-- Advice for the operator: state -> action.
local advice = {}
for _, rule in ipairs(rules) do
  if rule.state then advice[rule.state] = rule.action end
end

local looking, looked_at, ticker = false, nil, nil

--- Checks the database now, unless a check is running or was made within FRESH_S seconds.
function health.look()
  if looking or looked_at and host.clock() - looked_at < FRESH_S then return end
  looking = true
  -- A close variable, so that it is reset even if the checking task is ended.
  local _ <close> = setmetatable({}, { __close = function() looking = false end })
  host.look(LOOK_MS)
  looked_at = host.clock()
end

-- A busy pool of another worker counts as one of this worker does.
local function told(now)
  local peer = now.state == "healthy" and host.saturated_elsewhere and host.saturated_elsewhere()
  if peer then
    now.state = "saturated"
    for name, value in pairs(peer) do now[name] = value end
  end
  now.message = refusals[now.sqlstate] or messages[now.state]
  now.advice = advice[now.state] -- nil: healthy
  return now
end

--- { state =, works =, sound =, seconds =, message =, advice =, reason =, sqlstate =, failures =,
--- holders =, full_s =, waited_s = }. Checks the database first, unless health.start checks it
--- every second.
function health.now()
  if not ticker then health.look() end
  return health.known()
end

--- The same without a check.
function health.known() return told(host.health()) end

local said = "healthy"

local function tick()
  health.look()
  local now = health.known()
  if now.state == said then return end
  said = now.state
  if said == "healthy" then
    host.log("info", "healthy again", "health")
  else
    host.log(now.sound and "info" or "warn", ("%s: %s%s; %s"):format(said, now.message,
      now.reason and " (" .. now.reason .. ")" or "", now.advice), "health")
  end
end

--- From now on checks every second. A serving host does this in one of its Lua states.
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
