-- moonpool.operation.fault_text: the fault of a file of scripts/ in the form of compilers:
-- "scripts/create_order.lua:12: message".
local errors = require "moonpool.errors"

--- fault: what its loading raised; file: its path below scripts/.
return function(fault, file)
  local message = errors.is(fault) and fault.message or tostring(fault)
  if message:find "^scripts/[^\n:]+:%d+: " then return message end
  return ("%s: %s"):format(errors.is(fault) and fault.line or "scripts/" .. file, message)
end
