-- moonpool.migrate.record: records the applied migrations in the database: one row of
-- moonpool_migrations for each migration. Only while a migration is half done, the table
-- moonpool_migration_steps has a row for each of its statements that has begun. The functions take
-- a connection.
local checksum = require "moonpool.migrate.checksum"
local host     = require "moonpool.host"
local problem  = require "moonpool.migrate.problem"

local record = {}

local function exists(conn, name)
  return conn.value("select to_regclass($1) is not null", "public." .. name)
end

--- Creates the table, or adds the columns that a table of an older moonpool does not have.
function record.create(conn)
  if not exists(conn, "moonpool_migrations") then
    conn.exec [[
      create table if not exists public.moonpool_migrations (
        version     bigint      not null,
        name        text        not null,
        checksum    text        not null,
        applied_at  timestamptz not null default now(),
        duration_ms integer     not null,
        statements  integer     not null,
        applied_by  text        default session_user,
        moonpool    text,
        constraint moonpool_migrations_pkey primary key (version)
      )]]
  elseif not conn.value [[select exists (select from pg_attribute
    where attrelid = 'public.moonpool_migrations'::regclass
                                          and attname = 'moonpool' and not attisdropped)]] then
    conn.exec "alter table public.moonpool_migrations add column if not exists applied_by text"
    conn.exec "alter table public.moonpool_migrations alter column applied_by set default \z
      session_user"
    conn.exec "alter table public.moonpool_migrations add column if not exists moonpool text"
  end
end

---@return table[] rows  by version
function record.applied(conn)
  if not exists(conn, "moonpool_migrations") then return {} end
  return conn.query [[
    select version, name, checksum, applied_at, duration_ms, statements
      from public.moonpool_migrations order by version]]
end

--- Is a migration half done? For a role that may not read the rows.
function record.is_half_done(conn) return exists(conn, "moonpool_migration_steps") end

--- Returns the half-done migration, or nil: { version, name, direction, done = number of finished
--- statements, steps = { [number] = row } }.
function record.half_done(conn)
  if not exists(conn, "moonpool_migration_steps") then return nil end
  local ok, rows = pcall(conn.query, [[
    select version, name, direction, number, checksum, done from public.moonpool_migration_steps
      order by version, number]])
  if not ok then
    if rows.sqlstate == "42P01" then return nil end      -- finished since the check above
    error(rows, 0)
  end
  local half
  for _, row in ipairs(rows) do
    half = half or { version = row.version, name = row.name, direction = row.direction, steps = {},
                     done = 0 }
    half.steps[row.number] = row
    if row.done then half.done = half.done + 1 end
  end
  return half
end

--- Records that a statement begins (`done` false) or is done (true).
function record.step(conn, file, direction, statement, done)
  if not exists(conn, "moonpool_migration_steps") then
    conn.exec [[
      create table if not exists public.moonpool_migration_steps (
        version    bigint      not null,
        name       text        not null,
        direction  text        not null,
        number     integer     not null,
        checksum   text        not null,
        done       boolean     not null,
        changed_at timestamptz not null default now(),
        constraint moonpool_migration_steps_pkey primary key (version, number)
      )]]
  end
  conn.exec([[
    insert into public.moonpool_migration_steps (version, name, direction, number, checksum, done)
    values ($version, $name, $direction, $number, $checksum, $done)
    on conflict (version, number) do update
      set done = excluded.done, checksum = excluded.checksum, changed_at = now()]],
    { version = file.version, name = file.name, direction = direction, number = statement.number,
      checksum = statement.checksum, done = done })
end

--- Replaces the steps of an interrupted `up` by the first step of `down`.
function record.turn(conn, file, statement)
  conn.exec "begin"
  conn.exec("delete from public.moonpool_migration_steps where version = $1", file.version)
  record.step(conn, file, "down", statement, false)
  conn.exec "commit"
end

--- Deletes the step of a statement that began and failed with an error of the server.
function record.unstep(conn, file, statement)
  conn.exec("delete from public.moonpool_migration_steps where version = $1 and number = $2",
            file.version,
            statement.number)
end

-- Drops the table of steps: no migration is half done any more.
local function clear_steps(conn)
  if exists(conn, "moonpool_migration_steps") then
    conn.exec "drop table public.moonpool_migration_steps"
  end
end

--- Records that the file is applied. Must be called in the transaction of its last statements.
function record.add(conn, file, count, duration_ms)
  conn.exec([[
    insert into public.moonpool_migrations (version, name, checksum, statements, duration_ms,
      moonpool)
    values ($version, $name, $checksum, $statements, $duration, $moonpool)]],
    { version = file.version, name = file.name, checksum = file.checksum, statements = count,
      duration = duration_ms,
      moonpool = host.version })
  clear_steps(conn)
end

--- Records that the file is undone. Must be called in the transaction of its last statements.
function record.remove(conn, file)
  conn.exec("delete from public.moonpool_migrations where version = $1", file.version)
  clear_steps(conn)
end

--- Compares the files with the record. Returns the files to apply. Raises a problem for an applied
--- file that is missing or changed, and for a new file before an applied one.
---@return moonpool.migrate.file[] pending
function record.pending(dir, list, by_version, rows)
  local applied, newest = {}, nil
  for _, row in ipairs(rows) do
    local file = by_version[row.version]
    if not file then
      problem.raise(
        "%s/%s was applied to this database at %s, but the file is missing: bring it back (from \z
          version " ..
                    "control, or by updating this checkout)", dir, row.name, row.applied_at)
    end
    local changed = not checksum.matches(file.up, row.checksum)
    if changed and file.name ~= row.name then
      problem.raise(
        "this database was migrated from other files than %s: %s was applied to it at %s, where \z
          %s is here.\n" ..
                    "Another project's database? DATABASE_URL names this one's; \z
                      a file moonpool.conf, even an empty one, gives it a private one",
                    dir, row.name, row.applied_at, file.name)
    end
    if changed then
      problem.raise("%s was changed after it was applied at %s:\n  applied  %s\n  file     %s\n" ..
                    "undo the change, and write a new migration for what is to be different",
                    file.path, row.applied_at, row.checksum, file.checksum)
    end
    applied[row.version], newest = true, file
  end
  local pending = {}
  for _, file in ipairs(list) do
    if not applied[file.version] then
      if newest and file.version < newest.version then
        problem.raise(
          "%s is not applied, but the later %s is: give it a number after all applied ones",
          file.path,
                      newest.name)
      end
      pending[#pending + 1] = file
    end
  end
  return pending
end

return record
