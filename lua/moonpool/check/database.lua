-- moonpool.check.database: the database of `moonpool check` where the user gives none: one for each
-- project in the embedded server, with the project's migrations and no data. It is made again when
-- the migrations have changed. The host is connected as PostgreSQL's superuser.
--
-- The command line calls it twice: ("prepare", name, url) before the migrations, ("keep", name)
-- behind them. Its comment says what it was made of.
local db      = require "moonpool.db"
local files   = require "moonpool.migrate.files"
local host    = require "moonpool.host"
local lfs     = require "lfs"
local problem = require "moonpool.migrate.problem"

local READY, MADE = 0, 10 -- exit codes, for src/cli/cmd_check.c

-- What the database would be made of.
local function content()
  local parts, dir = { "moonpool check", host.app_dir, host.version }, host.app_dir .. "/migrations"
  if lfs.attributes(dir, "mode") == "directory" then
    for _, file in ipairs(files.all(dir)) do
      parts[#parts + 1] = file.name .. " " .. file.checksum
    end
  end
  return host.sha256(table.concat(parts, "\n"))
end

local function prepare(name, url)
  local known = db.value("select shobj_description(oid, 'pg_database') from pg_database \z
                          where datname = $1", name)
  if known == content() then return READY end
  db.exec(("drop database if exists %s with (force)"):format(name))
  db.exec(("create database %s owner moonpool_owner"):format(name))
  db.exec(("revoke all on database %s from public"):format(name))
  db.exec(("grant connect on database %s to moonpool_app, moonpool_owner"):format(name))
  local own = db.open { url = url, max = 1 }
  own.exec "alter schema public owner to moonpool_owner"
  own.exec "grant usage on schema public to moonpool_app"
  own.exec "grant create on schema public to moonpool_system"
  own.close()
  return MADE
end

return function(arguments)
  local step, name, url = table.unpack(arguments)
  if step == "prepare" then
    local ok, code = pcall(prepare, name, url)
    if ok then return code end
    if not problem.is(code) then error(code, 0) end -- a migration that cannot be read
    io.stderr:write("moonpool check: ", tostring(code), "\n")
    return 1
  end
  db.exec(("comment on database %s is '%s'"):format(name, content()))
  return READY
end
