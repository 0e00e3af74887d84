-- moonpool.operation.round_trips: an operation may say how many round trips it takes at most; in
-- specs a call that took more fails. A retry counts anew. A call with an idempotency key is not
-- counted, since the key costs round trips of its own.
local errors = require "moonpool.errors"

local round_trips = { counted = false }

--- Whether a call of the operation is counted.
function round_trips.wanted(op, key) return round_trips.counted and op.round_trips and not key end

--- `info`: what the call consumed; nil if there was no memory for it.
function round_trips.judge(op, info)
  if not info or info.round_trips <= op.round_trips then return end
  error(errors.new { code = "SCRIPT_ERROR", status = 500, operation = op.name,
    message = ("%s took %d round trips, and its definition says at most %d; `moonpool explain %s` \z
      shows why each was needed (its work is stored)")
      :format(op.name, info.round_trips, op.round_trips, op.name) }, 0)
end

return round_trips
