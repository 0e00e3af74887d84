-- Operations written inside of a spec, and what specs of transactions expect of them.
local definition = require "moonpool.operation.definition"
local failure    = require "spec.support.data.failure"
local host       = require "moonpool.host"
local moonpool   = require "moonpool"
local pool       = require "moonpool.pool"
local scratch    = require "spec.support.data.scratch"

local inline = {}

--- An operation of run(tx, input); `fields` are what else its definition has. `name`: calls that
--- wait for each other need a name of their own, for the calls of one name share a brake.
function inline.define(run, fields, name)
  local given = { run = run }
  for field, value in pairs(fields or {}) do given[field] = value end
  local op = moonpool.operation(given)
  if name then definition.of(op).name = name end
  return op
end

--- Runs it, and gives its result.
function inline.call(run, fields, input)
  return (moonpool.call(inline.define(run, fields), input or {}))
end

--- Runs it, and gives the error; it must fail.
function inline.refusal(run, fields, input)
  return failure(inline.call, run, fields, input)
end

--- Waits until no connection is out and no backend is inside of a transaction.
---@param owner moonpool.db
function inline.everything_is_given_back(owner)
  scratch.await("the connections to come back", function()
    return host.pool_stats().active_connections == 0
  end)
  scratch.await("the server to be idle", function()
    return owner.value [[
      select count(*) = 0 from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid()
         and backend_type = 'client backend'
         and state <> 'idle']]
  end)
end

--- The host's pool has at most `max` connections while fn runs.
function inline.with_pool_of(max, fn)
  local stats = host.pool_stats()
  pool.resize(0, max)
  local ok, e = pcall(function()
    scratch.await("the pool to shrink", function()
      return host.pool_stats().total_connections <= max
    end)
    fn()
  end)
  pool.resize(stats.min, stats.max)
  if not ok then error(e, 0) end
end

--- Expects the text to contain each of the parts.
function inline.contains(text, ...)
  for _, part in ipairs { ... } do
    if not tostring(text):find(part, 1, true) then
      error(("%q is not in: %s"):format(part, tostring(text)), 2)
    end
  end
end

--- The line that calls it, as errors show it: "tx_spec.lua:12".
function inline.here()
  local info = debug.getinfo(2, "Sl")
  return ("%s:%d"):format(info.short_src:match "[^/]*$", info.currentline)
end

return inline
