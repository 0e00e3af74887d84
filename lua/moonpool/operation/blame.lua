-- moonpool.operation.blame: what a failed delivery says: something of the message, or only of the
-- moment.
local codes  = require "moonpool.script.codes"
local errors = require "moonpool.errors"

local blame = {}

-- The host had no chance to deliver it.
local unreached = { NO_DATABASE = true, CLOSED = true, BUSY = true, CANCELED = true,
                    CONNECTION_LOST = true, OUTCOME_UNKNOWN = true }

-- It was tried when the host, the database or the operator was not ready for any message: codes
-- whose status says "later", and this one, which may be the host's shortage.
local function is_untimely(code)
  local status = codes[code] and codes[code].status
  return status == 503 or status == 504 or code == "OUT_OF_MEMORY"
end

-- SQLSTATEs, or their classes: connections, read-only servers (25006), rolled back to be retried,
-- resources, locks and objects in use, the operator (57), the system (58), missing privileges.
local untimely_states = { ["08"] = true, ["25006"] = true, ["40"] = true, ["53"] = true,
                          ["55"] = true,
                          ["57"] = true, ["58"] = true, ["42501"] = true }

--- "message": it counts as a delivery; "moment": it is tried again with back-off and does not
--- count; "host": the same, and the database was not reached.
---@return "message"|"moment"|"host"
function blame.of(failure)
  if not errors.is(failure) then return "message" end
  local state = failure.sqlstate
  -- moonpool.fail, whatever it calls itself.
  if failure.own_message and not state then return "message" end
  if unreached[failure.code] then return "host" end
  local by_state = state and (untimely_states[state] or untimely_states[state:sub(1, 2)])
  return (by_state or is_untimely(failure.code)) and "moment" or "message"
end

return blame
