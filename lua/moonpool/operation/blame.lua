-- moonpool.operation.blame: why a delivery failed: because of the message itself, or because of the
-- moment (the host, the database or the operator was not ready).
local codes  = require "moonpool.script.codes"
local errors = require "moonpool.errors"

local blame = {}

-- Codes with which the message did not reach the database.
local unreached = { NO_DATABASE = true, CLOSED = true, BUSY = true, CANCELED = true,
                    CONNECTION_LOST = true, OUTCOME_UNKNOWN = true }

-- True if at that moment every message would have failed: a code whose status means "later", or
-- OUT_OF_MEMORY, because the host itself may be short of memory.
local function is_untimely(code)
  local status = codes[code] and codes[code].status
  return status == 503 or status == 504 or code == "OUT_OF_MEMORY"
end

-- SQLSTATEs, or their classes, that say nothing about the message: connection errors (08),
-- read-only server (25006), rolled back and may be retried (40), resources (53), locks and objects
-- in use (55), operator (57), system (58), missing privileges (42501).
local untimely_states = { ["08"] = true, ["25006"] = true, ["40"] = true, ["53"] = true,
                          ["55"] = true,
                          ["57"] = true, ["58"] = true, ["42501"] = true }

--- What a failed delivery is due to. "message": it counts as a delivery. "moment": it does not
--- count, and is retried with back-off. "host": like "moment", and the database was not reached.
---@return "message"|"moment"|"host"
function blame.of(failure)
  if not errors.is(failure) then return "message" end
  local state = failure.sqlstate
  -- The script called moonpool.fail; the code that it chose does not matter.
  if failure.own_message and not state then return "message" end
  if unreached[failure.code] then return "host" end
  local by_state = state and (untimely_states[state] or untimely_states[state:sub(1, 2)])
  return (by_state or is_untimely(failure.code)) and "moment" or "message"
end

return blame
