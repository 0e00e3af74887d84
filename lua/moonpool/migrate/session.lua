-- moonpool.migrate.session: the one connection that a migration uses. The same connection holds the
-- advisory lock of migrations: if the process is killed, the server releases the lock when the
-- statement that it still runs ends.
--
-- The lock is acquired by polling: a session that waits inside pg_advisory_lock() holds a snapshot,
-- and CREATE INDEX CONCURRENTLY would wait for that snapshot.
local db       = require "moonpool.db"
local moonpool = require "moonpool"
local problem  = require "moonpool.migrate.problem"

-- two int4, as in pg_locks: "moon" in ASCII, and 1 for migrations
local LOCK_KEY = "1836019566, 1"
local POLL_S   = 0.25

local session = {}

local holder_query = [[
  select a.pid, a.usename, a.application_name, coalesce(host(a.client_addr), 'local') as address,
    a.backend_start
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
   where l.locktype = 'advisory' and l.granted and l.objsubid = 2
     and l.database = (select oid from pg_database where datname = current_database())
     and (l.classid::bigint, l.objid::bigint) = (]] .. LOCK_KEY .. ")"

--- Describes the session that holds the lock; nil if the lock is free.
function session.holder(conn)
  local row = conn.first(holder_query)
  if not row then return nil end
  return string.format("process %d (%s%s, %s, connected at %s)", row.pid, row.usename or "unknown",
                       (row.application_name or "") ~= "" and ", " .. row.application_name or "",
                       row.address,
                       tostring(row.backend_start))
end

local function lock(conn, wait_s)
  local waited_s = 0
  while not conn.value("select pg_try_advisory_lock(" .. LOCK_KEY .. ")") do
    if waited_s >= wait_s then
      problem.raise(
        "another migration still runs after %g s: %s\nwait for it with --wait SECONDS, or end it \z
          with " ..
                    "select pg_terminate_backend(PID), and run migrate again", wait_s,
                    session.holder(conn) or "another session")
    elseif waited_s == 0 then
      io.stderr:write("waiting for another migration to finish: ",
                      session.holder(conn) or "another session", "\n")
    end
    moonpool.sleep(POLL_S)
    waited_s = waited_s + POLL_S
  end
end

-- For settings that some servers do not have.
local function try_set(conn, setting)
  pcall(conn.exec, "set " .. setting)
end

--- Sets the session to the settings of migrations. Resets the settings that an earlier file made.
function session.prepare(conn)
  conn.exec "reset session authorization"
  conn.exec "reset all"
  conn.exec "set statement_timeout = 0"
  conn.exec "set idle_in_transaction_session_timeout = 0"
  try_set(conn, "idle_session_timeout = 0")
  -- if the process is killed, the server ends its statement, and so releases the lock
  try_set(conn, "client_connection_check_interval = '1s'")
  conn.exec "set application_name = 'moonpool migrate'"
end

--- Sets how long a statement may wait for a lock, in milliseconds: other sessions queue behind it.
--- 0: no limit.
function session.lock_timeout(conn, ms)
  conn.exec(string.format("set lock_timeout = %d", ms))
end

--- Runs fn(conn) on a connection that holds the lock. Returns the first result of fn. `wait_s`: how
--- long to wait for another migration, in seconds; then raises a problem.
function session.with_lock(wait_s, fn)
  local ok, result
  local function locked(conn)
    session.prepare(conn)
    lock(conn, wait_s)
    ok, result = pcall(fn, conn)
    -- After a failure the connection may be lost, or in a failed transaction. Then the lock is
    -- released when the connection is closed.
    pcall(function()
      conn.value("select pg_advisory_unlock(" .. LOCK_KEY .. ")")
      conn.exec "reset session authorization"
      conn.exec "reset all"
    end)
  end
  db.lease(function(conn)
    local held, failure = pcall(locked, conn)      -- an error is raised unchanged below
    if not held then ok, result = false, failure end
  end, { timeout = 0 })
  if not ok then error(result, 0) end
  return result
end

return session
