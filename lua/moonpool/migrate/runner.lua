-- moonpool.migrate.runner: applies or undoes one file. Statements that can run in a transaction run
-- in one, together with their record. A statement that cannot runs alone, and is recorded before
-- and after, so that a file that stops can go on where it stopped.
--
-- All steps of a run of migrate share one context: conn, say(line), watch(statement or nil),
-- blocker() -> text or nil, wait_s, lock_timeout_ms, retries, before = the objects of the catalog
-- at the end of the last transaction (objects.lua).
local checksum   = require "moonpool.migrate.checksum"
local hazards    = require "moonpool.migrate.hazards"
local host       = require "moonpool.host"
local indexes    = require "moonpool.migrate.indexes"
local moonpool   = require "moonpool"
local objects    = require "moonpool.migrate.objects"
local problem    = require "moonpool.migrate.problem"
local record     = require "moonpool.migrate.record"
local report     = require "moonpool.migrate.report"
local session    = require "moonpool.migrate.session"
local statements = require "moonpool.migrate.statements"

local PAUSE_S, PAUSE_CAP_S = 0.5, 10

local runner = {}

-- Failures that other sessions cause: worth a retry.
local passes = { ["55P03"] = "waited too long for a lock", ["40P01"] = "deadlock" }

-- SQLSTATEs of a statement that was done before, but not recorded as done.
local was_done = { ["42P07"] = true, ["42710"] = true, ["42P04"] = true, ["42704"] = true,
                   ["42P01"] = true, ["3D000"] = true }

-- Runs `attempt` (-> ok, statement, failure), and again while it fails because of other sessions,
-- at most context.retries times.
local function with_retries(context, attempt)
  for number = 1, context.retries + 1 do
    local ok, statement, failure = attempt()
    if ok then return true end
    local reason = type(failure) == "table" and passes[failure.sqlstate]
    if not reason or number > context.retries then return false, statement, failure end
    local pause_s = math.min(PAUSE_CAP_S, PAUSE_S * 2 ^ (number - 1)) * (0.5 + math.random() / 2)
    local blocker = context.blocker()
    context.say(string.format("  %s:%d: %s%s; nothing was changed, again in %.1f s (%d of %d)",
                              statement.path:match "[^/]*$",
                              statement.line, reason, blocker and ", held by " .. blocker or "",
                              pause_s, number,
                              context.retries))
    moonpool.sleep(pause_s)
  end
end

-- Returns the text of a failure: an error of the server or of the host (a lost connection), or a
-- problem. Raises any other error again.
local function failure_text(statement, failure)
  if problem.is(failure) then return failure.message end
  if type(failure) == "table" and failure.message then
    return report.statement(statement, failure)
  end
  error(failure, 0)
end

-- Runs the statements and then after() in one transaction. `noting`: the statements have already
-- run, and only after() runs.
local function run_transaction(context, list, after, noting)
  local conn = context.conn
  for _, statement in ipairs(noting and {} or list) do
    if statement.index and statement.index.name then
      indexes.make_room(conn, statement.index, context)
    end
  end
  session.lock_timeout(conn, context.lock_timeout_ms)
  local ok, statement, failure = with_retries(context, function()
    conn.exec "begin"
    local at, now
    local done, reason = pcall(function()
      for _, current in ipairs(noting and {} or list) do
        at = current
        context.watch(current)
        -- wait for each statement, so that an error belongs to this one
        conn.exec(current.sql)
      end
      context.watch(nil)
      local line = list[#list] and list[#list].line or 1
      at = { path = context.file.path, line = line, sql = "moonpool's own record of the migration" }
      after()
      now = list[1] and context.before and objects.note(conn, context.before)
      at = { path = context.file.path, line = line, sql = "commit" }
      conn.exec "commit"
    end)
    context.watch(nil)
    if done and now then context.before = now end
    if not done then
      pcall(conn.exec, "rollback")
      if type(reason) == "table" and reason.outcome_unknown then
        reason.message = at and at.sql == "commit" and
          "the connection was lost at COMMIT, which may or may not have happened; moonpool \z
            migrate status shows it" or
          "the connection was lost, and with it the transaction"
      end
    end
    return done, at, reason
  end)
  if not ok then
    problem.raise("%s", failure_text(statement or { path = context.file.path, line = 1, sql = "" },
                                     failure))
  end
end

-- Runs a statement outside of a transaction. `tolerant`: an earlier run of it, or of the statement
-- that it undoes, may have been interrupted.
local function run_alone(context, file, direction, statement, tolerant)
  local conn, index = context.conn, statement.index
  if index then
    if tolerant and indexes.is_built(conn, index) then
      context.say(string.format("  %s:%d: the index %s had been built before the interruption",
                                file.name, statement.line,
                                index.name))
      return record.step(conn, file, direction, statement, true)
    end
    indexes.make_room(conn, index, context)
  end
  record.step(conn, file, direction, statement, false)
  local ok, _, failure = with_retries(context, function()
    session.lock_timeout(conn, statement.patient and 0 or context.lock_timeout_ms)
    context.watch(statement)
    local done, reason = pcall(conn.exec, statement.sql)
    context.watch(nil)
    if not done and index then
      local cleaned = indexes.clean_up(conn, index, context.lock_timeout_ms)
      if not cleaned and type(reason) == "table" then
        reason.hint = (reason.hint and reason.hint .. "; " or "")
          .. "an INVALID index was left; the next run drops it"
      end
    end
    return done, statement, reason
  end)
  if not ok and tolerant and type(failure) == "table" and was_done[failure.sqlstate] then
    context.say(string.format("  %s:%d: had been done before the interruption (%s)", file.name,
                              statement.line,
                              failure.message))
  elseif not ok then
    pcall(record.unstep, conn, file, statement)
    problem.raise("%s", failure_text(statement, failure))
  elseif index then
    indexes.check(conn, statement)
  end
  run_transaction(context, { statement }, function()
    record.step(conn, file, direction, statement, true)
  end, true)
end

-- Raises a problem if a statement that an interrupted run has done was changed in the file.
local function check_done(file, list, half)
  for number = 1, half.done do
    local statement, step = list[number], half.steps[number]
    if not step or not step.done then
      problem.raise("%s: moonpool_migration_steps is not what moonpool wrote: number %d is missing",
                    file.path, number)
    elseif not statement or not checksum.matches(statement.sql, step.checksum) then
      problem.raise(
        "%s:%d: statement %d was changed after it had been applied; the file is half done (%d of \z
          %d statements)" ..
                    ": undo the change; what follows the first %d may be changed", file.path,
                    statement and statement.line or 1, number, half.done, #list, half.done)
    end
  end
end

--- Splits the part of the file that `direction` ("up" or "down") runs into statements. The list is
--- kept in `file`: to split a big file again takes long.
---@return moonpool.migrate.statement[]
function runner.read(conn, file, direction, note)
  file.read = file.read or {}
  local known = file.read[direction]
  if not known then
    local notes = {}
    local list = statements.split(conn, file[direction], file.path,
                                  direction == "up" and 1 or file.down_line,
                                  function(line) notes[#notes + 1] = line end)
    known = { list = list, notes = notes }
    file.read[direction] = known
  end
  for _, line in ipairs(note and known.notes or {}) do note(line) end
  return known.list
end

--- Applies or undoes a file, or goes on with a half-done one. Returns the number of its statements
--- and the duration.
---@param half? table      the result of record.half_done, if it is this file
---@return integer statements
---@return integer duration_ms
function runner.run(context, file, direction, half)
  local conn, started = context.conn, host.clock()
  local list = runner.read(conn, file, direction, context.say)
  file.read = nil -- the list is not needed again
  local turned = half and half.direction ~= direction       -- `down` of a half-applied file
  if half and not turned then check_done(file, list, half) end
  local done = half and not turned and half.done or 0
  context.file = file
  session.prepare(conn)
  if done > 0 then
    context.say(string.format("%s: going on after %d of %s", file.name, done,
                              problem.plural(#list, "statement")))
    for number = 1, done do      -- repeat the SETs of the session
      if list[number].kind == "VariableSetStmt" and not list[number].tree.is_local then
        conn.exec(list[number].sql)
      end
    end
  end
  for _, line in ipairs(hazards.of(conn, table.move(list, done + 1, #list, 1, {}))) do
    context.say(line)
  end

  local function finish()
    if direction == "up" then
      record.add(conn, file, #list, math.floor((host.clock() - started) * 1000 + 0.5))
    else
      record.remove(conn, file)
    end
  end
  local segments = statements.segments(list, done + 1)
  local whole = #segments <= 1 and done == 0 and not (segments[1] and segments[1].alone)
  if whole then
    run_transaction(context, segments[1] or {}, finish)
    return #list, math.floor((host.clock() - started) * 1000 + 0.5)
  end
  if turned then record.turn(conn, file, list[1]) end
  for _, segment in ipairs(segments) do
    if segment.alone then
      local step = half and half.steps[segment[1].number]
      run_alone(context, file, direction, segment[1], turned or (step ~= nil and not step.done))
    else
      run_transaction(context, segment, function()
        for _, statement in ipairs(segment) do
          record.step(conn, file, direction, statement, true)
        end
      end)
    end
  end
  run_transaction(context, {}, finish)
  -- An interrupted run may have run statements alone without recording their objects.
  if half and context.before then context.before = objects.accept(conn) end
  return #list, math.floor((host.clock() - started) * 1000 + 0.5)
end

return runner
