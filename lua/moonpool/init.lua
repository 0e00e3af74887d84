-- moonpool: what `require "moonpool"` gives.
local call       = require "moonpool.operation.call".call
local definition = require "moonpool.operation.definition"
local errors     = require "moonpool.errors"
local host       = require "moonpool.host"
local json       = require "moonpool.json"
local own_errors = require "moonpool.operation.own_errors"
local registry   = require "moonpool.operation.registry"

local moonpool = {
  version   = host.version,
  app_dir   = host.app_dir,
  null      = json.null,
  json      = json,
  decimal   = require "moonpool.decimal",
  host      = host,
  metrics   = require "moonpool.metrics",
  outbox    = require "moonpool.outbox",
  cache     = require "moonpool.cache",

  operation = definition.define,
  uuid      = host.uuid,
  now       = host.now,
  -- generation() -> { number, opened_at, files = { ["lib/tax.lua"] = hash } } that this code
  -- belongs to; nil in scripts that are run from the command line.
  generation = host.generation or function() return nil end,
}

-- A wait inside a transaction looks at what is queued first: what failed must not be waited upon.
-- In a group the others would wait too.
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

moonpool.all   = after_look(host.all, "moonpool.all")
moonpool.sleep = after_look(host.sleep, "moonpool.sleep")

-- spawn(fn, …) -> a handle: :wait() gives what fn returned, or raises its error.
local methods = { wait = after_look(function(handle) return handle[1]:wait() end, "wait") }
local Handle  = { __name = "moonpool.spawned", __index = methods }

-- cancel() -> was it still running? Ends it: its wait is over (a query is canceled on the server),
-- <close> variables run, whoever waits for it gets CANCELED.
function methods.cancel(handle) return handle[1]:cancel() end

function moonpool.spawn(...)
  -- before: a task that nobody has a handle of would run on
  local handle = setmetatable({ false }, Handle)
  handle[1] = host.spawn(...)
  return handle
end

-- timeout(seconds, fn, …) -> what fn returns. It runs in a task of its own, which is canceled when
-- the time is over.
function moonpool.timeout(seconds, fn, ...)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < math.huge) then
    error("moonpool.timeout: expected seconds, a number from 0", 2)
  end
  local late, task, alarm = false, nil, nil
  local _ <close> = setmetatable({}, { __close = function()
    if task then task:cancel() end
    if alarm then alarm:cancel() end
  end })
  task = moonpool.spawn(fn, ...)
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

-- fail(code, message, {status=, …}): ends an operation with a domain error; its transaction is
-- rolled back.
function moonpool.fail(code, message, more)
  if type(more) == "number" then
    error(
      ("moonpool.fail: the status stands in a table: moonpool.fail(code, message, { status = %s })")
        :format(more), 2)
  end
  local fault = own_errors.code_fault(code) or type(message) ~= "string"
    and "the message must be a text, not " .. type(message)
    or more ~= nil and type(more) ~= "table"
      and "what follows the message is a table: { status = 409 }"
    or more and own_errors.status_fault(more.status)
  if fault then error("moonpool.fail: " .. fault, 2) end
  local fields = { status = 400 }
  for name, value in pairs(more or {}) do fields[name] = value end
  fields.code, fields.message, fields.own_message = code, message, true
  error(errors.new(fields), 2)
end

-- call(name, input, options) -> result. `name` may be an operation's own definition. Options:
-- tenant, as (a user id), border (input is JSON as a caller sends it: camelCase). Inside an
-- operation it joins the caller's transaction.
function moonpool.call(name, input, options)
  return (call(registry.get(name), input, options))
end

-- The same, and what it took: attempts, round_trips, statements, duration_ms, lane_ms …
function moonpool.call_info(name, input, options)
  return call(registry.get(name), input, options, true)
end

moonpool.log = {}
for _, level in ipairs { "error", "warn", "info", "debug" } do
  moonpool.log[level] = function(text, ...)
    host.log(level, select("#", ...) > 0 and text:format(...) or tostring(text))
  end
end

return moonpool
