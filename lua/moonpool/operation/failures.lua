-- moonpool.operation.failures: what becomes known of a call that has failed, whoever made it: it is
-- counted by operation, code and whose fault it is; what the operator has to mend stands in the
-- log, with its ids.
local border = require "moonpool.operation.border"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local failures = {}

-- The ids under which the caller knows it, and the call's own.
local function about_of(name, e, origin)
  local about = { operation = name, call_id = e.call_id }
  for id, value in pairs(origin or {}) do about[id] = value end
  return about
end

--- name: of the operation; input: what was given (a value, or JSON text), whose values the log must
--- not show; shown: whoever called tells the error himself.
function failures.tell(name, e, input, origin, shown)
  local known = errors.of(e)
  local about = about_of(name, known, origin)
  local fault = host.call_failed(name, known.code, known.status, about.call_id)
  if fault == "caller" or shown then return end
  local text = ("%s failed: %s"):format(name, border.detail(e, input))
  if fault == "operator" then
    host.log("error", text, "call", about)
  else
    host.log("warn", text:match "^[^\n]*", "call", about) -- without the traceback
  end
end

return failures
