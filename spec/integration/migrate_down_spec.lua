-- moonpool migrate down: what it undoes, and what it refuses to.
local migration = require "spec.support.data.migration"

local assert_says = migration.says

local first = [[
create table apples (
  id integer primary key
);
create index apples_by_id on apples (id);

-- migrate:down
drop table apples;
]]

describe("moonpool migrate", function()
  local project, owner, folder, migrate, exists

  before_each(function()
    project = migration.project { ["0001_apples.sql"] = first }
    owner, folder, migrate, exists = project.owner, project.folder, project.migrate, project.exists
  end)

  after_each(function() project.remove() end)

  describe("down", function()
    local undoable = "create table %s (id integer);\n-- migrate:down\ndrop table %s;\n"

    before_each(function()
      folder.write("migrations/0002_pears.sql", undoable:format("pears", "pears"))
      folder.write("migrations/0003_plums.sql", undoable:format("plums", "plums"))
      project.must "up"
    end)

    it("undoes the last one, or several, or all after a number", function()
      assert.truthy(project.must "down":match "^undone 0003_plums%.sql %(1 statement, %d+ ms%)\n$")
      assert.is_false(exists "plums")
      assert.is_true(exists "pears")
      project.must "up"
      assert_says(project.must "down 2", "undone 0003_plums.sql", "undone 0002_pears.sql")
      assert.are.equal(1, owner.value "select count(*) from moonpool_migrations")
      project.must "up"
      assert_says(project.must "down --to 2", "undone 0003_plums.sql")
      project.must "down --to 0"
      assert.is_false(exists "apples")
      assert.are.equal("nothing to undo\n", project.must "down")
    end)

    it("is refused before anything is undone where a section is missing", function()
      folder.write("migrations/0002_pears.sql", "create table pears (id integer);\n")
      local output, exit = migrate "down 3"
      assert.are.equal(1, exit)
      assert_says(output, "0002_pears.sql has no `-- migrate:down` section", "nothing was changed")
      assert.is_true(exists "plums")
    end)

    it("undoes nothing of a file whose section fails, and names the line in the file", function()
      folder.write("migrations/0003_plums.sql",
                   "create table plums (id integer);\n\n-- migrate:down\n" ..
                                                "drop table plums;\n\ndrop table damsons;\n")
      local output, exit = migrate "down"
      assert.are.equal(1, exit)
      assert_says(output, "0003_plums.sql:6: table \"damsons\" does not exist", "42P01",
                  "nothing of 0003_plums.sql is undone")
      assert.is_true(exists "plums")
      assert_says(project.must "status", "applied   0003_plums.sql")
    end)

    it("is refused for a file that was changed, or is gone", function()
      folder.write("migrations/0003_plums.sql", undoable:format("damsons", "damsons"))
      local output, exit = migrate "down"
      assert.are.equal(1, exit)
      assert_says(output, "0003_plums.sql was changed after it was applied")
      folder.delete "migrations/0003_plums.sql"
      output, exit = migrate "down"
      assert.are.equal(1, exit)
      assert_says(output, "0003_plums.sql is missing")
    end)
  end)
end)
