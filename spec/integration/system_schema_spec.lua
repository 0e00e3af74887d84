-- The host's own tables, in the schema moonpool: who makes them, who may do what with them.
local db        = require "moonpool.db"
local failure   = require "spec.support.data.failure"
local inline    = require "spec.support.data.inline"
local json      = require "moonpool.json"
local migration = require "spec.support.data.migration"
local moonpool  = require "moonpool"
local system    = require "moonpool.migrate.system"
local test      = require "moonpool.test"

describe("the host's own tables", function()
  describe("as migrate up makes them", function()
    local project, owner

    before_each(function()
      project = migration.project()
      owner = project.owner
    end)

    after_each(function() project.remove() end)

    it("are there after the first run, and status tells of a lack", function()
      local before = project.must "status"
      migration.says(before, "schema moonpool is at version 0", "moonpool migrate up")
      project.must "up"
      assert.are.equal(system.latest,
                       owner.value "select max(version) from moonpool.schema_version")
      migration.says_not(project.must "status", "schema moonpool")
      assert.are.equal(system.latest, json.decode(project.must "status --json").system.version)
    end)

    it("are left alone by further runs, and by down", function()
      project.write("0001_apples.sql",
                    "create table apples (id integer);\n-- migrate:down\ndrop table apples;\n")
      project.must "up"
      local made =
        owner.query "select version, applied_at from moonpool.schema_version order by version"
      project.must "up"
      project.must "down"
      local found =
        owner.query "select version, applied_at from moonpool.schema_version order by version"
      assert.are.equal(#made, #found)
      for i, row in ipairs(made) do assert.are.equal(row.applied_at, found[i].applied_at) end
    end)

    it("are made once by two runs at the same time", function()
      local one, two = project.start "up", project.start "up"
      local first, second = one:read "a", two:read "a"
      assert.is_true((one:close()), first)
      assert.is_true((two:close()), second)
      assert.are.equal(system.latest, owner.value "select count(*) from moonpool.schema_version")
    end)

    it(
      "are granted to the role of DATABASE_URL, which the output tells; one that is not there is \z
        told too", function()
      local name = "spec_other_app"
      local url = project.database.app_url:gsub("moonpool_app@", name .. "@")
      local output = select(1, project.migrate("up", { DATABASE_URL = url }))
      migration.says(output, "the role " .. name, "does not exist")
      test.admin().exec("create role " .. name .. " login")
      local done = pcall(function()
        output = select(1, project.migrate("up", { DATABASE_URL = url }))
        migration.says(output, "granted to " .. name)
        assert.is_true(owner.value("select has_table_privilege($1, 'moonpool.witness', 'insert')",
                                   name))
        migration.says_not(select(1, project.migrate("up", { DATABASE_URL = url })), "granted")
      end)
      project.database.drop()
      test.admin().exec("drop role " .. name)
      assert.is_true(done)
    end)

    it("show the application only what row level security lets it see, and schedules", function()
      project.must "up"
      local open = owner.query [[
        select relname from pg_class
         where relnamespace = 'moonpool'::regnamespace and relkind = 'r'
           and not (relrowsecurity and relforcerowsecurity)
           and (has_table_privilege('moonpool_app', oid, 'select, insert, update, delete')
             or has_any_column_privilege('moonpool_app', oid, 'select, insert, update'))]]
      local names = {}
      for i, row in ipairs(open) do names[i] = row.relname end
      table.sort(names)
      assert.are.same({ "schedule", "schema_version" }, names)
    end)

    for what, question in pairs {
      ["delete on moonpool.delivered"] =
        "has_table_privilege('moonpool_app', 'moonpool.delivered', 'delete')",
      ["update (result) on moonpool.witness"] =
        "has_column_privilege('moonpool_app', 'moonpool.witness', 'result', 'update')",
      ["execute on function moonpool.tenants(text)"] =
        "has_function_privilege('moonpool_app', 'moonpool.tenants(text)', 'execute')",
      ["usage on schema moonpool"] = "has_schema_privilege('moonpool_app', 'moonpool', 'usage')",
    } do
      it("are granted again where the application's role has lost " .. what, function()
        project.must "up"
        assert.is_true(owner.value("select " .. question))
        owner.exec(("revoke %s from moonpool_app"):format(what))
        assert.is_false(owner.value("select " .. question))
        project.must "up"
        assert.is_true(owner.value("select " .. question))
      end)
    end

    it("need the right to create schemas, and the message says so", function()
      test.admin().exec(("alter database %s owner to postgres"):format(project.database.name))
      test.admin().exec(("grant connect on database %s to moonpool_owner")
        :format(project.database.name))
      local output, exit = project.migrate "up"
      assert.are.equal(1, exit)
      migration.says(output, "schema moonpool", "grant create on database", "moonpool_owner")
    end)
  end)

  describe("as the application's role sees them", function()
    local id

    before_each(function()
      id = moonpool.uuid()
      db.exec("insert into moonpool.witness (id, operation) values ($1, 'spec')", id)
    end)

    it("show a witness only to whom names its id", function()
      assert.are.equal(0, db.value "select count(*) from moonpool.witness")
      db.transaction({}, function(tx)
        tx:exec("set local moonpool.witness = '" .. id .. "'")
        assert.are.equal(1, tx:value "select count(*) from moonpool.witness")
        assert.are.equal(1, tx:count("update moonpool.witness set result = '1'"))
      end)
      assert.are.equal(0, db.count "update moonpool.witness set result = '2'")
      assert.are.equal("42501",
                       failure(db.exec, "update moonpool.witness set tenant = 'x'").sqlstate)
      assert.are.equal("42501", failure(db.exec, "delete from moonpool.witness").sqlstate)
    end)

    for _, call in ipairs { "prune('1 day', 10)", "renumber()", "token_by_id('a')",
                            "token_exists()", "tenants('select 1')" } do
      it("has functions for the host's own sessions only: " .. call, function()
        local e = failure(db.query, "select moonpool." .. call)
        assert.are.equal("42501", e.sqlstate)
        assert.matches("host's own sessions", e.message, 1, true)
      end)
    end

    it("removes nothing that is younger than now", function()
      local e = failure(db.lease, function(conn)
        conn.exec "set moonpool.relay = 'on'"
        conn.query "select moonpool.prune('-1 day', 1000000)"
      end)
      assert.are.equal("22023", e.sqlstate)
    end)

    for _, text in ipairs {
      "select * from moonpool.witness",
      "select 1 from users where id in (select id from Moonpool.witness)",
      "insert into moonpool.witness (id, operation) values (gen_random_uuid(), 'x')",
      "select moonpool.prune(1)",
      [[select * from "moonpool"."witness"]], [[select * from U&"moonp\006fol".witness]],
      "delete from moonpool.witness", "update moonpool.witness set result = ''",
      "lock table moonpool.witness",
      "select any_database.moonpool.prune(1)",
      [[select any_database."moonpool".prune(1)]], [[select a.U&"moonp\006fol".prune(1)]],
      "select * from any_database.moonpool.witness",
      "select any_database.moonpool.witness.id from users",
      "select null::any_database.moonpool.witness", "select * from any_database.moonpool.f(1)",
      "select 1 operator(moonpool.+) 2", "select 'a' collate moonpool.c",
    } do
      it("cannot be named by an operation: " .. text, function()
        local e = inline.refusal(function(tx) return tx:query(text) end)
        assert.are.equal("INVALID_ARGUMENT", e.code)
        inline.contains(e.message, "schema moonpool", "host's own")
      end)
    end

    it("are not meant by a column, a table or an alias of that name", function()
      assert.are.equal(1, inline.call(function(tx)
        return tx:value [[select t.moonpool from (select 1 as moonpool) as t
          where 'moonpool' <> '' order by moonpool]]
      end))
    end)
  end)
end)
