-- `moonpool serve`: the host that stays: loads scripts/, answers on its control socket, watches for changes, runs schedules.
local control     = require "moonpool.control"
local errors      = require "moonpool.errors"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local moonpool    = require "moonpool"
local schedules   = require "moonpool.schedules"

-- Without it a host serves all the same; only `moonpool reload` cannot find it.
local function open_control()
  local ok, place = pcall(host.control_open, control)
  if ok then return "control socket " .. place end
  host.log("warn", "no control socket: " .. (errors.is(place) and place.message or tostring(place)))
  return "no control socket"
end

return function(options)
  if not generations.reload().ok then
    io.stderr:write "moonpool serve: nothing is served until the faults above are gone\n"
    return 1
  end
  host.log("info", ("serving %s, %s"):format(host.app_dir, open_control()))
  generations.watch(options.watch)
  local jobs = moonpool.spawn(schedules.run)
  host.wait_stop()
  schedules.stop()
  jobs:wait()
  return 0
end
