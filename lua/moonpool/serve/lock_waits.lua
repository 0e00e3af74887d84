-- moonpool.serve.lock_waits: finds calls that wait for a lock in the database, and the holders of
-- the locks. Each one is noted as a step of the call in the recorder, and logged. The query uses
-- the host's own connection, because the waiting calls may hold all connections of the pool. The
-- front does this for all workers.
local crew = require "moonpool.serve.crew"
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

-- What all workers answer, in one list.
local function together(own, question)
  for _, one in ipairs(crew.ask(question)) do
    for _, entry in ipairs(one.answer and one.answer.list or {}) do own[#own + 1] = entry end
  end
  return own
end

-- The calls that use the holders' backends, by backend.
local function users_of(rows)
  local users, others = {}, {}
  for _, row in ipairs(rows) do
    users[row.holder] = host.backend_user(row.holder)
    if not users[row.holder] then others[#others + 1] = row.holder end
  end
  if others[1] then
    for _, user in ipairs(together({}, { what = "users", backends = others })) do
      users[user.backend] = user.text
    end
  end
  return users
end

--- Checks once the calls of all workers that have waited for an answer for at least `ms`. Queries
--- the database only if there are such calls.
---@param ms? integer  default 250
function locks.look(ms)
  ms = ms or WAIT_MS
  local backends = together(host.backends_waited_for(ms), { what = "waiting", ms = ms })
  if not backends[1] then return end
  local rows = host.database.query([[
    select distinct on (w.pid) w.pid, b.pid as holder, a.application_name as program, a.state
      from unnest(string_to_array($backends, ',')::int[]) as w (pid)
     cross join lateral unnest(pg_blocking_pids(w.pid)) as b (pid)
      left join pg_stat_activity a on a.pid = b.pid
     order by w.pid, b.pid]], { backends = table.concat(backends, ",") })
  if not rows[1] then return end
  local users, blocks = users_of(rows), {}
  for i, row in ipairs(rows) do
    blocks[i] = { backend = row.pid, holder = row.holder, text = users[row.holder] or who(row) }
    host.blocked(row.pid, row.holder, blocks[i].text)
  end
  crew.ask { what = "blocked", blocks = blocks }
end

local watch

--- From now on checks four times a second. A serving host does this in one of its Lua states.
function locks.start() watch = watch or host.every(EVERY_S, "locks", locks.look) end

function locks.stop()
  if watch then watch:stop() end
  watch = nil
end

return locks
