-- moonpool migrate verify: what is no longer as the migrations made it.
local json      = require "moonpool.json"
local migration = require "spec.support.data.migration"

local schema = [[
create schema desk;
create type colour as enum ('red', 'green');
create domain amount as numeric(12,2) constraint amount_positive check (value >= 0);
create sequence numbers increment 2;
create table apples (
  id integer generated always as identity constraint apples_pkey primary key,
  tenant uuid not null,
  name text not null default 'apple',
  price amount,
  colour colour,
  constraint apples_name_check check (name <> '')
);
create table desk.pears (id integer primary key,
  apple integer constraint pears_apple references apples);
create index apples_by_name on apples (name);
alter table apples enable row level security;
alter table apples force row level security;
create policy own on apples using (tenant::text = current_setting('app.tenant', true));
grant select, insert on apples to moonpool_app;
grant usage on schema desk to moonpool_app;
create function half(n integer) returns integer language sql as $$ select n / 2 $$;
create view cheap as select id, name from apples where price < 1;
create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger touched before update on apples for each row execute function touch();
create statistics apples_stats on name, colour from apples;
-- migrate:down
drop schema desk cascade;
drop view cheap;
drop table apples;
drop function half(integer), touch();
drop sequence numbers;
drop domain amount;
drop type colour;
]]

describe("moonpool migrate verify", function()
  local project, owner

  before_each(function()
    project = migration.project { ["0001_schema.sql"] = schema }
    owner = project.owner
    project.must "up"
  end)

  after_each(function() project.remove() end)

  local function faults()
    local output, exit = project.migrate "verify --json"
    local answer = json.decode(output)
    assert.are.equal(answer.sound and 0 or 1, exit, output)
    return answer.faults
  end

  it("is content with what the migrations made, also after down and up, and after more of them",
     function()
    assert.are.same({}, faults())
    assert.are.equal("sound: 1 migration, 0 pending, no INVALID index\n", project.must "verify")
    project.write("0002_more.sql",
                  "alter table apples add column weight integer;\ndrop index apples_by_name;\n" ..
                                   "drop policy own on apples;\n-- migrate:down\nalter table \z
                                     apples drop column weight;\n" ..
                                   "create index apples_by_name on apples (name);\n" ..
                                   "create policy own on apples using (tenant::text = \z
                                     current_setting('app.tenant', true));\n")
    project.write("0003_alone.sql",
                  "create index concurrently if not exists apples_by_tenant on apples (tenant);\n"
                    ..
                                    "alter type colour add value if not exists 'blue';\nselect \z
                                      1;\n-- migrate:down\nselect 1;\n")
    project.must "up"
    assert.are.same({}, faults())
    project.must "down 2"
    assert.are.same({}, faults())
    project.must "up"      -- where 0003 finds its index
    assert.are.same({}, faults())
    owner.exec "drop index apples_by_tenant"
    assert.are.equal(1, #faults())
  end)

  it("names whatever was dropped, changed or added", function()
    for _, case in ipairs {
      { "drop index apples_by_name",
        "the index public.apples_by_name on public.apples is missing: a migration made it" },
      { "alter policy own on apples using (true)",
        "the policy own on public.apples is not what the migrations made" },
      { "create policy all_rows on apples using (true)",
        "the policy all_rows on public.apples is there, but no migration made it" },
      { "alter table apples add column extra text",
        "the column public.apples.extra is there, but no migration made it" },
      { "alter table apples alter column name drop not null",
        "migrations  not null\n  database    -" },
      { "alter table apples alter column name set default 'pear'",
        "migrations  default 'apple'::text\n  database    default 'pear'" },
      { "alter table desk.pears drop constraint pears_apple",
        "the constraint pears_apple on desk.pears is missing" },
      { "alter domain amount drop constraint amount_positive",
        "the constraint amount_positive on public.amount is missing" },
      { "revoke insert on apples from moonpool_app",
        "the table public.apples is not what the migrations made" },
      { "grant delete on apples to public",
        "the table public.apples is not what the migrations made" },
      { "grant update (name) on apples to moonpool_app",
        "the column public.apples.name is not what the migrations made" },
      { "revoke usage on schema desk from moonpool_app",
        "the schema desk is not what the migrations made" },
      { "create or replace function half(n integer) returns integer language sql as $$ select n \z
        / 3 $$",
        "the function public.half(n integer) is not what the migrations made" },
      { "alter table apples disable trigger touched",
        "database    disabled" },
      { "alter sequence numbers increment 3",
        "the sequence public.numbers is not what the migrations made" },
      { "create or replace view cheap as select id, name from apples where price < 2",
        "the view public.cheap is not what" },
      { "alter type colour add value 'blue'",
        "the enum public.colour is not what the migrations made" },
      { "alter domain amount set not null",
        "the domain public.amount is not what the migrations made" },
      { "drop view cheap",
        "the view public.cheap is missing" },
      { "drop sequence numbers",
        "the sequence public.numbers is missing" },
      { "drop trigger touched on apples",
        "the trigger touched on public.apples is missing" },
      { "drop policy own on apples",
        "the policy own on public.apples is missing" },
      { "drop statistics apples_stats",
        "the statistics public.apples_stats is missing" },
      { "alter table apples drop column colour",
        "the column public.apples.colour is missing" },
      { "drop table desk.pears",
        "the table desk.pears is missing: a migration made it" },
      { "alter table apples drop constraint apples_name_check",
        "the constraint apples_name_check on public.apples is missing" },
      { "alter table apples no force row level security",
        "migrations  row level security forced\n  database    -" },
      { "alter table apples disable row level security",
        "migrations  row level security\n" },
      { "drop function half(integer)",
        "the function public.half(n integer) is missing" },
    } do
      local statement, said = table.unpack(case)
      owner.exec(statement)
      local found = faults()
      assert.are.equal(1, #found, statement .. ": " .. table.concat(found, "\n"))
      assert.truthy(found[1]:find(said, 1, true), statement .. ": " .. found[1])
      project.must "verify --accept"
      assert.are.same({}, faults())
    end
  end)

  it("goes on telling it after other migrations have run", function()
    owner.exec "drop index apples_by_name"
    project.write("0002_more.sql", "create table plums (id integer);\n")
    project.must "up"
    local output, exit = project.migrate "verify"
    assert.are.equal(1, exit)
    migration.says(output, "the index public.apples_by_name on public.apples is missing", "1 fault",
                   "verify --accept")
    migration.says(project.must "verify --accept", "1 difference")
    migration.says(project.must "verify", "sound")
  end)

  it("leaves alone what others have made", function()
    owner.exec "create index apples_by_price on apples (price)"
    owner.exec "create table theirs (id integer primary key, note text)"
    owner.exec "create function theirs() returns integer language sql as 'select 1'"
    assert.are.same({}, faults())
    owner.exec "drop table theirs"
    assert.are.same({}, faults())
  end)

  it("leaves alone partitions that come and go, with the keys that PostgreSQL gives them",
     function()
    project.write("0002_parts.sql",
                  "create table years (y integer primary key) partition by range (y);\n" ..
                  "create table years_1 partition of years for values from (1) to (10);\n" ..
                  "create table uses (id integer primary key, y integer constraint uses_y \z
                    references years);\n")
    project.must "up"
    owner.exec "create table years_2 partition of years for values from (10) to (20)"
    assert.are.same({}, faults())
    owner.exec "alter table years detach partition years_2"
    owner.exec "drop table years_2"
    assert.are.same({}, faults())
    owner.exec "alter table years detach partition years_1"
    owner.exec "drop table years_1"
    assert.are.equal(1, #faults())
  end)

  it("notes a database that an older moonpool has migrated at the next up", function()
    owner.exec "delete from moonpool.migration_object"
    migration.says(project.must "verify", "not noted yet, so nothing was compared")
    migration.says(project.must "up", "nothing to do")
    assert.are.same({}, faults())
    owner.exec "drop index apples_by_name"
    assert.are.equal(1, #faults())
  end)

  it("compares names only where another version of PostgreSQL wrote the definitions", function()
    owner.exec "update moonpool.migration_object set definition = '14' where kind = 'server'"
    owner.exec "update moonpool.migration_object set definition = 'as 14 writes it' where kind = \z
      'view'"
    assert.are.same({}, faults())
    owner.exec "drop index apples_by_name"
    assert.are.equal(1, #faults())
    owner.exec "create index apples_by_name on apples (name)"
    project.must "up"
    assert.are.same({}, faults())
    owner.exec "alter table apples alter column name drop default"
    assert.are.equal(1, #faults())
  end)
end)
