-- moonpool.migrate.apply: `up` and `down`: plans the files to run and their order, runs them, and
-- prints the outcome.
local checksum   = require "moonpool.migrate.checksum"
local db         = require "moonpool.db"
local errors     = require "moonpool.errors"
local files      = require "moonpool.migrate.files"
local host       = require "moonpool.host"
local indexes    = require "moonpool.migrate.indexes"
local objects    = require "moonpool.migrate.objects"
local problem    = require "moonpool.migrate.problem"
local record     = require "moonpool.migrate.record"
local report     = require "moonpool.migrate.report"
local runner     = require "moonpool.migrate.runner"
local session    = require "moonpool.migrate.session"
local system     = require "moonpool.migrate.system"
local trial      = require "moonpool.migrate.trial"
local watch      = require "moonpool.migrate.watch"

local plural = problem.plural

local apply = {}

-- Acquires the migration lock, makes the context that the steps of a run share, and calls
-- fn(context). Returns its result.
local function with_context(options, fn)
  return session.with_lock(options.wait_s, function(conn)
    local pid = conn.value "select pg_backend_pid()"
    -- Several times within the lock timeout, so that the holder of a lock is found before it.
    local interval_s = math.max(0.05, math.min(1, options.lock_timeout_ms / 3000))
    local has_second = host.pool_stats().max > 1
    local watcher = watch.start(pid, { quiet = options.quiet, interval = interval_s,
                                       blind = not has_second })
    local context = {
      conn = conn, pid = pid, has_second = has_second,
      wait_s = options.wait_s, lock_timeout_ms = options.lock_timeout_ms, retries = options.retries,
    }
    function context.say(line)
      if options.quiet then return end
      watcher.clear()
      io.stderr:write(line, "\n")
    end
    function context.watch(statement)
      if statement then watcher.blocker = nil else watcher.clear() end
      watcher.statement = statement
    end
    function context.blocker() return watcher.blocker end
    local ok, result = pcall(fn, context)
    watcher.stop()
    if not ok then error(result, 0) end
    return result
  end)
end

local function out(options, line)
  if options.quiet then return end
  print(line)
  io.stdout:flush()
end

-- Returns the names of the indexes that the pending files build. They are not repaired: their
-- statement builds them.
local function built_by(conn, plan)
  local names = {}
  for _, item in ipairs(plan) do
    for number, statement in ipairs(runner.read(conn, item.file, "up")) do
      if number > item.done and statement.index and statement.index.name then
        names[statement.index.name] = true
      end
    end
  end
  return names
end

-- Returns the files that `up` runs, each with its number of finished statements, and the number of
-- applied migrations.
local function plan_up(conn, dir, options)
  local list, by_version = files.all(dir)
  local rows, half = record.applied(conn), record.half_done(conn)
  local pending = record.pending(dir, list, by_version, rows)
  if half and half.direction == "down" then
    problem.raise("%s is half undone (%s): finish it with moonpool migrate down", half.name,
                  plural(half.done, "statement"))
  elseif half and not by_version[half.version] then
    problem.raise("%s/%s is half applied, but the file is missing: bring it back", dir, half.name)
  elseif half and pending[1] and pending[1].version ~= half.version then
    problem.raise("%s is new, but the later %s is half applied: give it a later number",
                  pending[1].path, half.name)
  end
  local plan = {}
  for _, file in ipairs(pending) do
    if not options.to or file.version <= options.to then
      plan[#plan + 1] = { file = file, half = half and half.version == file.version and half or nil,
                          done = half and half.version == file.version and half.done or 0 }
    end
  end
  return plan, #rows
end

-- Returns the files that `down` runs, the newest first.
local function plan_down(conn, dir, options)
  local _, by_version = files.all(dir)
  local rows, half = record.applied(conn), record.half_done(conn)
  if half and (not rows[#rows] or rows[#rows].version ~= half.version) then
    rows[#rows + 1] = { version = half.version, name = half.name, half = true }
  end
  local plan, count = {}, options.count or 1
  for at = #rows, 1, -1 do
    local row = rows[at]
    if options.to and row.version <= options.to or not options.to and #plan == count then break end
    local file = by_version[row.version]
    if not file then
      problem.raise("%s/%s is missing: what it did cannot be undone without it", dir, row.name)
    end
    if row.checksum and not checksum.matches(file.up, row.checksum) then
      problem.raise(
        "%s was changed after it was applied: undo the change first, or its down section may not \z
          fit", file.path)
    end
    if not file.down then
      problem.raise("%s has no `-- migrate:down` section: it cannot be undone; nothing was changed",
                    file.path)
    end
    local mine = half and half.version == row.version and half or nil
    plan[#plan + 1] = { file = file, half = mine,
                        done = mine and mine.direction == "down" and mine.done or 0 }
  end
  return plan
end

-- Returns the message after a failure: how much of the file is done. If the connection is lost,
-- another connection reads the record.
local function outcome(context, file, direction)
  local known, half = pcall(record.half_done, context.conn)
  if not known and context.has_second then known, half = pcall(record.half_done, db) end
  if not known then return file.name .. " stopped; moonpool migrate status shows what is done" end
  if not half or half.done == 0 then
    return string.format("nothing of %s is %s", file.name,
                         direction == "up" and "applied" or "undone")
  end
  return string.format(
    "%s stopped: %s of it done and kept; remove the cause and run moonpool migrate %s again: it \z
      goes on " ..
                       "there", file.name, plural(half.done, "statement"), direction)
end

-- Runs the plan. Returns the exit code.
local function run_plan(context, plan, direction, options)
  local verb = direction == "up" and "applied" or "undone"
  for number, item in ipairs(plan) do
    local ok, count, duration_ms = pcall(runner.run, context, item.file, direction, item.half)
    if not ok then
      if errors.is(count) then
        count = report.other(item.file.path, count)
      elseif not problem.is(count) then
        error(count, 0)
      end
      io.stderr:write(string.format("%s\n%s\n%s in this run: %s; pending: %s\n", tostring(count),
                                    outcome(context, item.file, direction), verb,
                                    plural(number - 1, "migration"),
                                    plural(#plan - number + 1, "migration")))
      return 1
    end
    out(options, string.format("%s %s (%s, %d ms)", verb, item.file.name,
                               plural(count, "statement"), duration_ms))
  end
  return 0
end

---@class moonpool.migrate.options
---@field to? integer               up: the last number to apply; down: the last number to keep
---@field count? integer            down: how many migrations
---@field wait_s number             seconds to wait for another migration
---@field lock_timeout_ms integer
---@field retries integer           after a lock timeout or a deadlock
---@field quiet? boolean
---@field dry_run? boolean
---@field print? boolean

---@param dir string
---@param options moonpool.migrate.options
---@return integer exit
function apply.up(dir, options)
  if options.print then return trial.print(db, (plan_up(db, dir, options)), "up") end
  files.all(dir)      -- raises for a faulty file before it waits for the lock
  return with_context(options, function(context)
    if not options.dry_run then
      system.ensure(context.conn, function(line) out(options, line) end)
      session.prepare(context.conn)
      record.create(context.conn)
      system.open_record(context.conn)
    end
    local plan, applied = plan_up(context.conn, dir, options)
    if options.dry_run then return trial.run(context, plan, "up") end
    local names = built_by(context.conn, plan)      -- reads every file before one is applied
    local invalid = indexes.repair(context.conn, names, context)
    context.before = objects.open(context.conn, applied > 0)
    if #plan == 0 then
      if invalid == 0 then
        out(options, string.format("nothing to do: %s applied", plural(applied, "migration")))
      end
      return invalid == 0 and 0 or 1
    end
    local exit = run_plan(context, plan, "up", options)
    return exit == 0 and invalid > 0 and 1 or exit
  end)
end

---@param dir string
---@param options moonpool.migrate.options
---@return integer exit
function apply.down(dir, options)
  if options.print then return trial.print(db, plan_down(db, dir, options), "down") end
  return with_context(options, function(context)
    local plan = plan_down(context.conn, dir, options)
    if #plan == 0 then
      out(options, "nothing to undo")
      return 0
    end
    if options.dry_run then return trial.run(context, plan, "down") end
    record.create(context.conn)
    if system.version(context.conn) == system.latest then
      context.before = objects.open(context.conn, true)
    end
    return run_plan(context, plan, "down", options)
  end)
end

return apply
