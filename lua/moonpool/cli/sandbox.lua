-- `moonpool run --sandbox SCRIPT`: runs a script like the code of an operation: with the same
-- globals, and the same limits of CPU time and memory.
local errors  = require "moonpool.errors"
local host    = require "moonpool.host"
local sandbox = require "moonpool.script.sandbox"

return function(arguments)
  local path = table.remove(arguments, 1)
  local chunk, fault = sandbox.load(path, path, { print = print })
  if not chunk then error(errors.is(fault) and fault or tostring(fault), 0) end
  return host.spawn_limited(sandbox.limits, chunk, table.unpack(arguments)):wait()
end
