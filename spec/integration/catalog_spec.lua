-- A walk through PostgreSQL's catalogue: no table of a dealership lacks what keeps dealerships
-- apart, and the application role can do no more than the lists below say. Whoever adds a table or
-- a function for it adds a line here. Each rule is then shown a schema that breaks it, inside a
-- transaction that is rolled back.
local catalog = require "spec.support.data.catalog"
local db      = require "moonpool.db"
local test    = require "moonpool.test"

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

local function findings(query)
  return catalog.findings(query, { rights = rights, callable = callable,
                                   global_keys = global_keys })
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
      for rule in pairs(catalog.queries) do
        if case[3]:sub(1, #rule + 2) == rule .. ": " then shown[rule] = true end
      end
    end
    for rule in pairs(catalog.queries) do assert.is_true(shown[rule], rule) end
  end)
end)
