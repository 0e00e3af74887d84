-- moonpool migrate: run as a process, on an empty database and in a project folder of the spec's own.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local sql      = require "moonpool.sql"
local test     = require "moonpool.test"
local command  = require "spec.support.command"

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
  local database, owner, folder

  before_each(function()
    database = test.database { empty = true }
    owner = db.open { url = database.owner_url, max = 2 }
    folder = command.folder { ["migrations/0001_apples.sql"] = first, ["scripts/.keep"] = "" }
  end)

  after_each(function()
    owner.close()
    folder.remove()
  end)

  local function options(dir)
    return { dir = dir or folder.path, env = { DATABASE_URL = database.app_url, MOONPOOL_OWNER_URL = database.owner_url } }
  end

  local function migrate(args)
    return command.run("migrate " .. (args or ""), options())
  end

  local function exists(name)
    return owner.value("select to_regclass($1) is not null", name)
  end

  local function assert_says(output, ...)
    for _, words in ipairs { ... } do
      assert.truthy(output:find(words, 1, true), string.format("%q is not in the output:\n%s", words, output))
    end
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
      folder.write("migrations/0010_plums.sql", "create table plums (id integer references pears (id));\n")
      folder.write("migrations/0002_pears.sql", second)
      local output, exit = migrate "up"
      assert.are.equal(0, exit, output)
      assert.truthy(output:match "^applied 0002_pears%.sql %(1 statement, %d+ ms%)\napplied 0010_plums%.sql ", output)
    end)

    it("undoes the file that fails, keeps those before it, and names file, line and SQLSTATE", function()
      folder.write("migrations/0002_pears.sql", "create table pears (id integer);\n\n\ncreate table pears (id integer);\n")
      folder.write("migrations/0003_plums.sql", "create table plums (id integer);\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "applied 0001_apples.sql", "migrations/0002_pears.sql:4: ", "42P07", "0002_pears.sql was rolled back",
                  "applied in this run: 1 migration", "pending: 2 migrations")
      assert.is_true(exists "apples")
      assert.is_false(exists "pears")
      assert.is_false(exists "plums")
      assert.are.equal(1, owner.value "select count(*) from moonpool_migrations")
    end)

    it("names file and line of a syntax error, and applies none of the file", function()
      folder.write("migrations/0001_apples.sql", "create table apples (id integer);\ncreat table pears (id integer);\n")
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql:2: ", "syntax error")
      assert.is_false(exists "apples")
    end)

    it("refuses a file that was changed after it was applied, and names both checksums", function()
      migrate "up"
      local recorded = owner.value "select checksum from moonpool_migrations"
      folder.write("migrations/0001_apples.sql", (first:gsub("integer", "bigint")))
      local output, exit = migrate "up"
      assert.are.equal(1, exit)
      assert_says(output, "0001_apples.sql was changed after it was applied", recorded, "write a new migration")
      local in_file = output:match "file%s+(%x+)\n"
      assert.are.equal(64, #in_file)
      assert.are_not.equal(recorded, in_file)
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

    it("gives two at once one application", function()
      local one, other = command.start("migrate up", options()), command.start("migrate up", options())
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
      assert_says(output, "pending  0001_apples.sql", "1 migration, 1 pending")
      assert.is_false(exists "moonpool_migrations")
      migrate "up"
      output, exit = migrate "status"
      assert.are.equal(0, exit, output)
      assert_says(output, "applied  0001_apples.sql", "1 migration, 0 pending")
    end)

    it("fails when a file was changed or is missing", function()
      folder.write("migrations/0002_pears.sql", second)
      migrate "up"
      folder.write("migrations/0002_pears.sql", "create table pears (id bigint primary key);\n")
      folder.delete "migrations/0001_apples.sql"
      local output, exit = migrate "status"
      assert.are.equal(1, exit)
      assert_says(output, "missing  0001_apples.sql", "changed  0002_pears.sql")
    end)
  end)

  it("answers an unknown word with its usage", function()
    local output, exit = migrate "sideways"
    assert.are.equal(2, exit)
    assert_says(output, "sideways", "usage: moonpool migrate")
  end)

  it("applies the project's own migrations, and their down parts undo them", function()
    local output, exit = command.run("migrate up", options(moonpool.app_dir))
    assert.are.equal(0, exit, output)
    assert_says(output, "applied 0001_core.sql")
    assert.is_true(exists "audit_log")

    local names = {}
    for _, row in ipairs(owner.query "select name from moonpool_migrations order by version desc") do
      names[#names + 1] = row.name
    end
    for _, name in ipairs(names) do
      local file = assert(io.open(moonpool.app_dir .. "/migrations/" .. name))
      local down = file:read("a"):match "\n%-%- migrate:down\n(.*)$"
      file:close()
      assert.is_string(down, name .. " has no down part")
      for _, statement in ipairs(sql.split(down)) do owner.exec(statement.sql) end
    end
    assert.are.equal(0, owner.value [[
      select count(*) from pg_class
       where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'moonpool_migrations']])
  end)
end)
