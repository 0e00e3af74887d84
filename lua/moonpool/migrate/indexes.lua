-- moonpool.migrate.indexes: finds, drops and rebuilds INVALID indexes. A CONCURRENTLY build that
-- fails or is interrupted leaves one. It slows every write, serves no query, and IF NOT EXISTS
-- takes it for a valid index.
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local problem  = require "moonpool.migrate.problem"
local session  = require "moonpool.migrate.session"

local POLL_S = 0.25

---@class moonpool.migrate.index
---@field name string
---@field full string       schema and name, quoted
---@field on string         its table
---@field leftover boolean  left by a REINDEX CONCURRENTLY; the original index exists
---@field builder? integer  process that builds it now

local indexes = {}

-- The progress view hides the index from a role that may not read the statistics of the building
-- session. pg_locks shows that session's lock on the table.
local query = [[
  select c.relname as name, format('%I.%I', n.nspname, c.relname) as full,
    i.indrelid::regclass::text as on,
         i.indrelid::bigint as table_id, i.indisunique as unique,
         c.relname ~ '_cc(new|old)[0-9]*$'
           and exists (select from pg_index o join pg_class oc on oc.oid = o.indexrelid
                        where o.indrelid = i.indrelid and o.indexrelid <> i.indexrelid
                          and starts_with(oc.relname,
                            regexp_replace(c.relname, '_cc(new|old)[0-9]*$', ''))) as leftover,
         (select p.pid from pg_stat_progress_create_index p
           where (p.index_relid is null or p.index_relid in (0, i.indexrelid)
             or p.command like 'REINDEX%')
             and exists (select from pg_locks l where l.pid = p.pid and l.granted
               and l.relation = i.indrelid
                           and l.database = (select oid from pg_database
                             where datname = current_database())
                           and l.mode = 'ShareUpdateExclusiveLock')
           limit 1) as builder
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_namespace n on n.oid = c.relnamespace
   where not i.indisvalid and c.relkind = 'i'
   order by 2]]

--- Returns all INVALID indexes of the database.
---@return moonpool.migrate.index[]
function indexes.invalid(conn)
  return conn.query(query)
end

-- Looks up the index of a CREATE INDEX statement in the database. Returns { valid, full, on }, or
-- nil if the index does not exist.
local function find(conn, index)
  return conn.first([[
    select i.indisvalid as valid, format('%I.%I', n.nspname, c.relname) as full,
      i.indrelid::regclass::text as on
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_namespace n on n.oid = c.relnamespace
     where c.relname = $name
       and i.indrelid = to_regclass(case when $schema::text is null then format('%I', $table::text)
                                         else format('%I.%I', $schema::text, $table::text) end)]],
    { name = index.name, schema = index.schema or moonpool.null, table = index.table })
end

local function drop(conn, full)
  session.lock_timeout(conn, 0)      -- no session queues behind it
  conn.exec("drop index concurrently if exists " .. full)
end

local function invalid_named(conn, full)
  for _, index in ipairs(indexes.invalid(conn)) do
    if index.full == full then return index end
  end
end

--- Must be called before the statement runs: drops an INVALID index of its name, after waiting for
--- a process that builds it. Returns true if it dropped one. Raises a problem if that process still
--- builds after context.wait_s seconds.
function indexes.make_room(conn, index, context)
  local found = find(conn, index)
  if not found or found.valid then return false end
  local limit, told = host.clock() + context.wait_s, false
  while true do
    local invalid = invalid_named(conn, found.full)
    if not invalid then return false end      -- its builder has finished it or dropped it
    if not invalid.builder then break end
    if host.clock() > limit then
      problem.raise(
        "the index %s is being built by process %d right now: run migrate again when it has ended",
                    found.full, invalid.builder)
    end
    if not told then
      context.say(string.format("  waiting for process %d, which builds the index %s",
                                invalid.builder, found.full))
      told = true
    end
    moonpool.sleep(POLL_S)
  end
  context.say(
    string.format("  dropping the INVALID index %s on %s, which an interrupted build left",
                  found.full, found.on))
  drop(conn, found.full)
  return true
end

--- Must be called after the statement: raises a problem unless the index exists and is valid.
function indexes.check(conn, statement)
  local found = find(conn, statement.index)
  if not found then
    problem.raise(
      "%s:%d: there is no index %s on %s after the statement: something else of this name is in \z
        the way, and " ..
                  "IF NOT EXISTS hid it; give the index another name", statement.path,
                  statement.line,
                  statement.index.name, statement.index.table)
  elseif not found.valid then
    problem.raise(
      "%s:%d: the index %s is INVALID after the statement; run migrate again, which drops and \z
        rebuilds it",
                  statement.path, statement.line, found.full)
  end
end

--- Does the index exist and is it valid? For a statement that ran, but was not recorded as done.
function indexes.is_built(conn, index)
  local found = find(conn, index)
  return found ~= nil and found.valid
end

--- Must be called after a failed build: drops the INVALID index that the build left. The drop waits
--- for a lock for at most lock_timeout_ms; if it fails, the next run of migrate drops the index.
--- Returns true, or false and the error.
function indexes.clean_up(conn, index, lock_timeout_ms)
  local ok, failure = pcall(function()
    local found = find(conn, index)
    if not found or found.valid then return end
    local invalid = invalid_named(conn, found.full)
    if invalid and not invalid.builder then
      session.lock_timeout(conn, lock_timeout_ms)
      conn.exec("drop index concurrently if exists " .. found.full)
    end
  end)
  return ok, failure
end

--- Repairs the INVALID indexes that no pending statement builds. Leftovers of a REINDEX are
--- dropped. Other indexes are rebuilt in place, because only the catalog has their definition.
--- Returns the number of indexes that could not be repaired.
---@param pending table<string, boolean>   names that pending statements create
function indexes.repair(conn, pending, context)
  local left = 0
  for _, leftovers in ipairs { true, false } do
    for _, index in ipairs(indexes.invalid(conn)) do
      local ok, failure = true, nil
      if index.leftover ~= leftovers or pending[index.name] then
        goto continue
      elseif index.builder then
        context.say(string.format("process %d builds the index %s right now: left alone",
                                  index.builder, index.full))
      elseif index.leftover then
        ok, failure = pcall(drop, conn, index.full)
        if ok then
          context.say(
            string.format("dropped the INVALID index %s on %s, which an interrupted REINDEX left",
                          index.full,
                          index.on))
        end
      else
        session.lock_timeout(conn, 0)
        context.watch({ path = index.name, line = 0 })
        ok, failure = pcall(conn.exec, "reindex index concurrently " .. index.full)
        context.watch(nil)
        if ok then
          context.say(string.format("rebuilt the INVALID index %s on %s", index.full, index.on))
        else      -- the failed REINDEX left another one
          for _, corpse in ipairs(indexes.invalid(conn)) do
            if corpse.leftover and corpse.table_id == index.table_id and not corpse.builder then
              pcall(drop, conn, corpse.full)
            end
          end
        end
      end
      if not ok then
        if type(failure) ~= "table" or not failure.sqlstate then error(failure, 0) end
        left = left + 1
        io.stderr:write(string.format(
          "the index %s on %s is INVALID and could not be repaired: %s\n  SQLSTATE  %s\n%s",
          index.full, index.on,
          failure.message, failure.sqlstate,
          failure.detail and "  detail    " .. failure.detail .. "\n" or ""))
      end
      ::continue::
    end
  end
  return left
end

return indexes
