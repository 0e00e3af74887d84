-- moonpool.serve.jobs: the background work of a serving host: the outbox's relay for the
-- subscribers of the current generation, and housekeeping.
local errors       = require "moonpool.errors"
local generations  = require "moonpool.generations"
local host         = require "moonpool.host"
local housekeeping = require "moonpool.serve.housekeeping"
local json         = require "moonpool.json"
local moonpool     = require "moonpool"
local outbox       = require "moonpool.outbox"

local jobs = {}

local AGAIN_S = 30 -- pause after a failure

-- The subscribers of the current generation: name -> the description of its operation.
local function subscribers()
  local found = {}
  for _, op in ipairs(generations.operations()) do
    if op.on then found[op.name] = op end
  end
  return found
end

-- Delivers a message to its subscriber in the current generation.
local function hand_over(_, name, message, xid)
  local payload = message.payload
  message.payload = nil
  local text = json.encode { message = message, xid = xid, payload = payload }
  local _, answer = generations.call_json(name, text, { entry = "moonpool.outbox.entry" })
  if answer ~= "true" then error(errors.new(json.decode(answer)), 0) end
end

local nap -- the task that sleeps during a pause

local function rest(seconds)
  nap = host.spawn(moonpool.sleep, seconds)
  pcall(nap.wait, nap)
  nap = nil
end

local function work()
  local number, found = generations.current(), subscribers()
  local function stop() return generations.current() ~= number end
  if next(found) then
    outbox.run { subscribers = found, deliver = hand_over, stop = stop }
  else
    housekeeping.turn()
    rest(1)
  end
end

-- Runs until the host is told to stop. When the generation changes, the relay waits for the
-- deliveries that are running, and then serves the subscribers of the new generation.
function jobs.run()
  local said
  while not host.stopping() do
    local ok, failure = pcall(work)
    if ok then
      said = nil
    else
      failure = tostring(failure)
      if failure ~= said then
        host.log("warn", "the relay and housekeeping start again: " .. failure)
      end
      said = failure
      local till = host.clock() + AGAIN_S
      while not host.stopping() and host.clock() < till do rest(1) end
    end
  end
end

-- Ends a pause at once, because the host stops.
function jobs.stop()
  if nap then nap:cancel() end
end

return jobs
