-- The supervisor that started the host, such as systemd (Type=notify): it is told each second that
-- the host serves, so that a message that was lost is made good by the next, and a host that no
-- longer says anything is noticed (WatchdogSec=).
local generations = require "moonpool.generations"
local host        = require "moonpool.host"

local supervisor = {}

local PERIOD_S = 1

local socket, period, silent

-- A supervisor that cannot be reached is logged once.
local function tell(text)
  local fault = host.notify(socket, text)
  if fault and not silent then
    host.log("warn", "the supervisor (NOTIFY_SOCKET) was not told: " .. fault)
  end
  silent = fault ~= nil
end

local function serves(place)
  tell(("READY=1\nWATCHDOG=1\nSTATUS=generation %d of scripts/, %s"):format(
    generations.current(), place))
end

--- From now on the supervisor is told that the host serves.
---@param address? string  NOTIFY_SOCKET; nil: nobody wants to know
---@param place string  where it listens, for people
function supervisor.start(address, place)
  if not address or period then return end
  socket = address
  serves(place)
  period = host.every(PERIOD_S, "supervisor", function() serves(place) end)
end

function supervisor.stop()
  if not period then return end
  period:stop()
  period = nil
  tell "STOPPING=1"
end

return supervisor
