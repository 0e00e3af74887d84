-- moonpool migrate: what cannot run in a transaction, and the INVALID indexes that interruptions
-- leave.
local command   = require "spec.support.process.command"
local migration = require "spec.support.data.migration"

local says, says_not = migration.says, migration.says_not

-- 37 indexes on one table, written as people write them.
local function many_indexes()
  local lines = {
    "-- All indexes; built while the shop is open.\n/* a comment; with a semicolon /* nested; */ \z
      */\n" }
  for number = 1, 37 do
    lines[#lines + 1] = string.format(
      "-- %d; don't stop here\ncreate index concurrently if not exists many_%02d\n" ..
                                      "  on many (c%d, (note || ';' || $$--;$$)) /* ; */ where \z
                                        note <> 'it''s; so';\n",
                                      number, number, number)
  end
  return table.concat(lines)
end

local function many_table()
  local columns = {}
  for number = 1, 37 do columns[number] = "c" .. number .. " integer" end
  return "create table many (note text, " .. table.concat(columns, ", ") .. ");\n"
end

describe("moonpool migrate, outside a transaction,", function()
  local project, owner

  before_each(function()
    project = migration.project {
      ["0001_apples.sql"] = "create table apples (id integer, name text);\n" }
    owner = project.owner
  end)

  after_each(function() project.remove() end)

  it("builds 37 indexes of one file, whatever is in its comments and quotes", function()
    project.write("0002_many.sql", many_table())
    project.write("0003_indexes.sql", many_indexes())
    says(project.must "up", "applied 0003_indexes.sql (37 statements")
    assert.are.equal(
      37,
      owner.value "select count(*) from pg_index where indrelid = 'many'::regclass and indisvalid")
    assert.is_false(project.exists "moonpool_migration_steps")
  end)

  it("runs a mix as segments, and what is like CONCURRENTLY too", function()
    project.write("0002_mix.sql", [[
      create type ripeness as enum ('green');
      alter type ripeness add value 'red';
      alter table apples add column ripeness ripeness default 'red';
      vacuum apples;
      create index concurrently apples_by_name on apples (name);
      insert into apples (id) values (1);
      reindex index concurrently apples_by_name;
      reindex (concurrently) table apples;
      drop index concurrently apples_by_name;
      do $$ begin perform 1; end; $$;
    ]])
    says(project.must "up", "applied 0002_mix.sql (10 statements")
    assert.are.equal("red", owner.value "select ripeness::text from apples")
    assert.is_nil(project.is_valid "apples_by_name")
  end)

  it("has no time limit", function()
    project.write("0002_slow.sql", "select pg_sleep(0.5);\nvacuum apples;\nselect pg_sleep(0.5);\n")
    local output, exit = project.migrate("up", { DB_QUERY_TIMEOUT = 100, DB_STATEMENT_TIMEOUT = 100,
                                                 DB_SLOW_QUERY_THRESHOLD = 100 })
    assert.are.equal(0, exit, output)
    says_not(output, "warn")
  end)

  it("goes on where a file stopped, and refuses a change of what was done", function()
    local function text(first, last)
      return (
        "alter table apples add column colour %s;\ncreate index concurrently apples_by_name on \z
          apples (name);\n%s;\n")
        :format(first, last)
    end
    project.write("0002_stop.sql", text("text", "select 1 / 0"))
    project.write("0003_pears.sql", "create table pears (id integer);\n")
    local output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0002_stop.sql:3: division by zero", "22012",
         "0002_stop.sql stopped: 2 statements of it done and kept",
         "applied in this run: 1 migration", "pending: 2 migrations",
         "migrate up again: it goes on there")
    assert.is_true(project.is_valid "apples_by_name")

    output, exit = project.migrate "status"
    assert.are.equal(1, exit)
    says(output, "half-done 0002_stop.sql", "2 statements done, going up")
    output, exit = project.migrate "verify"
    assert.are.equal(1, exit)
    says(
      output,
      "0002_stop.sql is half applied (2 statements done): finish it with moonpool migrate up")

    project.write("0002_stop.sql", text("integer", "select 1"))
    output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0002_stop.sql:1: statement 1 was changed after it had been applied")

    project.write("0002_stop.sql", "-- A comment.\n" .. text("text", "select 1"))
    output = project.must "up"
    says(output, "0002_stop.sql: going on after 2 of 3 statements", "applied 0002_stop.sql",
         "applied 0003_pears.sql")
    assert.is_false(project.exists "moonpool_migration_steps")
    project.must "verify"
  end)

  it("keeps what the session was set to when it goes on, and forgets it for the next file",
     function()
    owner.exec "create schema orchard"
    project.write("0002_path.sql", [[
      set search_path = orchard;
      create table trees (id integer);
      create index concurrently trees_by_id on trees (id);
      select 1 / 0;
    ]])
    project.migrate "up"
    project.write("0002_path.sql", [[
      set search_path = orchard;
      create table trees (id integer);
      create index concurrently trees_by_id on trees (id);
      create index concurrently trees_by_id_again on trees (id);
    ]])
    project.write("0003_here.sql", "create table here (id integer);\n")
    project.must "up"
    assert.is_true(project.is_valid "orchard.trees_by_id_again")
    assert.is_true(project.exists "public.here")
  end)

  it(
    "reports duplicates under a UNIQUE build, leaves no INVALID index, and goes on when they are \z
      gone", function()
    owner.exec "create table pears (id integer)"
    owner.exec "insert into pears values (1), (1)"
    project.write("0002_unique.sql", "create index concurrently pears_by_id on pears (id);\n" ..
                                     "create unique index concurrently pears_id on pears (id);\n")
    local output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0002_unique.sql:2: could not create unique index", "23505",
         "Key (id)=(1) is duplicated",
         "1 statement of it done and kept")
    assert.is_nil(project.is_valid "pears_id")
    owner.exec "delete from pears where ctid = (select min(ctid) from pears)"
    says(project.must "up", "going on after 1 of 2 statements", "applied 0002_unique.sql")
    assert.is_true(project.is_valid "pears_id")
  end)

  it("survives kill -9 in the middle of a build", function()
    project.must "up"
    project.write("0002_index.sql",
                  "create index concurrently if not exists apples_by_name on apples (name);\n")
    project.while_open("insert into apples values (1)", function(blocker, commit)
      local handle, pid = project.start "up --lock-timeout 0.2"
      project.await "wait_event_type = 'Lock' and query ilike 'create index%'"
      says(handle:read "l", "apples_by_name", "waits for process " .. blocker,
           "idle in transaction")
      assert(os.execute("kill -9 " .. pid))
      handle:close()
      project.await_gone()      -- though the transaction it waited for is still open
      assert.is_false(project.is_valid "apples_by_name")
      local output, exit = project.migrate "status"
      assert.are.equal(1, exit)
      says(output, "INVALID   index public.apples_by_name on apples")
      commit()
    end)
    says(project.must "up", "dropping the INVALID index public.apples_by_name",
         "applied 0002_index.sql")
    assert.is_true(project.is_valid "apples_by_name")
  end)

  it("takes an index that was finished before the process died", function()
    project.must "up"
    project.write("0002_index.sql",
                  "create index concurrently apples_by_name on apples (name);\nvacuum apples;\n")
    project.while_open("insert into apples values (1)", function(_, commit)
      local handle, pid = project.start "up"
      project.await "wait_event_type = 'Lock' and query ilike 'create index%'"
      assert(os.execute("kill -STOP " .. pid))
      commit()
      project.await "state = 'idle' and query ilike 'create index%'"
      assert(os.execute("kill -9 " .. pid))
      handle:close()
    end)
    project.await_gone()
    assert.is_true(project.is_valid "apples_by_name")
    says(project.must "up", "had been built before the interruption", "applied 0002_index.sql")
  end)

  it("lets two at once both end well, one of them building", function()
    project.must "up"
    project.write("0002_index.sql", "create index concurrently apples_by_name on apples (name);\n")
    project.while_open("insert into apples values (1)", function(_, commit)
      local one = project.start "up"
      project.await "wait_event_type = 'Lock' and query ilike 'create index%'"
      local other = project.start "up"
      says(other:read "l", "waiting for another migration to finish: process", "moonpool migrate")
      commit()
      local output, exit = command.finish(one)
      assert.are.equal(0, exit, output)
      says(output, "applied 0002_index.sql")
      output, exit = command.finish(other)
      assert.are.equal(0, exit, output)
      says(output, "nothing to do: 2 migrations applied")
    end)
  end)

  it("finds and rebuilds an INVALID index that somebody left, and the remains of a REINDEX",
     function()
    project.must "up"
    owner.exec "insert into apples values (1), (1)"
    assert.is_false(
      (pcall(owner.exec, "create unique index concurrently apples_id on apples (id)")))
    assert.is_false((pcall(owner.exec, "reindex index concurrently apples_id")))
    assert.is_false(project.is_valid "apples_id_ccnew")
    local output, exit = project.migrate "verify"
    assert.are.equal(1, exit)
    says(output, "the index public.apples_id on apples is INVALID: moonpool migrate up repairs it",
         "apples_id_ccnew", "2 faults")
    says(select(1, project.migrate "status --json"), '"invalidIndexes":[{', '"sound":false')

    -- It cannot yet: the rest goes on, and the exit code tells.
    project.write("0002_pears.sql", "create table pears (id integer);\n")
    output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "dropped the INVALID index public.apples_id_ccnew",
         "public.apples_id on apples is INVALID and could not be",
         "23505", "applied 0002_pears.sql")
    assert.is_nil(project.is_valid "apples_id_ccnew")

    owner.exec "delete from apples where ctid = (select min(ctid) from apples)"
    says(project.must "up", "rebuilt the INVALID index public.apples_id on apples", "nothing to do")
    assert.is_true(project.is_valid "apples_id")
    says(project.must "verify", "sound: 2 migrations, 0 pending, no INVALID index")
  end)

  it("does not let IF NOT EXISTS hide an INVALID index, in a transaction neither", function()
    for _, word in ipairs { "concurrently", "" } do
      owner.exec "create table plums (id integer)"
      owner.exec "insert into plums values (1), (1)"
      pcall(owner.exec, "create unique index concurrently plums_id on plums (id)")
      assert.is_false(project.is_valid "plums_id")
      owner.exec "truncate plums"
      local name = word == "" and "0003_plain.sql" or "0002_concurrently.sql"
      project.write(name, ("create unique index %s if not exists plums_id on plums (id);\n")
        :format(word))
      says(project.must "up", "dropping the INVALID index public.plums_id", "applied " .. name)
      assert.is_true(project.is_valid "plums_id")
      owner.exec "drop table plums"
    end
  end)

  it("says so when IF NOT EXISTS hides that the name is another table's", function()
    owner.exec "create table pears (id integer)"
    owner.exec "create index by_id on pears (id)"
    project.write("0002_index.sql",
                  "create index concurrently if not exists by_id on apples (id);\n")
    local output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0002_index.sql:1: there is no index by_id on apples after the statement",
         "another name")
  end)

  it("leaves an index alone that another session builds right now", function()
    project.must "up"
    local scratch, moonpool = require "spec.support.data.scratch", require "moonpool"
    local build
    project.while_open("insert into apples values (1)", function(_, commit)
      build = moonpool.spawn(function()
        owner.exec "create index concurrently apples_by_id on apples (id)"
      end)
      scratch.await("the build to wait", function()
        return
          owner.value "select exists (select from pg_stat_progress_create_index where phase like \z
            'waiting%')"
      end)
      assert.is_false(project.is_valid "apples_by_id")
      local output = project.must "up"
      says(output, "builds the index public.apples_by_id right now: left alone")
      project.write("0002_index.sql",
                    "create index concurrently if not exists apples_by_id on apples (id);\n")
      local exit
      output, exit = project.migrate "up --wait 0"
      assert.are.equal(1, exit)
      says(output, "the index public.apples_by_id is being built by process")
      commit()
    end)
    build:wait()
    project.must "up"
    assert.is_true(project.is_valid "apples_by_id")
  end)

  it(
    "refuses an index without a name, and what begins or ends transactions, before anything is \z
      applied", function()
    for text, message in pairs {
      ["select 1;\ncreate index concurrently on apples (id);\n"] =
        ":2: CREATE INDEX CONCURRENTLY needs a name",
      ["begin;\nselect 1;\ncommit;\n"] = ":1: a migration does not begin or end transactions",
      ["select 1;\ncopy apples from stdin;\n"] = ":2: COPY FROM STDIN has no input here",
    } do
      project.write("0002_bad.sql", text)
      local output, exit = project.migrate "up"
      assert.are.equal(1, exit)
      says(output, "0002_bad.sql" .. message)
      says_not(output, "applied 0001")
      assert.is_false(project.exists "apples")
    end
  end)

  it("undoes CONCURRENTLY, and a file that is half applied", function()
    project.write("0002_index.sql", [[
create index concurrently apples_by_name on apples (name);
vacuum apples;
create index concurrently nothing on nowhere (id);
-- migrate:down
drop index concurrently if exists nothing;
drop index concurrently apples_by_name;
alter table apples drop column name;
]])
    local _, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(project.must "down", "undone 0002_index.sql (3 statements")
    assert.is_nil(project.is_valid "apples_by_name")
    assert.is_false(project.exists "moonpool_migration_steps")
    says(project.must "status", "applied   0001_apples.sql", "pending   0002_index.sql")
  end)

  it("finishes a half undone file before anything else", function()
    project.write("0002_index.sql", [[
create index concurrently apples_by_name on apples (name);
-- migrate:down
drop index concurrently apples_by_name;
select 1 / 0;
]])
    project.must "up"
    local output, exit = project.migrate "down"
    assert.are.equal(1, exit)
    says(output, "0002_index.sql:4: division by zero", "1 statement of it done and kept",
         "migrate down again")
    output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0002_index.sql is half undone", "moonpool migrate down")
    project.write("0002_index.sql", [[
create index concurrently apples_by_name on apples (name);
-- migrate:down
drop index concurrently apples_by_name;
select 1;
]])
    says(project.must "down", "going on after 1 of 2", "undone 0002_index.sql")
    says(project.must "up", "applied 0002_index.sql")
  end)
end)
