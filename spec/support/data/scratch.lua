-- Things of a spec's own: a schema in the project's database, a script run by a host of its own,
-- waits for events.
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local sql      = require "moonpool.sql"

local scratch = {}

--- Makes the schema `name` as the owner, runs the statements in it, and lets the application read
--- and write its tables.
---@param name string
---@param statements string[]
function scratch.schema(name, statements)
  local owner = db.open { url = host.owner_url, max = 3 }
  owner.exec(("drop schema if exists %s cascade"):format(name))
  owner.exec(("create schema %s"):format(name))
  for _, statement in ipairs(statements) do
    for _, one in ipairs(sql.split(statement)) do owner.exec(one.sql) end
  end
  owner.exec(("grant usage on schema %s to moonpool_app"):format(name))
  owner.exec(("grant select, insert, update, delete on all tables in schema %s to moonpool_app")
    :format(name))
  owner.exec(("grant usage on all sequences in schema %s to moonpool_app"):format(name))
  local schema = { owner = owner }
  function schema.drop()
    owner.exec(("drop schema if exists %s cascade"):format(name))
    owner.close()
  end
  return schema
end

--- Statements for scratch.schema: functions by which an operation does what it may not by itself.
--- NAME.hold(key) and NAME.hold_shared(key) wait for an advisory lock of their transaction,
--- NAME.end_me() ends the backend.
---@return string
function scratch.powers(name)
  return (([[create function NAME.hold(key bigint) returns boolean language sql as
    'select pg_advisory_xact_lock(key) is null';
    create function NAME.hold_shared(key bigint) returns boolean
      language sql as 'select pg_advisory_xact_lock_shared(key) is null';
    create function NAME.end_me() returns boolean language sql as
      'select pg_terminate_backend(pg_backend_pid())';
    grant execute on all functions in schema NAME to moonpool_app]]):gsub("NAME", name))
end

--- Runs fn in a task of the host, as another session would, and gives what it gives. For use inside
--- a transaction.
function scratch.elsewhere(fn)
  local tx = host.current_tx()
  if tx then tx:flush() end
  local over, results, timer = host.signal(), nil, nil
  -- the host's own, and not what a call has started
  timer = host.every(0.001, "elsewhere", function()
    timer:stop()
    results = table.pack(pcall(fn))
    over:set()
  end)
  while not results do over:wait(60) end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- Turns the loop until fn() is true; fails after 20 seconds.
function scratch.await(what, fn)
  local limit = host.clock() + 20
  while true do
    local value = fn()
    if value then return value end
    if host.clock() > limit then error("waited 20 seconds in vain for " .. what, 2) end
    moonpool.sleep(0)
  end
end

--- Runs a Lua script in a host of its own, on the same database.
---@param text string
---@param env? table<string, string>
---@return string output, integer exit
function scratch.script(text, env)
  local folder = command.folder { ["script.lua"] = text }
  local output, code = command.run("run script.lua", { dir = folder.path, env = env })
  folder.remove()
  return output, code
end

return scratch
