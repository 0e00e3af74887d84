-- `moonpool serve`: the host as a server: loads scripts/, answers on its control socket and over
-- HTTP, watches for changes, runs schedules.
local alerts      = require "moonpool.alerts"
local control     = require "moonpool.serve.control"
local crew        = require "moonpool.serve.crew"
local errors      = require "moonpool.errors"
local generations = require "moonpool.generations"
local health      = require "moonpool.watch.health"
local host        = require "moonpool.host"
local jobs        = require "moonpool.serve.jobs"
local locks       = require "moonpool.serve.lock_waits"
local moonpool    = require "moonpool"
local otlp        = require "moonpool.watch.otlp"
local pages       = require "moonpool.serve.pages"
local pooler      = require "moonpool.serve.pooler"
local role        = require "moonpool.serve.role"
local schedules   = require "moonpool.serve.schedules"
local standing    = require "moonpool.serve.standing"
local supervisor  = require "moonpool.serve.supervisor"
local tokens      = require "moonpool.serve.tokens"
local webhook     = require "moonpool.watch.webhook"

-- Without a control socket the host serves; only `moonpool reload` cannot find it.
local function open_control()
  local ok, place = pcall(host.control_open, control)
  if ok then return "control socket " .. place end
  host.log("warn", "no control socket: " .. (errors.is(place) and place.message or tostring(place)))
  return "no control socket"
end

-- Raises USAGE for an address that other machines can reach, unless the database has a token.
local function open_http(address, port)
  local own = address:find "^127%." or address == "::1"
  if not own and not tokens.exist() then
    error(errors.new { code = "USAGE", status = 400,
      message = (
        "%s can be reached from other machines, and the database has no token yet; make one " ..
                 "with moonpool token create"):format(address) }, 0)
  end
  port = host.http_open(pages, tokens.find, address, port)
  return ("http://%s:%d"):format(address:find ":" and "[" .. address .. "]" or address, port)
end

-- Raises as open_http. Returns where clients find the host, for people.
local function start_http(address, port)
  if not address then return "no HTTP" end
  local place = "listening on " .. open_http(address, port)
  host.log("info", place)
  return place
end

-- Calls fn. Returns nil, or prints the error that fn raised and returns the exit code: 2 for a
-- wrong setting, 3 without a database, else 1.
local function failed(fn, ...)
  local ok, fault = pcall(fn, ...)
  if ok then return nil end
  io.stderr:write("moonpool serve: ", errors.is(fault) and fault.message or tostring(fault), "\n")
  local code = errors.is(fault) and fault.code
  return code == "USAGE" and 2 or code == "NO_DATABASE" and 3 or 1
end

local function stop_sending()
  webhook.stop()
  otlp.stop()
end

return function(options)
  -- on every return: the tasks that send would keep the process from ending
  local _ <close> = setmetatable({}, { __close = stop_sending })
  local status = options.alert_webhook and failed(webhook.start, options.alert_webhook)
  status = status or options.otlp_endpoint and failed(otlp.start, options.otlp_endpoint)
  if status then return status end
  if not generations.reload().ok then
    io.stderr:write "moonpool serve: nothing is served until the faults above are gone\n"
    return 1
  end
  status = options.require_migrated and failed(standing.require)
  if status then return status end
  local place
  status = failed(function() place = start_http(options.address, options.port) end)
  if status then return status end
  host.log("info", ("serving %s, workers: %d, %s"):format(host.app_dir, host.workers or 1,
    open_control()))
  generations.watch(options.watch)
  role.check()
  local code = 0
  local function give_up(why, exit_code)
    io.stderr:write("moonpool serve: ", why, "\n")
    code = exit_code
    host.stop()
  end
  pooler.check(function(why) give_up(why, 2) end)
  health.start()
  alerts.start()
  local looks = standing.start()
  locks.start()
  moonpool.spawn(jobs.run)
  supervisor.start(options.supervisor, place)
  while not host.wait_stop(1) do
    schedules.tick()
    crew.lend()
    local fault = crew.lost(options.worker_timeout)
    if fault then give_up(fault .. ": the host ends", 1) end
  end
  supervisor.stop()
  jobs.stop()
  looks:stop()
  health.stop()
  alerts.stop()
  locks.stop()
  return code
end
