-- moonpool.migrate.system: the host's own tables, in the schema moonpool. `migrate up` creates them
-- and keeps them up to date, before the project's migrations and under the same lock. It does so as
-- the owner, who needs the right to create schemas in the database and no other right.
--
-- The application's role may do with these tables only what the host does as that role: row level
-- security is forced, and the policies check a setting that no statement of an operation can set. A
-- statement of an operation must not name the schema at all (sql/text.c).
local host     = require "moonpool.host"
local problem  = require "moonpool.migrate.problem"
local versions = require "moonpool.migrate.system_versions"

local USUAL = "moonpool_app"

local system = { latest = #versions }

--- Returns the version of the schema in the database; 0 if the schema is missing.
function system.version(conn)
  if not conn.value "select to_regclass('moonpool.schema_version') is not null" then return 0 end
  return conn.value "select coalesce(max(version), 0) from moonpool.schema_version"
end

-- Returns the role that owns the functions that read the rows of all tenants: moonpool_system if
-- that role exists and the owner is a member of it, otherwise the owner.
local function definer(conn)
  return conn.value [[
    select coalesce((select rolname from pg_roles
                      where rolname = 'moonpool_system'
                        and pg_has_role(current_user, oid, 'member')), current_user)]]
end

-- Returns the existing roles that the host may run as: the role in DATABASE_URL, and moonpool_app.
-- Also returns the name of the role in DATABASE_URL.
local function applications(conn)
  local wanted = { USUAL }
  local url = os.getenv "DATABASE_URL"
  wanted[2] = url and url ~= "" and host.url_user(url) or nil
  local there = {}
  for _, row in ipairs(
    conn.query("select rolname from pg_roles where rolname = any($1::name[]) order by 1",
               wanted)) do
    there[#there + 1] = row.rolname
  end
  return there, wanted[2]
end

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

-- Replaces :definer and :application in a statement by the names of roles.
local function fill(text, roles)
  return (text:gsub("([^:]):(%l+)", function(before, name)
    return roles[name] and before .. quote(roles[name])
  end))
end

-- Raises a problem for a role named moonpool: the default search_path ("$user", public) of such a
-- role has the schema moonpool before public.
local function check_names(conn, roles)
  for _, role in ipairs(roles) do
    if role == "moonpool" and not conn.value [[
        select exists (select from pg_db_role_setting s join pg_roles r on r.oid = s.setrole
                        where r.rolname = 'moonpool' and s.setconfig::text like '%search_path=%')]]
                          then
      problem.raise(
        "a role named moonpool finds the host's schema moonpool before public; once, as that \z
          role, run\n" ..
                    "  alter role moonpool set search_path = public\nand then moonpool migrate \z
                      up again")
    end
  end
end

-- Calls fn(object, privilege) for each privilege that the role of the host needs, until fn returns
-- a value. Returns that value.
local function each_grant(fn)
  for _, version in ipairs(versions) do
    for object, privileges in pairs(version.grants) do
      for privilege in privileges:gmatch "%f[%l][^,]+" do
        local result = fn(object, privilege)
        if result then return result end
      end
    end
  end
end

local function is_function(object) return object:find("(", 1, true) ~= nil end

local function grant(conn, application)
  conn.exec("grant usage on schema moonpool to " .. quote(application))
  each_grant(function(object, privilege)
    local kind = is_function(object) and "function " or ""
    conn.exec(("grant %s on %s%s to %s"):format(privilege, kind, object, quote(application)))
  end)
end

-- Is a privilege missing that the role needs?
local function lacks(conn, application)
  if not conn.value("select has_schema_privilege($1, 'moonpool', 'usage')", application) then
    return true
  end
  return each_grant(function(object, privilege)
    local name, column = privilege:match "^(%l+) %((.-)%)$"
    if column then
      return not conn.value("select has_column_privilege($1, $2, $3, $4)", application, object,
                            column, name)
    end
    local kind = is_function(object) and "function" or "table"
    return not conn.value(("select has_%s_privilege($1, $2, $3)"):format(kind), application, object,
                          privilege)
  end) or false
end

local function in_transaction(conn, fn)
  conn.exec "begin"
  local ok, failure = pcall(fn)
  if ok then ok, failure = pcall(conn.exec, "commit") end
  if ok then return end
  pcall(conn.exec, "rollback")
  if type(failure) == "table" and failure.sqlstate == "42501" then
    problem.raise(
      "the host's own tables (schema moonpool) cannot be made: %s\ngrant the owner the right to, \z
        as a " ..
                  "superuser: grant create on database %s to %s", failure.message,
                  quote(conn.value "select current_database()"),
                  quote(conn.value "select current_user"))
  end
  error(failure, 0)
end

--- Lets the application's roles read the record of applied migrations: `moonpool serve` reports the
--- migrations that are not applied.
function system.open_record(conn)
  for _, application in ipairs((applications(conn))) do
    for _, name in ipairs { "public.moonpool_migrations", "moonpool.schema_version" } do
      if not conn.value("select has_table_privilege($1, $2, 'select')", application, name) then
        conn.exec(("grant select on %s to %s"):format(name, quote(application)))
      end
    end
  end
end

--- Brings the schema to this host's version, on the connection that holds the migration lock. A
--- newer schema is not changed: each version only adds to the one before.
---@param say fun(line: string)
function system.ensure(conn, say)
  local found = system.version(conn)
  local there, url_user = applications(conn)
  check_names(conn, { conn.value "select current_user", table.unpack(there) })
  if found == 0 then
    in_transaction(conn, function()
      conn.exec "create schema if not exists moonpool"
      conn.exec "revoke all on schema moonpool from public"
      conn.exec [[
        create table if not exists moonpool.schema_version (
          version    integer     not null,
          applied_at timestamptz not null default now(),
          moonpool   text        not null,
          constraint schema_version_pkey primary key (version)
        )]]
    end)
  end
  local roles = { definer = definer(conn) }
  for number = found + 1, #versions do
    in_transaction(conn, function()
      conn.exec(fill("grant usage, create on schema moonpool to :definer", roles))
      for _, statement in ipairs(versions[number].statements) do
        conn.exec(fill(statement, roles))
      end
      if roles.definer ~= conn.value "select current_user" then
        conn.exec(fill("revoke create on schema moonpool from :definer", roles))
      end
      conn.exec("insert into moonpool.schema_version (version, moonpool) values ($1, $2)", number,
                host.version)
    end)
  end
  local known = not url_user
  for _, application in ipairs(there) do
    known = known or application == url_user
    if found < #versions or lacks(conn, application) then
      in_transaction(conn, function() grant(conn, application) end)
      if application ~= USUAL then
        say("the host's own tables (schema moonpool): granted to " .. application)
      end
    end
  end
  if not known then
    io.stderr:write("the host's own tables: the role ", url_user,
                    ", which DATABASE_URL names, does not exist here and was ",
                    "granted nothing; make it and run moonpool migrate up again\n")
  end
end

return system
