-- moonpool.script.tasks: all, sleep, spawn and timeout of moonpool.
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local tasks = {}

-- A wait inside of a transaction first sends the queued statements and waits for their answers:
-- after a failed statement there is nothing to wait for. In a group the other calls would wait too.
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

-- spawn(fn, …) -> a handle: :wait() gives what fn returned, or raises its error.
local methods = { wait = after_look(function(handle) return handle[1]:wait() end, "wait") }
local Handle  = { __name = "moonpool.spawned", __index = methods }

-- cancel() -> was the task still running? Ends it: its wait is over (a query is canceled on the
-- server), its <close> variables run, a waiter gets CANCELED.
function methods.cancel(handle) return handle[1]:cancel() end

function tasks.spawn(...)
  local handle = setmetatable({ false }, Handle) -- first: without memory for it no task starts
  handle[1] = host.spawn(...)
  return handle
end

-- timeout(seconds, fn, …) -> what fn returns. It runs in a task of its own, which is canceled when
-- the time is over.
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
