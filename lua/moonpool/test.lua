-- moonpool.test: helpers for specs, which run inside the host on a temporary cluster (`moonpool
-- spec`).
local db   = require "moonpool.db"
local host = require "moonpool.host"

local test = {}

-- The same URL for another database of the cluster.
local function with_database(url, name)
  return (url:gsub("^(%a+://[^/?]*/)[^?]*", "%1" .. name))
end

local function need_cluster()
  if not host.admin_url then error("moonpool.test: only inside `moonpool spec`", 3) end
end

local admin

-- admin() -> a database (like moonpool.db) as PostgreSQL's superuser, on the cluster's maintenance
-- database.
function test.admin()
  need_cluster()
  admin = admin or db.open { url = with_database(host.admin_url, "postgres"), max = 2 }
  return admin
end

local count, made = 0, {}

-- database{empty=, like=} -> { name=, app_url=, owner_url=, admin_url=, drop() }. Creates a
-- database, migrated like the project's. With `empty` it is not migrated. With `like` it is a copy
-- of that database, to which no session may be connected. It is dropped when the run ends.
function test.database(options)
  need_cluster()
  count = count + 1
  local name = ("spec_%d"):format(count)
  local template = options and (options.like and options.like.name or options.empty and "template1")
    or "moonpool_template"
  -- wal_log is slower, but has no effect on other sessions; file_copy is faster, but forces a
  -- checkpoint. PostgreSQL 14 knows the latter only, without a name.
  local named = test.admin().value "select current_setting('server_version_num')::int >= 150000"
  local strategy = not named and "" or options and options.like and "strategy file_copy"
    or "strategy wal_log"
  test.admin().exec(("create database %s template %s %s owner moonpool_owner"):format(name,
    template, strategy))
  -- Rights on a database are not copied from its template.
  test.admin().exec(("revoke all on database %s from public"):format(name))
  test.admin().exec(("grant connect on database %s to moonpool_app, moonpool_owner"):format(name))
  if options and options.empty then
    local own = db.open { url = with_database(host.admin_url, name), max = 1 }
    own.exec "alter schema public owner to moonpool_owner"
    own.exec "grant usage on schema public to moonpool_app"
    own.exec "grant create on schema public to moonpool_system"
    own.close()
  end
  made[name] = true
  return {
    name      = name,
    app_url   = with_database(host.app_url, name),
    owner_url = with_database(host.owner_url, name),
    admin_url = with_database(host.admin_url, name),
    drop      = function()
      test.admin().exec(("drop database if exists %s with (force)"):format(name))
      made[name] = nil
    end,
  }
end

-- Injected failures -------------------------------------------------------------------------------

local function positive(options, name)
  local value = options[name] == nil and 1 or options[name]
  if math.type(value) ~= "integer" or value < 1 then
    error(("moonpool.test.fail_next: %s is an integer from 1"):format(name), 3)
  end
  return value
end

-- fail_next{ sqlstate=, at= (a number or "commit"), attempt=1, times=1, transaction=1 }: lets a
-- transaction fail: the next one, or the one with number `transaction` from now on. Its attempt
-- `attempt` fails with that SQLSTATE, and so do the following ones, `times` attempts in all. The
-- failure happens on the server, before the script's statement number `at` or before COMMIT; 57P01
-- ends the connection's backend. Each call replaces the failure that was set before.
function test.fail_next(options)
  need_cluster()
  local at = options.at == "commit" and 0 or positive(options, "at")
  host.fault.order {
    sqlstate = assert(options.sqlstate, "moonpool.test.fail_next: sqlstate is missing"), at = at,
    attempt = positive(options, "attempt"), times = positive(options, "times"),
    transaction = positive(options, "transaction") }
end

-- failures() -> how often the failure that was set last has happened
function test.failures()
  return host.fault.report().hits
end

-- calm(): removes the failure that was set.
function test.calm()
  host.fault.order { at = 0, attempt = 1, times = 1, transaction = 1 }
end

-- Calls before(), fn(…) and after(). Returns the results of fn, or raises its error.
local function between(before, fn, after, ...)
  before()
  local results = table.pack(pcall(fn, ...))
  after()
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- fixed({ seed=1, now= (seconds since 1970; default: the current time) }, fn) -> the results of fn.
-- The n-th transaction that begins during fn has the same tx:uuid, tx:random and tx:now in each
-- run.
function test.fixed(options, fn)
  need_cluster()
  return between(function()
    host.fault.fix(options.seed or 1, options.now or os.time())
  end, fn, host.fault.fix)
end

local function wait_until(what, fn)
  local patience = host.clock() + 10
  while not fn() do
    if host.clock() > patience then error("moonpool.test: timed out waiting for " .. what, 3) end
    host.sleep(0)
  end
end

-- on(database, fn) -> the results of fn(db, database). During fn, operations and moonpool.db use
-- that database (made by test.database); `db` is a pool of it.
function test.on(database, fn)
  need_cluster()
  local other = db.open { url = database.app_url, max = 4 }
  return between(function() host.use_database(db.query, other.query) end, fn, function()
    local ok, e = pcall(wait_until, "its connections to come back", function()
      return host.pool_stats().active_connections == 0
    end)
    host.use_database(db.query)
    if not ok then error(e, 0) end
    other.close()
  end, other, database)
end

-- retry_safety{ operation=, input=, setup=, … } -> findings, numbers: see
-- moonpool.test.retry_safety.
function test.retry_safety(options)
  need_cluster()
  return require "moonpool.test.retry_safety" (test, options)
end

-- Returns 1, and prints a message, if the specs did not end all transactions or did not release all
-- connections.
local function left_behind()
  local patience = host.clock() + 5 -- a rollback may still be under way
  local active, live
  repeat
    active, live = host.pool_stats().active_connections, host.transaction_stats().live_transactions
    if active == 0 and live == 0 then return 0 end
    host.sleep(0)
  until host.clock() > patience
  io.stderr:write(
    ("moonpool spec: left behind after the last spec: %d connections in use, %d pieces of work\n")
      :format(
    active, live))
  return 1
end

-- Creates the function that injected failures call. The application's role may not use plpgsql
-- itself.
local function make_faults(name)
  local own = db.open { url = with_database(host.admin_url, name), max = 1 }
  own.exec "create schema moonpool_fault"
  own.exec [[create function moonpool_fault.raise(code text) returns void language plpgsql as
             $$ begin raise exception 'injected' using errcode = code; end $$]]
  own.exec "grant usage on schema moonpool_fault to public"
  own.close()
end

-- Removes an argument that is for this module, not for busted. -> true if it was given
local function take(arguments, name)
  for i, argument in ipairs(arguments) do
    if argument == name then return table.remove(arguments, i) ~= nil end
  end
  return false
end

-- run_specs(arguments) -> exit code. `moonpool spec` calls this once the cluster runs.
function test.run_specs(arguments)
  require "moonpool.operation.output".mode = "refuse"
  require "moonpool.operation.round_trips".counted = true
  -- With it, specs of retry safety test every operation, not only the most important one.
  test.thorough = take(arguments, "--retry-safety")
  make_faults "template1"
  make_faults "moonpool"
  -- The template of test.database. Made now, because later the pool's connections to the original
  -- would prevent the copy.
  test.admin().exec "create database moonpool_template template moonpool"
  local code = require "moonpool.test.spec" (arguments)
  code = math.max(code, left_behind())
  for name in pairs(made) do
    test.admin().exec(("drop database if exists %s with (force)"):format(name))
  end
  test.admin().close()
  return code
end

return test
