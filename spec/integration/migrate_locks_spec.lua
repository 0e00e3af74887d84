-- moonpool migrate and locks: those that others hold, and those that its statements take for long.
local command   = require "spec.support.process.command"
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
  local project, folder, migrate, owner

  before_each(function()
    project = migration.project { ["0001_apples.sql"] = first }
    folder, migrate, owner = project.folder, project.migrate, project.owner
  end)

  after_each(function() project.remove() end)

  describe("a lock that others hold", function()
    before_each(function()
      project.must "up"
      folder.write("migrations/0002_colour.sql",
                   "select 1;\nalter table apples add column colour text;\n")
    end)

    it("is not waited for as long as others queue behind it, but tried again", function()
      project.while_open("select * from apples", function(reader, commit)
        local handle = project.start "up --lock-timeout 0.2"
        assert_says(handle:read "l", "0002_colour.sql:2: waits for process " .. reader,
                    "idle in transaction")
        assert_says(handle:read "l",
                    "0002_colour.sql:2: waited too long for a lock, held by process " .. reader,
                    "nothing was changed, again in", "(1 of 20)")
        -- Meanwhile the next reader is served.
        assert.are.equal(0, owner.value "select count(*) from apples")
        commit()
        local output, exit = command.finish(handle)
        assert.are.equal(0, exit, output)
        assert_says(output, "applied 0002_colour.sql")
      end)
    end)

    it("is given up after --retries, and nothing was changed", function()
      project.while_open("select * from apples", function()
        local output, exit = migrate "up --lock-timeout 0.2 --retries 1"
        assert.are.equal(1, exit)
        assert_says(output, "again in", "(1 of 1)",
                    "0002_colour.sql:2: canceling statement due to lock timeout", "55P03",
                    "other sessions use the table", "nothing of 0002_colour.sql is applied")
      end)
      assert_says(project.must "status", "pending   0002_colour.sql")
    end)
  end)

  describe("a big table", function()
    it("is warned of where a statement locks it for long", function()
      folder.write("migrations/0002_fill.sql",
                   "insert into apples select generate_series(1, 120000);\nanalyze apples;\n")
      project.must "up"
      local warned = {
        "create index apples_again on apples (id)",
        "alter table apples alter column id type bigint",
        "alter table apples add column a uuid default gen_random_uuid()",
        "alter table apples add column b bigserial",
        "alter table apples add column c integer generated always as (id + 1) stored",
        "alter table apples alter column c set not null",
        "alter table apples add constraint d check (id > 0)",
        "alter table apples add constraint e foreign key (id) references apples",
        "alter table apples add unique (c)",
        "reindex table apples", "reindex index apples_by_id", "cluster apples using apples_pkey",
      }
      local quiet = {
        "create index concurrently apples_safe on apples (id)",
        "alter table apples add column f timestamptz default now()",
        "alter table apples add constraint g check (id > 0) not valid",
        "alter table apples validate constraint g",
        "create table small (id integer)", "create index small_id on small (id)",
        "alter table apples rename column f to h",
      }
      local lines = {}
      for _, list in ipairs { warned, quiet } do table.move(list, 1, #list, #lines + 1, lines) end
      folder.write("migrations/0003_change.sql", table.concat(lines, ";\n") .. ";\n")
      local output = project.must "up"
      for line in ipairs(warned) do
        assert_says(output, ("warning: %s/migrations/0003_change.sql:%d: locks ")
          :format(folder.path, line))
      end
      local _, count = output:gsub("warning: ", "")
      assert.are.equal(#warned, count, output)
      assert_says(output, ":1: locks apples, which has about 120000 rows (",
                  "blocks writes while it builds the index: use CREATE INDEX")
    end)
  end)
end)
