-- moonpool.serve.housekeeping: deletes old rows of the host's own tables: witnesses and delivered
-- messages. Any host may do this, at any time: a function of the database decides which rows are
-- old and not needed any more.
local host  = require "moonpool.host"
local store = require "moonpool.outbox.store"

local housekeeping = {}

local MOST    = 1000       -- rows in one statement
local EVERY_S = 600

local next_at = 0

-- run{keep=hours} -> { witnesses=, messages= }: the numbers of deleted rows. keep: default
-- MOONPOOL_KEEP_HOURS.
function housekeeping.run(options)
  local keep = options and options.keep or host.keep_hours
  local gone = { witnesses = 0, messages = 0 }
  repeat
    local row = store.with(function(conn)
      return conn.one(
        "select witnesses, messages from moonpool.prune(make_interval(secs => $seconds), $most)",
                      { seconds = keep * 3600, most = MOST })
    end)
    gone.witnesses, gone.messages = gone.witnesses + row.witnesses, gone.messages + row.messages
  until row.witnesses < MOST and row.messages < MOST
  return gone
end

-- The relay and the jobs call this often. It starts a run about every EVERY_S seconds, in its own
-- task.
function housekeeping.turn()
  local now = host.clock()
  if now < next_at then return end
  next_at = now + EVERY_S * (0.75 + math.random() / 2)
  host.spawn(function()
    local ok, failure = pcall(housekeeping.run)
    if not ok then
      host.log("warn", "housekeeping failed and is tried again later: " .. tostring(failure))
    end
  end)
end

return housekeeping
