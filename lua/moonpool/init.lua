-- moonpool: the module that `require "moonpool"` returns.
local call       = require "moonpool.operation.call".call
local definition = require "moonpool.operation.definition"
local errors     = require "moonpool.errors"
local host       = require "moonpool.host"
local json       = require "moonpool.json"
local own_errors = require "moonpool.operation.own_errors"
local registry   = require "moonpool.operation.registry"
local tasks      = require "moonpool.script.tasks"

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
  -- generation() -> { number, opened_at, files = { ["lib/tax.lua"] = hash } } of the generation
  -- that this code belongs to; nil in scripts that are run from the command line.
  generation = host.generation or function() return nil end,

  all       = tasks.all,
  sleep     = tasks.sleep,
  spawn     = tasks.spawn,
  timeout   = tasks.timeout,
}

-- fail(code, message, {status=, …}): ends an operation with an error of the application; its
-- transaction is rolled back.
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

-- call(name, input, options) -> result. `name` may also be the object that moonpool.operation made.
-- Options: tenant, as (a user id), border (the input is spelled as in a caller's JSON: camelCase).
-- Inside an operation the call joins the running transaction.
function moonpool.call(name, input, options)
  return (call(registry.get(name), input, options))
end

-- The same, with a second result: attempts, round_trips, statements, duration_ms, lane_ms …
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
