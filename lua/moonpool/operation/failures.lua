-- moonpool.operation.failures: counts and reports failed calls, from every kind of caller. They are
-- counted by operation, code and fault ("caller", "operator" or "transient"). A failure that is not
-- the caller's fault is written to the log, with the ids of the call.
local border = require "moonpool.operation.border"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local failures = {}

-- The ids for the log: the call's own, and those under which the caller knows the call.
local function about_of(name, e, origin)
  local about = { operation = name, call_id = e.call_id }
  for id, value in pairs(origin or {}) do about[id] = value end
  return about
end

--- name: of the operation; input: the call's input (a value, or JSON text), whose values the log
--- must not show; shown: the caller reports the error itself, so it is only counted.
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
