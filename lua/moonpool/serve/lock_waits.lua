-- moonpool.serve.lock_waits: finds calls that wait for a lock in the database, and the holders of
-- the locks. Each one is noted as a step of the call in the recorder, and logged. The query uses
-- the host's own connection, because the waiting calls may hold all connections of the pool.
local host = require "moonpool.host"

local locks = {}

local EVERY_S = 0.25
local WAIT_MS = 250 -- a call that waits this long for an answer is checked

-- Describes the holder of a lock that no call of this host holds. PostgreSQL may hide the state of
-- another user's session.
local function who(row)
  if row.holder == 0 then return "a prepared transaction" end
  local known = {}
  if (row.program or "") ~= "" then known[1] = row.program end
  known[#known + 1] = row.state
  return known[1] and ("no call of this host (%s)"):format(table.concat(known, ", "))
    or "no call of this host"
end

--- Checks once the calls that have waited for an answer for at least `ms`. Queries the database
--- only if there are such calls.
---@param ms? integer  default 250
function locks.look(ms)
  local backends = host.backends_waited_for(ms or WAIT_MS)
  if not backends[1] then return end
  local rows = host.database.query([[
    select distinct on (w.pid) w.pid, b.pid as holder, a.application_name as program, a.state
      from unnest(string_to_array($backends, ',')::int[]) as w (pid)
     cross join lateral unnest(pg_blocking_pids(w.pid)) as b (pid)
      left join pg_stat_activity a on a.pid = b.pid
     order by w.pid, b.pid]], { backends = table.concat(backends, ",") })
  for _, row in ipairs(rows) do host.blocked(row.pid, row.holder, who(row)) end
end

local watch

--- From now on checks four times a second. A serving host does this in one of its Lua states.
function locks.start() watch = watch or host.every(EVERY_S, "locks", locks.look) end

function locks.stop()
  if watch then watch:stop() end
  watch = nil
end

return locks
