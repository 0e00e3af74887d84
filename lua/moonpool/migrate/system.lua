-- moonpool.migrate.system: the host's own tables, in the schema moonpool. `migrate up` makes them
-- and keeps them up to date, in front of the project's migrations and under the same lock, as the
-- owner, who needs the right to create schemas in the database and nothing more.
--
-- An application's role may do with them what the host does in its name, and no more: row level
-- security is forced, and what a policy asks for is a setting that no statement of an operation can
-- set. A statement of an operation may not name the schema at all (sql/text.c).
local host     = require "moonpool.host"
local problem  = require "moonpool.migrate.problem"
local versions = require "moonpool.migrate.system_versions"

local USUAL = "moonpool_app"

local system = { latest = #versions }

--- The version that the database has: 0 if it has none of it.
function system.version(conn)
  if not conn.value "select to_regclass('moonpool.schema_version') is not null" then return 0 end
  return conn.value "select coalesce(max(version), 0) from moonpool.schema_version"
end

-- Owns the functions that see the rows of all: moonpool_system where it is known and ours, else the
-- owner.
local function definer(conn)
  return conn.value [[
    select coalesce((select rolname from pg_roles
                      where rolname = 'moonpool_system'
                        and pg_has_role(current_user, oid, 'member')), current_user)]]
end

-- The roles that the host may run as: the one that DATABASE_URL names, and the usual one.
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

-- In the tables' texts :definer and :application stand for roles.
local function fill(text, roles)
  return (text:gsub("([^:]):(%l+)", function(before, name)
    return roles[name] and before .. quote(roles[name])
  end))
end

-- A role of this name finds the schema in its search_path ("$user") before public.
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

-- Calls fn(object, privilege) for each privilege that a role needs which the host runs as, until it
-- gives a value.
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

-- Is anything missing of what the role needs?
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

--- The application may see what was applied: a host that serves tells what is not.
function system.open_record(conn)
  for _, application in ipairs((applications(conn))) do
    for _, name in ipairs { "public.moonpool_migrations", "moonpool.schema_version" } do
      if not conn.value("select has_table_privilege($1, $2, 'select')", application, name) then
        conn.exec(("grant select on %s to %s"):format(name, quote(application)))
      end
    end
  end
end

--- Brings the schema to this host's version, on the connection that holds the lock of migrations. A
--- newer one is left as it is: versions only add.
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
