-- `moonpool ops`: the operations of scripts/, and the files that define none although they should.
local columns    = require "moonpool.cli.table_text"
local describe   = require "moonpool.operation.describe"
local fault_text = require "moonpool.operation.fault_text"
local registry   = require "moonpool.operation.registry"
local sorted     = require "moonpool.script.sorted"

-- Who calls it, where that is not an HTTP client or `moonpool call`.
local function called_by(op)
  if op.on then return "on " .. op.on end
  if op.every then return "every " .. op.every end
  return op.internal and "internal" or ""
end

-- What files that cannot be loaded say.
local function tell_broken()
  for _, name in ipairs(registry.broken_names()) do
    io.stderr:write("moonpool ops: ", fault_text(registry.broken[name], name .. ".lua"), "\n")
  end
  for _, why in pairs(registry.unreachable) do io.stderr:write("moonpool ops: ", why, "\n") end
end

local function list()
  local names, rows = sorted(registry.operations), {}
  for i, name in ipairs(names) do
    local op = registry.operations[name]
    rows[i] = { name, called_by(op), op.summary or "" }
  end
  for _, line in ipairs(columns(rows)) do print(line) end
  if not names[1] and not registry.broken_names()[1] then
    print "there is no operation yet; `moonpool new op NAME` writes one"
  end
end

return function(arguments)
  local json = arguments[1] == "--json"
  if arguments[json and 2 or 1] then
    io.stderr:write(("moonpool ops: unknown argument %q; see: moonpool ops --help\n")
      :format(arguments[json and 2 or 1]))
    return 2
  end
  registry.load()
  if json then print(describe()) else list() end
  tell_broken()
  return registry.broken_names()[1] and 1 or 0
end
