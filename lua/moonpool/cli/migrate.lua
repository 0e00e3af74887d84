-- `moonpool migrate`: brings the database to the state of the project's migrations/.
--
-- A migration is migrations/NNNN_name.sql. What stands before the line `-- migrate:down` is applied in one transaction,
-- statement by statement, together with the migration's record in moonpool_migrations; what stands after it undoes it.
-- A file is never edited once applied: its record keeps a checksum of what PostgreSQL's scanner sees, comments and white
-- space apart. The host connects this command as the owner. One runner works at a time: it holds a session advisory lock
-- on a connection of its own, taken by polling, for a waiter inside pg_advisory_lock() holds a snapshot that CREATE INDEX
-- CONCURRENTLY would wait for.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local sql      = require "moonpool.sql"
local lfs      = require "lfs"

local LOCK_KEY         = "1836019566, 1"    -- two int4, as pg_locks shows them: "moon" in ASCII, and the purpose
local LOCK_WAIT_S      = 60
local LOCK_POLL_S      = 0.25
local LOCK_TIMEOUT     = "10s"              -- for a table that others use; without it all of them would queue behind us
local FILE_TIME_S      = 3600

local usage = [[
usage: moonpool migrate [up | status] [--json | --quiet]
  up       apply what is pending (default)
  status   list the migrations and which are applied]]

-- The files ------------------------------------------------------------------------------------------------------------

---@class migration
---@field version integer
---@field file string       "0001_core.sql"
---@field path string
---@field up string         text before `-- migrate:down`
---@field checksum string

-- A problem that is the user's to solve: printed as it is, without a traceback.
local Problem = { __tostring = function(problem) return problem.message end }

local function problem(format, ...)
  error(setmetatable({ message = string.format(format, ...) }, Problem), 0)
end

local function read_file(path)
  local file, reason = io.open(path, "rb")
  if not file then problem("cannot read the migration: %s", reason) end
  local text = file:read "a"
  file:close()
  return text
end

-- The text up to the marker, which stands alone on a line.
local function up_part(text)
  local marker = ("\n" .. text):find("\n%-%-[ \t]*migrate:down[ \t]*\r?\n")
                 or ("\n" .. text):find("\n%-%-[ \t]*migrate:down[ \t]*$")
  return marker and text:sub(1, marker - 1) or text
end

local function load_migration(dir, file)
  local migration = { version = math.tointeger(tonumber(file:match "^%d+")), file = file, path = dir .. "/" .. file }
  migration.up = up_part(read_file(migration.path))
  local ok, checksum = pcall(sql.checksum, migration.up)
  if not ok then problem("%s: %s", migration.path, tostring(checksum)) end
  migration.checksum = checksum
  return migration
end

--- The project's migrations in the order of their numbers.
---@return migration[]
local function load_all(dir)
  if lfs.attributes(dir, "mode") ~= "directory" then
    problem("there is no folder %s: run moonpool in the project's folder, or name it with --app DIR", dir)
  end
  local migrations, by_version = {}, {}
  for file in lfs.dir(dir) do
    if file:match "%.sql$" and not file:match "^%." then
      if not file:match "^%d+_[%w_-]+%.sql$" then
        problem("%s/%s: a migration is called NNNN_name.sql, such as 0002_appointments.sql: rename it", dir, file)
      end
      local migration = load_migration(dir, file)
      local twin = by_version[migration.version]
      if twin then
        problem("%s/%s and %s have the same number %d: give one of them the next free number", dir, file, twin.file,
                migration.version)
      end
      by_version[migration.version] = migration
      migrations[#migrations + 1] = migration
    end
  end
  table.sort(migrations, function(a, b) return a.version < b.version end)
  return migrations
end

-- The record -----------------------------------------------------------------------------------------------------------

local function has_record()
  return db.value "select to_regclass('public.moonpool_migrations') is not null"
end

local function create_record()
  if has_record() then return end
  db.exec [[
    create table if not exists public.moonpool_migrations (
      version     bigint      not null,
      name        text        not null,
      checksum    text        not null,
      applied_at  timestamptz not null default now(),
      duration_ms integer     not null,
      statements  integer     not null,
      constraint moonpool_migrations_pkey primary key (version)
    )]]
end

local function applied_rows()
  if not has_record() then return {} end
  return db.query [[
    select version, name, checksum, applied_at, duration_ms, statements from public.moonpool_migrations order by version]]
end

--- Compares files and record: what is pending, or the first thing that is wrong.
---@return migration[] pending
local function pending_of(dir, migrations, rows)
  local by_version, newest = {}, nil
  for _, migration in ipairs(migrations) do by_version[migration.version] = migration end
  local applied = {}
  for _, row in ipairs(rows) do
    local migration = by_version[row.version]
    if not migration then
      problem("%s/%s was applied to this database at %s, but the file is missing: bring it back (from version control, " ..
              "or by updating this checkout)", dir, row.name, row.applied_at)
    end
    if migration.checksum ~= row.checksum then
      problem("%s was changed after it was applied at %s:\n  applied  %s\n  file     %s\n" ..
              "undo the change, and write a new migration for what is to be different",
              migration.path, row.applied_at, row.checksum, migration.checksum)
    end
    applied[row.version], newest = true, migration
  end
  local pending = {}
  for _, migration in ipairs(migrations) do
    if not applied[migration.version] then
      if newest and migration.version < newest.version then
        problem("%s is not applied, but the later %s is: give it a number after all applied ones", migration.path, newest.file)
      end
      pending[#pending + 1] = migration
    end
  end
  return pending
end

-- The lock -------------------------------------------------------------------------------------------------------------

local function lock_holder(conn)
  local rows = conn.query([[
    select a.pid, a.usename, a.application_name, coalesce(host(a.client_addr), 'local') as address, a.backend_start
      from pg_locks l join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 2
       and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint, l.objid::bigint) = (]] .. LOCK_KEY .. ")")
  local row = rows[1]
  if not row then return "another session" end
  return string.format("process %d (%s%s, %s, connected at %s)", row.pid, row.usename or "unknown",
                       (row.application_name or "") ~= "" and ", " .. row.application_name or "", row.address,
                       tostring(row.backend_start))
end

--- Runs fn while this session holds the lock, and gives what it returns. The connection is leased for that long, so that
--- the lock stays ours.
local function with_lock(fn)
  local ok, result
  local function locked(conn)
    local waited_s = 0
    while not conn.value("select pg_try_advisory_lock(" .. LOCK_KEY .. ")") do
      if waited_s == 0 then
        io.stderr:write("waiting for another migration to finish: ", lock_holder(conn), "\n")
      elseif waited_s >= LOCK_WAIT_S then
        problem("another migration still runs after %d s: %s\nwait for it, or end it with select pg_terminate_backend(PID), " ..
                "and run migrate again", LOCK_WAIT_S, lock_holder(conn))
      end
      moonpool.sleep(LOCK_POLL_S)
      waited_s = waited_s + LOCK_POLL_S
    end
    ok, result = pcall(fn)
    conn.value("select pg_advisory_unlock(" .. LOCK_KEY .. ")")
  end
  db.lease(function(conn)
    local held, failure = pcall(locked, conn)      -- what fails in here is raised outside, as it is
    if not held then ok, result = false, failure end
  end)
  if not ok then error(result, 0) end
  return result
end

-- up -------------------------------------------------------------------------------------------------------------------

local function first_line(text)
  return (tostring(text):match "^%s*([^\n]*)")
end

local function statement_report(migration, statement, failure)
  local lines = { string.format("%s:%d: %s", migration.path, statement.line, failure.message or tostring(failure)) }
  local function add(label, text)
    if text then lines[#lines + 1] = string.format("  %-10s%s", label, text) end
  end
  add("SQLSTATE", failure.sqlstate)
  add("detail", failure.detail)
  add("hint", failure.hint)
  add("statement", first_line(statement.sql))
  if failure.sqlstate == "55P03" then
    add("cause", "another session uses the table; nothing was changed, run migrate again when it is less busy")
  end
  return table.concat(lines, "\n")
end

--- Applies one file in a transaction of its own and gives its record.
local function apply(migration)
  local ok, statements = pcall(sql.split, migration.up)
  if not ok then        -- PostgreSQL's parser: "line 2: syntax error at or near …"
    problem("%s:%s", migration.path, (tostring(statements.message or statements):gsub("^line (%d+)", "%1")))
  end
  for _, statement in ipairs(statements) do
    if statement.concurrent then
      problem("%s:%d: CONCURRENTLY cannot run in a transaction, and a migration is one: leave the word out",
              migration.path, statement.line)
    end
  end
  local report
  local applied, record = pcall(db.transaction, { timeout = FILE_TIME_S, retries = 0 }, function(tx)
    tx:exec("set local lock_timeout = '" .. LOCK_TIMEOUT .. "'")
    for _, statement in ipairs(statements) do
      -- Each result is waited for: the error then belongs to this statement and no other.
      local done, failure = pcall(tx.count, tx, statement.sql)
      if not done then
        report = statement_report(migration, statement, failure)
        error(failure, 0)
      end
    end
    return tx:first([[
      insert into public.moonpool_migrations (version, name, checksum, statements, duration_ms)
      values ($version, $name, $checksum, $statements, round(extract(epoch from clock_timestamp() - now()) * 1000)::integer)
      returning statements, duration_ms]],
      { version = migration.version, name = migration.file, checksum = migration.checksum, statements = #statements })
  end)
  if report then problem("%s", report) end
  if not applied then
    if type(record) == "table" and record.sqlstate then     -- a constraint that is judged at COMMIT, say
      problem("%s: %s\n  SQLSTATE  %s", migration.path, record.message, record.sqlstate)
    end
    error(record, 0)
  end
  return record
end

local function plural(count, noun)
  return string.format("%d %s%s", count, noun, count == 1 and "" or "s")
end

local function up(dir, quiet)
  local say = quiet and function() end or print
  local migrations = load_all(dir)
  return with_lock(function()
    create_record()
    local rows = applied_rows()
    local pending = pending_of(dir, migrations, rows)
    if #pending == 0 then
      say(string.format("nothing to do: %s applied", plural(#rows, "migration")))
      return 0
    end
    for number, migration in ipairs(pending) do
      local ok, record = pcall(apply, migration)
      if not ok and getmetatable(record) ~= Problem then error(record, 0) end
      if not ok then
        io.stderr:write(tostring(record), "\n")
        io.stderr:write(string.format("%s was rolled back; applied in this run: %s; pending: %s\n", migration.file,
                                      plural(number - 1, "migration"), plural(#pending - number + 1, "migration")))
        return 1
      end
      say(string.format("applied %s (%s, %d ms)", migration.file, plural(record.statements, "statement"), record.duration_ms))
    end
    return 0
  end)
end

-- status ---------------------------------------------------------------------------------------------------------------

-- One entry per file or record, by number: applied, pending, changed (after it was applied) or missing (the file).
local function status_entries(dir)
  local entries, by_version = {}, {}
  for _, migration in ipairs(load_all(dir)) do
    local entry = { version = migration.version, name = migration.file, state = "pending", checksum = migration.checksum }
    entries[#entries + 1], by_version[migration.version] = entry, entry
  end
  for _, row in ipairs(applied_rows()) do
    local entry = by_version[row.version]
    if not entry then
      entry = { version = row.version, name = row.name, state = "missing" }
      entries[#entries + 1] = entry
    else
      entry.state = entry.checksum == row.checksum and "applied" or "changed"
    end
    entry.applied_at, entry.applied_checksum, entry.statements = row.applied_at, row.checksum, row.statements
  end
  table.sort(entries, function(a, b) return a.version < b.version end)
  return entries
end

local function status(dir, json)
  local entries = status_entries(dir)
  local sound, pending = true, 0
  for _, entry in ipairs(entries) do
    if entry.state == "changed" or entry.state == "missing" then sound = false end
    if entry.state == "pending" then pending = pending + 1 end
  end
  if json then
    local list = {}
    for _, entry in ipairs(entries) do
      list[#list + 1] = { version = entry.version, name = entry.name, state = entry.state, checksum = entry.checksum,
                          appliedAt = entry.applied_at, appliedChecksum = entry.applied_checksum }
    end
    print(require "moonpool.json".encode { migrations = list, pending = pending, sound = sound })
    return sound and 0 or 1
  end
  for _, entry in ipairs(entries) do
    print((string.format("%-8s %-40s %s", entry.state, entry.name, entry.applied_at or ""):gsub("%s+$", "")))
    if entry.state == "changed" then
      print("           applied " .. entry.applied_checksum)
      print("           file    " .. entry.checksum)
    end
  end
  print(string.format("%s, %d pending", plural(#entries, "migration"), pending))
  return sound and 0 or 1
end

-- The command ----------------------------------------------------------------------------------------------------------

local function usage_error(message)
  io.stderr:write("moonpool migrate: ", message, "\n", usage, "\n")
  return 2
end

---@param args string[]     what follows `migrate` on the command line
---@return integer exit     0 ok, 1 failed, 2 usage
return function(args)
  local command, json, quiet
  for _, arg in ipairs(args) do
    if arg == "--help" or arg == "-h" then
      print(usage)
      return 0
    elseif arg == "--json" then
      json = true
    elseif arg == "--quiet" then
      quiet = true
    elseif arg:sub(1, 1) == "-" then
      return usage_error("unknown option " .. arg)
    elseif command then
      return usage_error("unexpected argument " .. arg)
    else
      command = arg
    end
  end
  command = command or "up"
  if command ~= "up" and command ~= "status" then return usage_error("unknown command " .. command) end
  if json and command ~= "status" then return usage_error("--json goes with status") end
  if quiet and command ~= "up" then return usage_error("--quiet goes with up") end

  local dir = moonpool.app_dir .. "/migrations"
  local ok, result = pcall(command == "up" and up or status, dir, command == "up" and quiet or json)
  if ok then return result end
  if getmetatable(result) ~= Problem then error(result, 0) end     -- the host's to report: no database, say
  io.stderr:write(tostring(result), "\n")
  return 1
end
