-- moonpool.serve.role: checks that row level security applies to the role with which the host
-- connects. If it does not apply, PostgreSQL gives no warning, and only the conditions of each
-- statement keep tenants apart.
local db   = require "moonpool.db"
local host = require "moonpool.host"

local role = {}

local QUESTION = [[
  select current_user::text as name, r.rolsuper as super, r.rolbypassrls as bypass,
         (select string_agg(c.oid::regclass::text, ', ' order by c.oid::regclass::text)
            from pg_class c
           where c.relkind in ('r', 'p') and c.relrowsecurity and not c.relforcerowsecurity
             and pg_has_role(c.relowner, 'usage')) as owned
    from pg_roles r
   where r.rolname = current_user]]

-- The names of functions that the role may execute, although `moonpool db roles` revokes them. The
-- guard of operations knows these functions only by name.
local function powers(name)
  local exact, prefixes = {}, {}
  for _, power in ipairs(host.powers()) do
    if not power.kept then
      local list = power.prefix and prefixes or exact
      list[#list + 1] = power.prefix and power.name:gsub("_", "\\_") .. "%" or power.name
    end
  end
  return db.value([[
    select string_agg(distinct p.proname, ', ' order by p.proname) from pg_proc p
     where has_function_privilege($1, p.oid, 'execute')
       and (p.proname = any($2::text[]) or p.proname like any($3::text[]))
       and (p.proname <> 'ts_rewrite' or 'text'::regtype = any (p.proargtypes::oid[]))]], name,
         exact, prefixes)
end

--- What is wrong with the role of DATABASE_URL, or nil.
---@return string?
function role.fault()
  local found = db.one(QUESTION)
  if found.super then
    return ("the role %s is a superuser: row level security does not bind it"):format(found.name)
  end
  if found.bypass then
    return ("the role %s has BYPASSRLS: row level security does not bind it"):format(found.name)
  end
  if found.owned then
    return (
      "the role %s owns tables whose row level security is not forced, and so does not bind it: %s")
        :format(
      found.name, found.owned)
  end
  local may = powers(found.name)
  if may then
    return ("the role %s may run functions that reach beyond its tenant's rows: %s")
      :format(found.name, may)
  end
  return nil
end

--- Checks in a separate task, because a host must also start without its database. Logs a fault.
function role.check()
  host.spawn(function()
    local ok, fault = pcall(role.fault)
    if ok and fault then
      host.log("warn", fault .. "; use a role that `moonpool db roles` prepares (DATABASE_URL)")
    end
  end)
end

return role
