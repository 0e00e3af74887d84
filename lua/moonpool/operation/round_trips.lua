-- moonpool.operation.round_trips: an operation may say how many round trips it takes at most. A
-- call that took more fails where results are judged, too (output.lua): in specs and under
-- `moonpool call`. A retry counts anew.
local errors = require "moonpool.errors"
local output = require "moonpool.operation.output"

local round_trips = {}

--- Whether a call of the operation is counted.
function round_trips.wanted(op) return op.round_trips and output.mode == "refuse" end

--- `info`: what the call consumed; nil if there was no memory for it.
function round_trips.judge(op, info)
  if not info or info.recalled or info.round_trips <= op.round_trips then return end
  error(errors.new { code = "SCRIPT_ERROR", status = 500, operation = op.name,
    message = ("%s took %d round trips, and its definition says at most %d; `moonpool explain %s` \z
      shows why each was needed (its work is stored)")
      :format(op.name, info.round_trips, op.round_trips, op.name) }, 0)
end

return round_trips
