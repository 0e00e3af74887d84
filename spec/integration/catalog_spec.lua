-- A walk through PostgreSQL's catalogue: no table of a dealership lacks what keeps dealerships
-- apart, and the application role can do no more than the lists below say. Whoever adds a table or
-- a function for it adds a line here. Each rule is then shown a schema that breaks it, inside a
-- transaction that is rolled back.
local db   = require "moonpool.db"
local test = require "moonpool.test"

-- What the application role may do with a table; `insert()` stands for some columns and not for
-- those of the time.
local rights = {
  moonpool_migrations = "select", -- a host that serves tells what is not applied
  ["appointments"]              = "insert select update",
  ["approved_lenders"]          = "insert select update",
  ["audit_log"]                 = "insert() select",
  ["audit_seals"]               = "select",
  ["customer_history"]          = "insert select",
  ["customer_notes"]            = "insert select update",
  ["customer_vehicles"]         = "insert select update",
  ["customers"]                 = "insert select update",
  ["deal_number_sequences"]     = "insert select update",
  ["deal_scenarios"]            = "insert select update",
  ["dealership_settings"]       = "insert select update",
  ["dealership_stock_settings"] = "insert select update",
  ["deals"]                     = "insert select update",
  ["email_messages"]            = "insert select update",
  ["lender_programs"]           = "insert select update",
  ["lenders"]                   = "insert select update",
  ["permissions"]               = "select",
  ["rate_requests"]             = "insert select update",
  ["role_permissions"]          = "select",
  ["security_audit_log"]        = "insert() select",
  ["system.audit_heads"]        = "select",
  ["tax_jurisdictions"]         = "select",
  ["trade_vehicles"]            = "insert select update",
  ["user_logins"]               = "insert select update",
  ["user_permissions"]          = "delete insert select",
  ["users"]                     = "insert select update",
  ["vehicles"]                  = "insert select update",
  ["zip_code_lookup"]           = "select",
}

-- Functions that the application role may call.
local callable = {
  ["system.dealerships()"]                = true,
  ["system.find_login(text)"]             = true,
  ["system.seal_audit_log(uuid,integer)"] = true,
}

-- Unique over all dealerships, on purpose: names people log in with, in a table of their own.
local global_keys = { ["user_logins_key"] = true }

-- The walk ----------------------------------------------------------------------------------------

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
local queries = {
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
local function findings(query)
  local found = {}
  local function find(rule, name) found[#found + 1] = rule .. ": " .. name end
  local parameters = query("select to_regclass('pg_parameter_acl') is not null as known")[1].known
  for rule, sql in pairs(queries) do
    -- PostgreSQL 14 knows no rights on parameters.
    if not parameters then
      sql = sql:gsub("pg_parameter_acl", "(select null, null::aclitem[]) as p (parname, paracl)")
    end
    for _, row in ipairs(query(prelude .. sql)) do
      -- Rows of two of the rules name a key, which may be an exception.
      local values = {}
      for column, value in pairs(row) do values[column] = value end
      if not global_keys[values.key] then
        find(rule, values.key and values.name .. " (" .. values.key .. ")" or values.name)
      end
    end
  end
  for _, row in ipairs(query(prelude .. granted)) do
    if row.rights ~= (rights[row.name] or "") or row.grantable then
      find("the application role has the rights of the list", row.name .. " has " .. row.rights)
    end
  end
  for _, row in ipairs(query(prelude .. executable)) do
    if not callable[row.name] then
      find("the application role calls the functions of the list", row.name)
    end
  end
  table.sort(found)
  return found
end

-- Schemas that break a rule -----------------------------------------------------------------------

local own = "nullif(current_setting('app.dealership_id', true), '')::uuid"

-- A sound table of a dealership; the arguments replace a part of it.
local function sound(part)
  part = part or {}
  local function take(name, default) return part[name] == nil and default or part[name] or nil end
  local statements = {
    "create table things (" .. take("columns", [[
       dealership_id uuid not null, id uuid not null, deal_id uuid, name text,
       created_at timestamptz not null default now(),
       updated_at timestamptz not null default now()]]) .. ")",
    take("key", "alter table things add constraint things_pkey primary key (dealership_id, id)"),
    take("reference", [[alter table things add constraint things_deal_fkey
      foreign key (dealership_id, deal_id) references deals (dealership_id, id)]]),
    take("enable", "alter table things enable row level security"),
    take("force", "alter table things force row level security"),
    take(
      "policy", (
        "create policy tenant on things using (dealership_id = %s) with check (dealership_id = %s)")
      :format(own, own)),
    take("owner", "alter table things owner to moonpool_owner"),
  }
  local present = {}
  for i = 1, 7 do present[#present + 1] = statements[i] or nil end
  for _, statement in ipairs(part) do present[#present + 1] = statement end
  return present
end

local definer = [[
  create function system.peek() returns bigint language sql security definer %s as
    'select count(*) from public.deals']]
local hello =
  "create function system.hello() returns text language sql %s as 'select ''hello''::text'"

-- { what it is, the statements, the finding }
local broken = {
  { "a key without the dealership",
    sound { key = "alter table things add constraint things_pkey primary key (id)" },
    "the primary key begins with the dealership: things (things_pkey)" },
  { "the dealership behind the id", sound {
      key = "alter table things add constraint things_pkey primary key (id, dealership_id)" },
    "the primary key begins with the dealership: things (things_pkey)" },
  { "no key", sound { key = "select 1" }, "the primary key begins with the dealership: things" },
  { "a dealership that may be null", sound { key = "alter table things add primary key (id)",
      "alter table things alter dealership_id drop not null" },
    "the dealership is a uuid and never null: things" },
  { "a global unique constraint",
    sound { "alter table things add constraint things_name_key unique (name)" },
    "unique means unique in a dealership: things (things_name_key)" },
  { "a global unique index", sound { "create unique index things_name on things (lower(name))" },
    "unique means unique in a dealership: things (things_name)" },
  { "no row level security", sound { enable = "select 1" },
    "row level security is enabled and forced: things" },
  { "row level security that the owner escapes", sound { force = "select 1" },
    "row level security is enabled and forced: things" },
  { "no policy", sound { policy = "select 1" },
    "one policy says whose rows these are, to read and to write: things" },
  { "a policy without WITH CHECK",
    sound { policy = ("create policy tenant on things using (dealership_id = %s)"):format(own) },
    "one policy says whose rows these are, to read and to write: things" },
  { "a policy that lets all write", sound {
      policy = ("create policy tenant on things using (dealership_id = %s) with check (true)")
        :format(own) },
    "one policy says whose rows these are, to read and to write: things" },
  { "a policy that lets all read", sound {
      policy = ("create policy tenant on things using (true) with check (dealership_id = %s)")
        :format(own) },
    "one policy says whose rows these are, to read and to write: things" },
  { "a second policy", sound { "create policy support on things for select using (true)" },
    "one policy says whose rows these are, to read and to write: things" },
  { "a policy for some commands", sound {
      policy = ("create policy tenant on things for insert with check (dealership_id = %s)")
        :format(own) },
    "one policy says whose rows these are, to read and to write: things" },
  { "a second policy on a table that is there",
    { "create policy support on deals for select using (true)" },
    "one policy says whose rows these are, to read and to write: deals" },
  { "a reference without the dealership", sound {
      reference = "alter table deals add constraint deals_id_key unique (id)",
      "alter table things add constraint things_deal_fkey foreign key (deal_id) references deals \z
        (id)" },
    "foreign keys carry the dealership: things_deal_fkey" },
  { "a reference with dealership and id exchanged", sound {
      reference = [[alter table things add constraint things_deal_fkey
        foreign key (deal_id, dealership_id) references deals (dealership_id, id)]] },
    "foreign keys carry the dealership: things_deal_fkey" },
  { "a reference from shared data to a dealership's", {
      "alter table permissions add dealer uuid constraint permissions_dealer_fkey references \z
        dealership_settings (id)" },
    "foreign keys carry the dealership: permissions_dealer_fkey" },
  { "a reference that deletes", sound {
      reference = [[alter table things add constraint things_deal_fkey
        foreign key (dealership_id, deal_id) references deals (dealership_id, id)
          on delete cascade]] },
    "foreign keys change no rows: things_deal_fkey" },
  { "no time of change", sound {
      "grant select, update on things to moonpool_app",
      "alter table things drop column updated_at" },
    "rows tell when they were made and changed: things.updated_at" },
  { "no time of making", sound { "alter table things drop column created_at" },
    "rows tell when they were made and changed: things.created_at" },
  { "a trigger", { [[create trigger touch before update on deals for each row
      execute function suppress_redundant_updates_trigger()]] },
        "no triggers and no rules: touch" },
  { "a rule", { "create rule quiet as on delete to deals do instead nothing" },
    "no triggers and no rules: quiet" },
  { "a view that reads as its owner", { "create view all_deals as select * from deals",
      "alter view all_deals owner to moonpool_owner", "grant select on all_deals to moonpool_app" },
    "no view shows what a policy hides: all_deals" },
  { "a view of which one column can be read", { "create view all_deals as select * from deals",
      "grant select (id) on all_deals to moonpool_app" },
      "no view shows what a policy hides: all_deals" },
  { "a materialised view", { "create materialized view all_deals as select * from deals",
      "grant select on all_deals to moonpool_app" },
      "no view shows what a policy hides: all_deals" },
  { "a table that the application role owns",
    sound { owner = "alter table things owner to moonpool_app" },
    "tables belong to moonpool_owner: things" },
  { "a schema of another role", { "create schema extra" },
    "schemas belong to the two owners: extra" },
  { "a function with a superuser's rights",
    { definer:format "set search_path = pg_catalog, pg_temp" },
    "functions with their owner's rights are moonpool_system's, with a pinned search_path: \z
      system.peek()" },
  { "a function whose search_path is the caller's", { definer:format "",
      "alter function system.peek() owner to moonpool_system" },
    "functions with their owner's rights are moonpool_system's, with a pinned search_path: \z
      system.peek()" },
  { "a function that the public may call", { hello:format "" },
    "the public has nothing: system.hello()" },
  { "a leakproof function", { hello:format "leakproof" },
    "no function claims to be leakproof: system.hello()" },
  { "a function that is not in the list", { hello:format "",
      "revoke all on function system.hello() from public",
      "grant execute on function system.hello() to moonpool_app" },
    "the application role calls the functions of the list: system.hello()" },
  { "a table for the public", { "grant select on permissions to public" },
    "the public has nothing: permissions" },
  { "a column for the public", { "grant select (name) on permissions to public" },
    "the public has nothing: permissions.name" },
  { "the schema for the public", { "grant usage on schema public to public" },
    "the public has nothing: public" },
  { "the database for the public", { "grant temporary on database %s to public" },
    "the public has nothing: database" },
  { "a language for the public", { "grant usage on language plpgsql to public" },
    "the public has nothing: plpgsql" },
  { "later tables for the application role", {
      "alter default privileges for role moonpool_owner grant select on tables to moonpool_app" },
    "the public has nothing: default: r" },
  { "later functions for the public", {
      "alter default privileges for role moonpool_owner grant execute on functions to public" },
    "what moonpool_owner makes is nobody else's until granted: moonpool_owner" },
  { "rights of a further role", { "create role clerk", "grant select on deals to clerk" },
    "only the three roles have rights: deals: clerk" },
  { "deleting", { "grant delete on deals to moonpool_app" },
    "the application role has the rights of the list: deals has delete insert select update" },
  { "truncating", { "grant truncate on deals to moonpool_app" },
    "the application role has the rights of the list: deals has insert select truncate update" },
  { "changing the audit log", { "grant update (new_value) on audit_log to moonpool_app" },
    "the application role has the rights of the list: audit_log has insert() select update()" },
  { "choosing the time of an audit entry",
    { "grant insert (timestamp) on audit_log to moonpool_app" },
    "the application role has the rights of the list: audit_log has insert of timestamp insert() \z
      select" },
  { "moving the head of the seals", { "grant update on system.audit_heads to moonpool_app" },
    "the application role has the rights of the list: system.audit_heads has select update" },
  { "writing shared data", { "grant insert on tax_jurisdictions to moonpool_app" },
    "the application role has the rights of the list: tax_jurisdictions has insert select" },
  { "a table that is not in the list", sound { "grant select on things to moonpool_app" },
    "the application role has the rights of the list: things has select" },
  { "rights to hand on", { "grant select on deals to moonpool_app with grant option" },
    "the application role has the rights of the list: deals has insert select update" },
  { "BYPASSRLS", { "alter role moonpool_app bypassrls" },
    "the application role is an ordinary one: bypassrls" },
  { "a superuser", { "alter role moonpool_app superuser" },
    "the application role is an ordinary one: super" },
  { "a member of the owner", { "grant moonpool_owner to moonpool_app" },
    "the application role is an ordinary one: member of moonpool_owner" },
  { "a member of PostgreSQL's own roles", { "grant pg_read_all_data to moonpool_app" },
    "the application role is an ordinary one: member of pg_read_all_data" },
  { "a dealership from the start",
    { "alter role moonpool_app set app.dealership_id = '00000000-0000-7000-8000-000000000001'" },
    "the application role is an ordinary one: setting app.dealership_id=00000000-0000-7000-8000-0\z
      00000000001" },
  { "temporary tables", { "grant temporary on database %s to moonpool_app" },
    "the application role makes nothing and changes no settings: database: temporary" },
  { "tables of its own", { "grant create on schema public to moonpool_app" },
    "the application role makes nothing and changes no settings: schema: public" },
  { "set_config", { "grant execute on function set_config(text, text, boolean) to moonpool_app" },
    "the application role makes nothing and changes no settings: set_config(text,text,boolean)" },
  { "large objects", { "grant execute on function lo_create(oid) to moonpool_app" },
    "the application role makes nothing and changes no settings: lo_create(oid)" },
  { "do blocks", { "grant usage on language plpgsql to moonpool_app" },
    "the application role makes nothing and changes no settings: language: plpgsql" },
  { "a server's parameter", { "grant set on parameter session_replication_role to moonpool_app" },
    "the application role makes nothing and changes no settings: parameter: \z
      session_replication_role", since = 15 },
  { "a system role to log in as", { "alter role moonpool_system login" },
    "nobody logs in as moonpool_system: moonpool_system" },
}

describe("the catalogue", function()
  local database, admin

  setup(function()
    database = test.database()
    admin = db.open { url = database.admin_url, max = 1 }
  end)

  teardown(function() admin.close() end)

  it("breaks no rule", function()
    assert.are.same({}, findings(admin.query))
  end)

  it("has every table of the lists", function()
    for name in pairs(rights) do
      assert.is_true(admin.value("select to_regclass($1) is not null", name), name)
    end
    for name in pairs(callable) do
      assert.is_true(admin.value("select to_regprocedure($1) is not null", name), name)
    end
  end)

  -- What the walk finds after these statements, which are then rolled back.
  local function findings_after(statements)
    local found
    local undo = {}
    local ok, failure = pcall(admin.transaction, { retries = 0 }, function(tx)
      for _, statement in ipairs(statements) do tx:exec((statement:gsub("%%s", database.name))) end
      found = findings(function(sql) return tx:query(sql) end)
      error(undo)
    end)
    assert(not ok)
    if not found then error(failure, 0) end
    return found
  end

  it("is content with a sound table", function()
    assert.are.same({}, findings_after(sound()))
  end)

  for _, case in ipairs(broken) do
    local what, statements, finding = table.unpack(case)
    it("does not pass over " .. what, function()
      local version = admin.value "select current_setting('server_version_num')::int / 10000"
      if version < (case.since or 0) then return pending("not in PostgreSQL " .. version) end
      local found = findings_after(statements)
      for _, one in ipairs(found) do
        if one == finding then return end
      end
      error("not found: " .. finding .. "\nfound: " .. table.concat(found, "\n       "), 0)
    end)
  end

  it("is shown each rule broken", function()
    local shown = {}
    for _, case in ipairs(broken) do
      for rule in pairs(queries) do
        if case[3]:sub(1, #rule + 2) == rule .. ": " then shown[rule] = true end
      end
    end
    for rule in pairs(queries) do assert.is_true(shown[rule], rule) end
  end)
end)
