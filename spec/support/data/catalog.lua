-- A walk through PostgreSQL's catalogue: the rules that keep tenants apart, and what the
-- application role may do.
local catalog = {}

-- In front of every query: `own` are the schemas that are neither PostgreSQL's nor the host's,
-- `rel` what is in them, `tenant` the tables of dealerships with the number of the column that
-- names the dealership.
local prelude = [[
with own as (select oid, nspname from pg_namespace where nspname !~ '^pg_'
                and nspname not in ('information_schema', 'moonpool', 'moonpool_fault')),
rel as (select c.*, c.oid::regclass::text as name from pg_class c join own
  on own.oid = c.relnamespace),
tenant as (
  select rel.*, a.attnum as key, a.attname as key_name, a.attnotnull
    and a.atttypid = 'uuid'::regtype as key_sound
    from rel join pg_attribute a on a.attrelid = rel.oid and not a.attisdropped
                                and a.attname = case rel.name when 'dealership_settings' then 'id'
                                  else 'dealership_id' end
   where rel.relkind in ('r', 'p')),
app as (select * from pg_roles where rolname = 'moonpool_app')
]]

-- rule -> a query that gives what breaks it, as `name`
catalog.queries = {
  ["the dealership is a uuid and never null"] = "select name from tenant where not key_sound",

  ["the primary key begins with the dealership"] = [[
    select name, k.conname as key from tenant
      left join pg_constraint k on k.conrelid = tenant.oid and k.contype = 'p'
     where k.conkey[1] is distinct from tenant.key]],

  ["unique means unique in a dealership"] = [[
    select name, i.indexrelid::regclass::text as key from tenant join pg_index i
      on i.indrelid = tenant.oid
     where i.indisunique and not (tenant.key = any (i.indkey::smallint[]))]],

  ["row level security is enabled and forced"] = [[
    select name from tenant where not (relrowsecurity and relforcerowsecurity)]],

  ["one policy says whose rows these are, to read and to write"] = [==[
    select name from tenant
     where (select array_agg(array[p.polname::text, p.polcmd::text, p.polpermissive::text,
       p.polroles::text,
                                   pg_get_expr(p.polqual, p.polrelid),
                                     pg_get_expr(p.polwithcheck, p.polrelid)])
              from pg_policy p where p.polrelid = tenant.oid)
           is distinct from array[array['tenant', '*', 'true', '{0}',
             format('(%s = (NULLIF(current_setting(''app.dealership_id''::text, true), '
                    '''''::text))::uuid)', key_name),
             format('(%s = (NULLIF(current_setting(''app.dealership_id''::text, true), '
                    '''''::text))::uuid)', key_name)]]]==],

  -- Wherever the key of the dealership stands among the columns, it is paired with the dealership.
  ["foreign keys carry the dealership"] = [[
    select k.conname as name from pg_constraint k join tenant target on target.oid = k.confrelid
      left join tenant source on source.oid = k.conrelid
     where k.contype = 'f'
       and not exists (select from unnest(k.conkey, k.confkey) as pair (own, other)
                        where pair.own = source.key and source.name <> 'dealership_settings'
                          and pair.other = target.key)]],

  ["foreign keys change no rows"] = [[
    select conname as name from pg_constraint join rel on rel.oid = conrelid
     where contype = 'f' and (confdeltype, confupdtype) <> ('a', 'a')]],

  ["rows tell when they were made and changed"] = [[
    select name || '.' || wanted as name
      from rel, unnest(array['created_at', case
        when has_any_column_privilege('moonpool_app', rel.oid, 'update')
                                                then 'updated_at' end]) as wanted
     where relkind in ('r', 'p') and name <> 'moonpool_migrations' and wanted is not null
       and not exists (select from pg_attribute a where a.attrelid = rel.oid and a.attname = wanted
         and a.attnotnull
                                                    and a.atttypid = 'timestamptz'::regtype)]],

  ["no triggers and no rules"] = [[
    select tgname as name from pg_trigger join rel on rel.oid = tgrelid where not tgisinternal
     union all
    select rulename from pg_rewrite join rel on rel.oid = ev_class
      where relkind not in ('v', 'm')]],

  -- A view reads with its owner's rights, past row level security, unless it is told otherwise; a
  -- materialised one always.
  ["no view shows what a policy hides"] = [[
    select name from rel
     where relkind in ('v', 'm', 'f')
       and has_any_column_privilege('moonpool_app', rel.oid, 'select')
       and (relkind <> 'v' or not coalesce(reloptions, '{}') && array['security_invoker=true',
         'security_invoker=on'])]],

  ["tables belong to moonpool_owner"] = [[
    select name from rel where pg_get_userbyid(relowner) <> 'moonpool_owner' and relkind <> 'c']],

  ["schemas belong to the two owners"] = [[
    select nspname as name from pg_namespace join own using (oid, nspname)
     where pg_get_userbyid(nspowner) not in ('moonpool_owner', 'moonpool_system')]],

  ["functions with their owner's rights are moonpool_system's, with a pinned search_path"] = [[
    select p.oid::regprocedure::text as name from pg_proc p join own on own.oid = p.pronamespace
     where p.prosecdef and (pg_get_userbyid(p.proowner) <> 'moonpool_system'
                            or not coalesce(p.proconfig, '{}') @>
                              array['search_path=pg_catalog, pg_temp'])]],

  ["no function claims to be leakproof"] = [[
    select p.oid::regprocedure::text as name from pg_proc p join own on own.oid = p.pronamespace
      where p.proleakproof]],

  ["the public has nothing"] = [[
    select name from rel, aclexplode(relacl) as acl where acl.grantee = 0
     union all
    select name || '.' || attname from rel join pg_attribute a
      on a.attrelid = rel.oid, aclexplode(a.attacl) as acl
     where acl.grantee = 0
     union all
    select nspname from own join pg_namespace using (oid, nspname),
           aclexplode(coalesce(nspacl, acldefault('n', nspowner))) as acl where acl.grantee = 0
     union all
    select p.oid::regprocedure::text from pg_proc p join own on own.oid = p.pronamespace,
           aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl where acl.grantee = 0
     union all
    select 'database' from pg_database d,
      aclexplode(coalesce(datacl, acldefault('d', datdba))) as acl
     where d.datname = current_database() and acl.grantee = 0
     union all
    select lanname from pg_language, aclexplode(coalesce(lanacl, acldefault('l', lanowner))) as acl
     where lanpltrusted and acl.grantee = 0
     union all
    select 'default: ' || defaclobjtype::text from pg_default_acl, aclexplode(defaclacl) as acl
     where acl.grantee in (0, 'moonpool_app'::regrole)]],

  ["what moonpool_owner makes is nobody else's until granted"] = [[
    select role as name from unnest(array['moonpool_owner', 'moonpool_system']) as role
     where not exists (select from pg_default_acl
                        where defaclrole = role::regrole and defaclobjtype = 'f'
                          and defaclnamespace = 0
                          and not exists (select from aclexplode(defaclacl) as acl
                            where acl.grantee = 0))]],

  ["only the three roles have rights"] = [[
    select name || ': ' || pg_get_userbyid(acl.grantee) as name from rel, aclexplode(relacl) as acl
     where acl.grantee <> 0 and pg_get_userbyid(acl.grantee) not in ('moonpool_owner',
       'moonpool_app', 'moonpool_system')]],

  ["the application role is an ordinary one"] = [[
    select attribute as name
      from app, lateral (values ('super', rolsuper), ('bypassrls', rolbypassrls),
        ('createdb', rolcreatedb),
                                ('createrole', rolcreaterole), ('replication', rolreplication)) as
                                  has (attribute, yes)
     where yes
     union all
    select 'member of ' || r.rolname from app, pg_roles r where r.oid <> app.oid
      and pg_has_role(app.oid, r.oid, 'member')
     union all
    select 'owns ' || classid::regclass::text from app join pg_shdepend on refobjid = app.oid
     where refclassid = 'pg_authid'::regclass and deptype = 'o'
     union all
    select 'setting ' || setting from app join pg_db_role_setting s
      on s.setrole in (app.oid, 0), unnest(s.setconfig) as setting
     where setting ~* '^(app\.|row_security|search_path|session_replication_role)']],

  ["the application role makes nothing and changes no settings"] = [[
    select 'database: ' || privilege as name from unnest(array['create', 'temporary']) as privilege
     where has_database_privilege('moonpool_app', current_database(), privilege)
     union all
    select 'schema: ' || nspname from pg_namespace
      where has_schema_privilege('moonpool_app', oid, 'create')
     union all
    select 'language: ' || lanname from pg_language
     where lanpltrusted and has_language_privilege('moonpool_app', oid, 'usage')
     union all
    select oid::regprocedure::text from pg_proc
     where pronamespace = 'pg_catalog'::regnamespace
       and proname ~ '^(set_config|lo_[a-z0-9_]+|loread|lowrite)$'
       and has_function_privilege('moonpool_app', oid, 'execute')
     union all
    select 'parameter: ' || parname from pg_parameter_acl, aclexplode(paracl) as acl
     where acl.grantee in (0, 'moonpool_app'::regrole)]],

  ["nobody logs in as moonpool_system"] = [[
    select rolname as name from pg_roles where rolname = 'moonpool_system'
      and (rolcanlogin or rolsuper or rolcreaterole)]],
}

-- Tables and sequences with what the application role was granted: "insert() select"; and what is
-- in the way of insert().
local granted = [[
select name, string_agg(distinct lower(privilege), ' ' order by lower(privilege)) as rights,
  bool_or(grantable) as grantable
  from (select name, acl.privilege_type as privilege, acl.is_grantable as grantable
          from rel, aclexplode(relacl) as acl where acl.grantee = (select oid from app)
         union all
        select name, case when attname in ('timestamp', 'created_at', 'sealed_at') then
          acl.privilege_type || ' of ' || attname
                          else acl.privilege_type || '()' end, acl.is_grantable
          from rel join pg_attribute a on a.attrelid = rel.oid, aclexplode(a.attacl) as acl
         where acl.grantee = (select oid from app)) as g
 group by name]]

local executable = [[
select p.oid::regprocedure::text as name from pg_proc p join own on own.oid = p.pronamespace
 where has_function_privilege('moonpool_app', p.oid, 'execute')]]

--- Everything that breaks a rule: "rule: object", sorted.
---@param query fun(sql: string): table[]
---@param lists table rights: table -> what the application role may do with it; callable: set of
--- the functions that it may call; global_keys: set of the keys that are unique over all tenants
function catalog.findings(query, lists)
  local found = {}
  local function find(rule, name) found[#found + 1] = rule .. ": " .. name end
  local parameters = query("select to_regclass('pg_parameter_acl') is not null as known")[1].known
  for rule, sql in pairs(catalog.queries) do
    -- PostgreSQL 14 knows no rights on parameters.
    if not parameters then
      sql = sql:gsub("pg_parameter_acl", "(select null, null::aclitem[]) as p (parname, paracl)")
    end
    for _, row in ipairs(query(prelude .. sql)) do
      -- Rows of two of the rules name a key, which may be an exception.
      local values = {}
      for column, value in pairs(row) do values[column] = value end
      if not lists.global_keys[values.key] then
        find(rule, values.key and values.name .. " (" .. values.key .. ")" or values.name)
      end
    end
  end
  for _, row in ipairs(query(prelude .. granted)) do
    if row.rights ~= (lists.rights[row.name] or "") or row.grantable then
      find("the application role has the rights of the list", row.name .. " has " .. row.rights)
    end
  end
  for _, row in ipairs(query(prelude .. executable)) do
    if not lists.callable[row.name] then
      find("the application role calls the functions of the list", row.name)
    end
  end
  table.sort(found)
  return found
end

return catalog
