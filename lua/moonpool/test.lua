-- moonpool.test: helpers for specs, which run inside the host on a throw-away cluster (`moonpool spec`).
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

-- admin() -> a database (like moonpool.db) as PostgreSQL's superuser, on the cluster's maintenance database.
function test.admin()
  need_cluster()
  admin = admin or db.open { url = with_database(host.admin_url, "postgres"), max = 2 }
  return admin
end

local count, made = 0, {}

-- database{empty=} -> { name=, app_url=, owner_url=, admin_url=, drop() }: a database of its own, migrated like the
-- project's unless `empty`. Dropped when the run ends.
function test.database(options)
  need_cluster()
  count = count + 1
  local name = ("spec_%d"):format(count)
  local template = options and options.empty and "template1" or "moonpool_template"
  test.admin().exec(("create database %s template %s strategy wal_log owner moonpool_owner"):format(name, template))
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

-- 1 and a word about it if the specs left transactions or checked-out connections behind.
local function left_behind()
  local patience = host.clock() + 5 -- a rollback may still be under way
  local active, live
  repeat
    active, live = host.pool_stats().active_connections, host.transaction_stats().live_transactions
    if active == 0 and live == 0 then return 0 end
    host.sleep(0)
  until host.clock() > patience
  io.stderr:write(("moonpool spec: left behind after the last spec: %d connections in use, %d pieces of work\n"):format(
    active, live))
  return 1
end

-- run_specs(arguments) -> exit code: what `moonpool spec` does once the cluster is there.
function test.run_specs(arguments)
  -- The copy that databases are made of; later the pool's own connections would be in its way.
  test.admin().exec "create database moonpool_template template moonpool"
  local code = require "moonpool.spec" (arguments)
  code = math.max(code, left_behind())
  for name in pairs(made) do test.admin().exec(("drop database if exists %s with (force)"):format(name)) end
  test.admin().close()
  return code
end

return test
