-- moonpool.script.tasks: the functions all, sleep, spawn and timeout of moonpool.
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local tasks = {}

-- Wraps a function that waits. Inside a transaction it first flushes the queued statements and
-- waits for their answers: if one has failed, it raises and does not wait. An operation with
-- `group` must not wait, because the other calls of its group would wait too.
local function after_look(wait, name)
  return function(...)
    local tx = host.current_tx()
    if tx and tx.grouped then
      error(errors.new { code = "INVALID_ARGUMENT", status = 500,
        message = ("%s: an operation with `group` may wait for nothing but its statements")
          :format(name) }, 2)
    end
    if tx then tx:flush() end
    return wait(...)
  end
end

tasks.all   = after_look(host.all, "moonpool.all")
tasks.sleep = after_look(host.sleep, "moonpool.sleep")

-- spawn(fn, …) -> a handle; handle:wait() returns the results of fn, or raises its error.
local methods = { wait = after_look(function(handle) return handle[1]:wait() end, "wait") }
local Handle  = { __name = "moonpool.spawned", __index = methods }

-- cancel() ends the task: its wait is abandoned (a query is canceled on the server), its <close>
-- variables run, a task that waits for it gets CANCELED. -> true if the task was still running
function methods.cancel(handle) return handle[1]:cancel() end

function tasks.spawn(...)
  local handle = setmetatable({ false }, Handle) -- made first: if this fails, no task starts
  handle[1] = host.spawn(...)
  return handle
end

-- timeout(seconds, fn, …) -> the results of fn. fn runs in a separate task, which is canceled when
-- the time is over; DEADLINE_EXCEEDED is raised then.
function tasks.timeout(seconds, fn, ...)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < math.huge) then
    error("moonpool.timeout: expected seconds, a number from 0", 2)
  end
  local late, task, alarm = false, nil, nil
  local _ <close> = setmetatable({}, { __close = function()
    if task then task:cancel() end
    if alarm then alarm:cancel() end
  end })
  task = tasks.spawn(fn, ...)
  alarm = host.spawn(function()
    host.sleep(seconds)
    late = true
    task:cancel()
  end)
  local results = table.pack(pcall(task.wait, task))
  if results[1] then return table.unpack(results, 2, results.n) end
  if late then
    error(errors.new { code = "DEADLINE_EXCEEDED", status = 504,
      message = ("it took longer than the %g seconds that moonpool.timeout gave it")
        :format(seconds) }, 2)
  end
  error(results[2], 0)
end

return tasks
