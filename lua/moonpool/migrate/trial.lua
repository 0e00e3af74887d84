-- moonpool.migrate.trial: `--dry-run` runs the statements that can run in a transaction in one
-- transaction, prints its locks, and rolls it back. `--print` only prints the statements.
local db      = require "moonpool.db"
local hazards = require "moonpool.migrate.hazards"
local indexes = require "moonpool.migrate.indexes"
local problem = require "moonpool.migrate.problem"
local report  = require "moonpool.migrate.report"
local runner  = require "moonpool.migrate.runner"
local session = require "moonpool.migrate.session"

local trial = {}

local function first_line(text)
  return (text:match "^[^\n]*")
end

--- Prints the statements of the files as SQL that can be run.
---@param plan { file: moonpool.migrate.file, done: integer }[]
function trial.print(conn, plan, direction)
  for _, item in ipairs(plan) do
    print("-- " .. item.file.path)
    for number, statement in ipairs(runner.read(conn, item.file, direction)) do
      if number > item.done then
        print(string.format("-- line %d%s\n%s;\n", statement.line,
                            statement.alone and ", outside a transaction" or "",
                            statement.sql))
      end
    end
  end
  return 0
end

-- Prints the locks of the process `pid`. Uses another connection, which cannot see the tables that
-- the trial makes.
local function print_locks(pid)
  for _, row in ipairs(db.query([[
      select c.oid::regclass::text as name, string_agg(distinct l.mode, ', ') as modes
        from pg_locks l join pg_class c on c.oid = l.relation
       where l.pid = $1 and l.granted and l.database = (select oid from pg_database
         where datname = current_database())
         and c.relkind in ('r', 'p', 'm') and c.relnamespace <> 'pg_catalog'::regnamespace
         and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
           'AccessExclusiveLock')
       group by 1 order by 1]], pid)) do
    print(string.format("  locks %s: %s", row.name, row.modes))
  end
end

--- Tries the files one after the other and rolls all of them back. Returns the exit code.
function trial.run(context, plan, direction)
  local conn = context.conn
  session.prepare(conn)
  session.lock_timeout(conn, context.lock_timeout_ms)
  for _, index in ipairs(direction == "up" and indexes.invalid(conn) or {}) do
    print(string.format("would repair the INVALID index %s on %s", index.full, index.on))
  end
  local failed, skipped = nil, false
  conn.exec "begin"
  for _, item in ipairs(plan) do
    local list = runner.read(conn, item.file, direction, context.say)
    for _, line in ipairs(hazards.of(conn, table.move(list, item.done + 1, #list, 1, {}))) do
      context.say(line)
    end
    local tried = 0
    for number = item.done + 1, #list do
      local statement = list[number]
      if statement.alone then
        print(string.format("  %s:%d would run outside a transaction, not tried: %s",
                            item.file.name, statement.line,
                            first_line(statement.sql)))
        skipped = true
      else
        context.watch(statement)
        local ok, failure = pcall(conn.exec, statement.sql)
        context.watch(nil)
        if not ok then
          if type(failure) ~= "table" or not failure.message then error(failure, 0) end
          failed = report.statement(statement, failure)
          break
        end
        tried = tried + 1
      end
    end
    if failed then break end
    print(string.format("would %s %s (%s, %d tried)", direction == "up" and "apply" or "undo",
                        item.file.name,
                        problem.plural(#list - item.done, "statement"), tried))
  end
  if not failed and context.has_second then print_locks(context.pid) end
  conn.exec "rollback"
  if failed then
    io.stdout:flush()
    io.stderr:write(failed, "\n",
                    skipped and "what was not tried before it may be the reason\n" or "",
                    "dry run: nothing was changed\n")
    return 1
  end
  print "dry run: nothing was changed"
  return 0
end

return trial
