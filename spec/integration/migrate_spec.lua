-- moonpool migrate: run as a process, on an empty database and in a project folder of the spec's
-- own.
local command   = require "spec.support.process.command"
local json      = require "moonpool.json"
local migration = require "spec.support.data.migration"
local moonpool  = require "moonpool"
local sql       = require "moonpool.sql"

local assert_says, assert_says_not = migration.says, migration.says_not

local first = [[
create table apples (
  id integer primary key
);
create index apples_by_id on apples (id);

-- migrate:down
drop table apples;
]]

local second = [[
-- A comment; with a semicolon.
create table pears (id integer primary key);
]]

describe("moonpool migrate", function()
  local project, owner, folder, migrate, options, exists

  before_each(function()
    project = migration.project { ["0001_apples.sql"] = first }
    owner, folder, migrate, options, exists = project.owner, project.folder, project.migrate,
      project.options, project.exists
  end)

  after_each(function() project.remove() end)

  -- Texts are read with the grammar of PostgreSQL 15; a newer server judges what that cannot read.
  local function newer()
    return owner.value "select current_setting('server_version_num')::int / 10000" > 15
  end

  describe("up", function()
    it("applies what is pending and records it", function()
      local output, exit = migrate "up"
      assert.are.equal(0, exit, output)
      assert.truthy(output:match "^applied 0001_apples%.sql %(2 statements, %d+ ms%)\n$", output)
      assert.is_true(exists "apples")
      local row = owner.one "select * from moonpool_migrations"
      assert.are.equal(1, row.version)
      assert.are.equal("0001_apples.sql", row.name)
      assert.are.equal(2, row.statements)
      assert.truthy(row.checksum:match "^%x+$")
      assert.are.equal(64, #row.checksum)
    end)

    it("is what happens without a word", function()
      local output, exit = migrate ""
      assert.are.equal(0, exit, output)
      assert.is_true(exists "apples")
    end)

    it("does nothing the second time", function()
      migrate "up"
      local output, exit = migrate "up"
      assert.are.equal(0, exit)
      assert.are.equal("nothing to do: 1 migration applied\n", output)
    end)

    it("applies only what is new, in the order of the numbers", function()
      migrate "up"
      folder.write("migrations/0010_plums.sql",
                   "create table plums (id integer references pears (id));\n")
      folder.write("migrations/0002_pears.sql", second)
      local output, exit = migrate "up"
      assert.are.equal(0, exit, output)
      assert.truthy(
        output:match "^applied 0002_pears%.sql %(1 statement, %d+ ms%)\napplied 0010_plums%.sql ",
        output)
    end)

    it("undoes the file that fails, keeps those before it, and names file, line and SQLSTATE",
       function()
      folder.write("migrations/0002_pears.sql",
                   "create table pears (id integer);\n\n\ncreate table pears (id integer);\n")
      folder.write("migrations/0003_plums.sql", "create table plums (id integer);\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "applied 0001_apples.sql", "migrations/0002_pears.sql:4: ", "42P07",
                  "nothing of 0002_pears.sql is applied",
                  "applied in this run: 1 migration", "pending: 2 migrations")
      assert.is_true(exists "apples")
      assert.is_false(exists "pears")
      assert.is_false(exists "plums")
      assert.are.equal(1, owner.value "select count(*) from moonpool_migrations")
    end)

    it("names file and line of a syntax error, and applies none of the file", function()
      folder.write("migrations/0001_apples.sql",
                   "create table apples (id integer);\ncreat table pears (id integer);\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql:2: syntax error at or near \"creat\"",
                  "     2 | creat table pears (id integer)" .. (newer() and "" or ";")
                    .. "\n       | ^\n",
                  newer() and "nothing of 0001_apples.sql is applied"
                    or "nothing of this file was applied")
      assert.is_false(exists "apples")
    end)

    it("refuses a file that was changed after it was applied, and names both checksums", function()
      migrate "up"
      local recorded = owner.value "select checksum from moonpool_migrations"
      folder.write("migrations/0001_apples.sql", (first:gsub("integer", "bigint")))
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql was changed after it was applied", recorded,
                  "write a new migration")
      local in_file = output:match "file%s+(%x+)\n"
      assert.are.equal(64, #in_file)
      assert.are_not.equal(recorded, in_file)
    end)

    it("says that a database is another project's when other files were applied to it", function()
      migrate "up"
      assert(os.rename(folder.path .. "/migrations/0001_apples.sql",
                       folder.path .. "/migrations/0001_accounts.sql"))
      folder.write("migrations/0001_accounts.sql", "create table accounts (id integer);\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql was applied to it at", "0001_accounts.sql is here",
                  "moonpool.conf")
      assert.is_false(exists "accounts")
    end)

    it("applies nothing while a comment of any file only looks like the marker", function()
      folder.write("migrations/0002_pears.sql",
                   "create table if not exists apples (id integer);\n" ..
                                                "-- Migrate:Down\ndrop table apples;\n")
      for _, args in ipairs { "up", "up --dry-run", "verify", "status" } do
        local output, exit = migrate(args)
        assert.are.equal(1, exit, args .. ": " .. output)
        assert_says(output, "migrations/0002_pears.sql:2: \"-- Migrate:Down\" looks like a marker",
                    "exactly\n-- migrate:down\n")
      end
      assert.is_false(exists "apples")
    end)

    it("refuses files that another tool undoes migrations with, and names it would pass over",
       function()
      folder.write("migrations/0002_pears.down.sql", "drop table pears;\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.down.sql: what undoes a migration stands in the same file",
                  "-- migrate:down")
      folder.delete "migrations/0002_pears.down.sql"
      folder.write("migrations/0002_pears.SQL", second)
      output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.SQL: a migration is called NNNN_name.sql")
      assert.is_false(exists "apples")
    end)

    it("takes a checkout with other line ends for the same file, and runs the text as it is",
       function()
      local body = "create function f() returns text language sql as $$\nselect 'a\nb'\n$$;\n"
      local source = "select prosrc from pg_proc where proname = 'f'"
      folder.write("migrations/0002_function.sql", body)
      project.must "up"
      assert.are.equal("\nselect 'a\nb'\n", owner.value(source))
      folder.write("migrations/0002_function.sql", (body:gsub("\n", "\r\n")))
      assert_says(project.must "up", "nothing to do")
      assert_says(project.must "status", "applied   0002_function.sql")
      -- What an older moonpool recorded is of the bytes.
      local recorded = sql.checksum((body:gsub("\n", "\r\n")))
      owner.exec("update moonpool_migrations set checksum = $1 where version = 2", recorded)
      assert_says(project.must "up", "nothing to do")
      folder.write("migrations/0002_function.sql", body)
      assert_says(project.must "up", "nothing to do")
      folder.write("migrations/0002_function.sql", (body:gsub("a\nb", "a\n\nb")))
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "was changed")
      owner.exec "delete from moonpool_migrations where version = 2"
      owner.exec "drop function f()"
      folder.write("migrations/0002_function.sql", (body:gsub("\n", "\r\n")))
      project.must "up"
      assert.are.equal("\r\nselect 'a\r\nb'\r\n", owner.value(source))
    end)

    it("does not mind a comment or a blank that was changed", function()
      migrate "up"
      folder.write("migrations/0001_apples.sql", "-- Fruit.\n\n" .. first)
      local output, exit = migrate "up"
      assert.are.equal(0, exit, output)
    end)

    it("reports a file that is gone", function()
      folder.write("migrations/0002_pears.sql", second)
      migrate "up"
      folder.delete "migrations/0001_apples.sql"
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql", "missing")
    end)

    it("refuses a new file with a number before an applied one", function()
      folder.write("migrations/0003_plums.sql", "create table plums (id integer);\n")
      migrate "up"
      folder.write("migrations/0002_pears.sql", second)
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.sql is not applied, but the later 0003_plums.sql is")
    end)

    it("refuses two files with one number, and a name it cannot read", function()
      folder.write("migrations/0001_pears.sql", second)
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "the same number 1")
      folder.delete "migrations/0001_pears.sql"
      folder.write("migrations/pears.sql", second)
      output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "pears.sql", "NNNN_name.sql")
      assert.is_false(exists "apples")
    end)

    it("says so when there is no migrations folder", function()
      folder.delete "migrations/0001_apples.sql"
      folder.delete "migrations/.keep"
      assert(os.remove(folder.path .. "/migrations"))
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, folder.path .. "/migrations")
    end)

    it("waits for another that runs, and names it", function()
      local handle, announced
      owner.lease(function(conn)
        local pid = conn.value "select pg_backend_pid()"
        assert.is_true(conn.value "select pg_try_advisory_lock(1836019566, 1)")
        handle = command.start("migrate up", options())
        announced = handle:read "l"
        conn.value "select pg_advisory_unlock(1836019566, 1)"
        assert_says(announced, "waiting for another migration", "process " .. pid)
      end)
      local output, exit = command.finish(handle)
      assert.are.equal(0, exit, output)
      assert_says(output, "applied 0001_apples.sql")
    end)

    it("does not wait longer than it was told to", function()
      owner.lease(function(conn)
        assert.is_true(conn.value "select pg_try_advisory_lock(1836019566, 1)")
        local output, exit = migrate "up --wait 0.3"
        assert.are.equal(1, exit)
        assert_says(output, "another migration still runs after 0.3 s: process "
                    .. conn.value "select pg_backend_pid()",
                    "--wait SECONDS", "pg_terminate_backend")
        conn.value "select pg_advisory_unlock(1836019566, 1)"
      end)
      assert.is_false(exists "apples")
    end)

    it("applies no further than --to", function()
      folder.write("migrations/0002_pears.sql", second)
      assert_says(project.must "up --to 1", "applied 0001_apples.sql")
      assert.is_false(exists "pears")
      assert_says(project.must "up --to 2", "applied 0002_pears.sql")
    end)

    it("points at the place in the statement that the server means", function()
      folder.write("migrations/0002_pears.sql",
                   "-- Obst und Gemüse\nselect 'ä' as a,\n  'ü' || colour from apples;\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.sql:3: column \"colour\" does not exist", "42703",
                  "     3 |   'ü' || colour from apples\n       |          ^\n")
    end)

    it("reports what is only judged at the end of the transaction", function()
      folder.write("migrations/0002_pears.sql",
                   "create table pears (id integer references apples deferrable initially " ..
                                                "deferred);\ninsert into pears values (7);\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.sql:2: ", "23503", "nothing of 0002_pears.sql is applied")
      assert.is_false(exists "pears")
    end)

    it("says nothing but what failed with --quiet", function()
      assert.are.equal("", project.must "up --quiet")
    end)

    it("records who applied it, and with which moonpool, in a record of an older one too",
       function()
      project.must "up"
      owner.exec "alter table moonpool_migrations drop column applied_by, drop column moonpool"
      folder.write("migrations/0002_pears.sql", second)
      project.must "up"
      local row = owner.one "select * from moonpool_migrations where version = 2"
      assert.are.equal("moonpool_owner", row.applied_by)
      assert.are.equal(moonpool.version, row.moonpool)
    end)

    it("gives two at once one application", function()
      local one, other = command.start("migrate up", options()),
        command.start("migrate up", options())
      local output_one, exit_one = command.finish(one)
      local output_other, exit_other = command.finish(other)
      assert.are.equal(0, exit_one, output_one)
      assert.are.equal(0, exit_other, output_other)
      local _, applied = (output_one .. output_other):gsub("applied 0001_apples", "")
      assert.are.equal(1, applied)
    end)
  end)

  describe("status", function()
    it("lists pending and applied, and changes nothing", function()
      local output, exit = migrate "status"
      assert.are.equal(0, exit, output)
      assert_says(output, "pending   0001_apples.sql", "1 migration, 1 pending")
      assert.is_false(exists "moonpool_migrations")
      migrate "up"
      output, exit = migrate "status"
      assert.are.equal(0, exit, output)
      assert_says(output, "applied   0001_apples.sql", "1 migration, 0 pending")
    end)

    it("fails when a file was changed or is missing", function()
      folder.write("migrations/0002_pears.sql", second)
      migrate "up"
      folder.write("migrations/0002_pears.sql", "create table pears (id bigint primary key);\n")
      folder.delete "migrations/0001_apples.sql"
      local output, exit = migrate "status"
      assert.are.equal(1, exit)
      assert_says(output, "missing   0001_apples.sql", "changed   0002_pears.sql")
    end)
  end)

  describe("--dry-run", function()
    it("tries all that is pending, says what it locks, and changes nothing", function()
      project.must "up"
      folder.write("migrations/0002_pears.sql",
                   second .. "alter table apples add column colour text;\n")
      folder.write("migrations/0003_more.sql",
                   "insert into pears values (1);\ncreate index concurrently p on pears (id);\n")
      local output = project.must "up --dry-run"
      assert_says(output, "would apply 0002_pears.sql (2 statements, 2 tried)",
                  "0003_more.sql:2 would run outside a transaction",
                  "would apply 0003_more.sql (2 statements, 1 tried)",
                  "locks apples: AccessExclusiveLock",
                  "dry run: nothing was changed")
      assert_says_not(output, "locks pears")
      assert.is_false(exists "pears")
      assert_says(project.must "status", "pending   0002_pears.sql")
    end)

    it("leaves no record table behind", function()
      project.must "up --dry-run"
      assert.is_false(exists "moonpool_migrations")
    end)

    it("fails where the files would", function()
      folder.write("migrations/0002_pears.sql", "alter table pears add column colour text;\n")
      local output, exit = migrate "up --dry-run"
      assert.are.equal(1, exit)
      assert_says(output, "would apply 0001_apples.sql",
                  "0002_pears.sql:1: relation \"pears\" does not exist",
                  "dry run: nothing was changed")
      assert.is_false(exists "apples")
    end)

    it("tries down too", function()
      project.must "up"
      assert_says(project.must "down --dry-run",
                  "would undo 0001_apples.sql (1 statement, 1 tried)", "locks apples")
      assert.is_true(exists "apples")
    end)
  end)

  it("prints the statements with --print, and runs none", function()
    folder.write("migrations/0002_pears.sql", second .. "vacuum pears;\n")
    local output = project.must "up --print"
    assert_says(output, "-- " .. folder.path .. "/migrations/0001_apples.sql",
                "create index apples_by_id on apples (id);",
                "-- line 3, outside a transaction\nvacuum pears;")
    assert_says_not(output, "drop table")
    assert.is_false(exists "apples")
  end)

  describe("verify", function()
    it("also reads what is pending, and what would undo it", function()
      if newer() then return pending "the server alone judges what its parser may know" end
      assert.are.equal("sound: 1 migration, 1 pending, no INVALID index\n", project.must "verify")
      folder.write("migrations/0002_pears.sql", "creat table pears (id integer);\n")
      folder.write("migrations/0003_plums.sql",
                   "select 1;\n-- migrate:down\nselect 1;\ndrop tabel plums;\n")
      local output, exit = migrate "verify"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.sql:1: syntax error", "0003_plums.sql:4: syntax error",
                  "2 faults")
    end)

    it("fails for a changed, a missing and a late file", function()
      folder.write("migrations/0002_pears.sql", second)
      folder.write("migrations/0004_plums.sql", "select 1;\n")
      project.must "up"
      folder.write("migrations/0001_apples.sql", (first:gsub("integer", "bigint")))
      folder.delete "migrations/0002_pears.sql"
      folder.write("migrations/0003_late.sql", "select 1;\n")
      local output, exit = migrate "verify"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql was changed", "0002_pears.sql is missing",
                  "0003_late.sql is not applied", "3 faults")
    end)

    it("answers programs in JSON, as status does", function()
      project.must "up"
      folder.write("migrations/0002_pears.sql", second)
      for _, word in ipairs { "status", "verify" } do
        local answer = json.decode(project.must(word .. " --json"))
        assert.are.equal(1, answer.pending)
        assert.is_true(answer.sound)
        assert.are.equal("applied", answer.migrations[1].state)
        assert.are.equal(64, #answer.migrations[1].appliedChecksum)
        assert.are.equal("pending", answer.migrations[2].state)
        assert.are.same({ 0, 0 }, { #answer.faults, #answer.invalidIndexes })
      end
    end)
  end)

  describe("new", function()
    it("writes an empty migration with the next number, which can be applied and undone", function()
      folder.write("migrations/0007_pears.sql", second)
      local path = folder.path .. "/migrations/0008_add_service_orders.sql"
      assert.are.equal(path .. "\n", project.must "new 'Add service-orders'")
      project.must "up"
      assert_says(project.must "down", "undone 0008_add_service_orders.sql (0 statements")
    end)

    it("needs no database, and refuses a name that is none", function()
      local output, exit = migrate("new things",
                                   { DATABASE_URL = "postgres://nobody@127.0.0.1:1/x" })
      assert.are.equal(0, exit, output)
      output, exit = migrate "new ../../evil"
      assert.are.equal(1, exit)
      assert_says(output, "letters, digits and _")
    end)
  end)

  it("answers what it does not understand with its usage", function()
    for args, message in pairs {
      ["sideways"] = "unknown command sideways", ["upp"] = "did you mean `up`?",
      ["up --jason"] = "unknown option --jason",
      ["up --json"] = "--json does not go with up",
      ["status --dry-run"] = "--dry-run does not go with status",
      ["up --to"] = "--to takes a migration's number", ["up --to=x"] = "not x",
      ["down zero"] = "not zero",
      ["down 1 --to 1"] = "a count or --to, not both", ["up now"] = "unexpected argument now",
      ["new"] = "new takes a name",
      ["up --lock-timeout 0"] = "--lock-timeout takes",
      ["up --dry-run --print"] = "two different things",
    } do
      local output, exit = migrate(args)
      assert.are.equal(2, exit, args .. ": " .. output)
      assert_says(output, message, "usage: moonpool migrate")
    end
  end)

  it("exits with 3 when there is no database", function()
    for _, args in ipairs { "up", "down", "status", "verify" } do
      local output, exit = migrate(args, { MOONPOOL_OWNER_URL = "postgres://nobody@127.0.0.1:1/x" })
      assert.are.equal(3, exit, output)
    end
  end)

  it("applies the project's own migrations, and their down parts undo them", function()
    local output, exit = command.run("migrate up", options(moonpool.app_dir))
    assert.are.equal(0, exit, output)
    assert_says(output, "applied 0001_core.sql")
    assert.is_true(exists "audit_log")
    output, exit = command.run("migrate down --to 0", options(moonpool.app_dir))
    assert.are.equal(0, exit, output)
    assert.are.equal(0, owner.value [[
      select count(*) from pg_class
       where relnamespace = 'public'::regnamespace and relkind = 'r'
         and relname <> 'moonpool_migrations']])
  end)
end)
