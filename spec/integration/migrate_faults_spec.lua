-- moonpool migrate under faults: lost connections, signals, one connection, a killed server
-- process.
local command   = require "spec.support.process.command"
local migration = require "spec.support.data.migration"

local says = migration.says

describe("moonpool migrate", function()
  local project, owner

  before_each(function()
    project = migration.project {
      ["0001_apples.sql"] = "create table apples (id integer, name text);\n" }
    owner = project.owner
    project.must "up"
  end)

  after_each(function() project.remove() end)

  local build = "create index concurrently apples_by_name on apples (name);\n"
  local waits = "wait_event_type = 'Lock'"

  local function end_backend(how)
    assert.is_true(
      owner.value(
        ("select %s(pid) from pg_stat_activity where application_name = 'moonpool migrate' " ..
         "and datname = current_database() and %s"):format(how, waits)))
  end

  it("tells of a connection that is lost in a transaction, which is as if it had not begun",
     function()
    project.write("0002_colour.sql",
                  "create table pears (id integer);\nalter table apples add column colour text;\n")
    project.while_open("select * from apples", function(_, commit)
      local handle = project.start "up"
      project.await(waits)
      end_backend "pg_terminate_backend"
      local output, exit = command.finish(handle)
      assert.are.equal(1, exit)
      says(output, "0002_colour.sql:2: the connection was lost, and with it the transaction",
           "nothing of 0002_colour.sql is applied")
      commit()
    end)
    assert.is_false(project.exists "pears")
    says(project.must "up", "applied 0002_colour.sql")
  end)

  it("builds anew after its backend was ended or its statement cancelled", function()
    project.write("0002_index.sql", build)
    for _, how in ipairs { "pg_terminate_backend", "pg_cancel_backend" } do
      project.while_open("insert into apples values (1)", function()
        local handle = project.start "up --lock-timeout 0.2"
        project.await(waits .. " and query ilike '%index concurrently%'")
        end_backend(how)
        local output, exit = command.finish(handle)
        assert.are.equal(1, exit)
        says(output, "0002_index.sql", "pending: 1 migration")
      end)
      assert.is_false(project.is_valid "apples_by_name")
    end
    says(project.must "up", "dropping the INVALID index public.apples_by_name",
         "applied 0002_index.sql")
    assert.is_true(project.is_valid "apples_by_name")
  end)

  it("ends at the second signal, and goes on the next time", function()
    project.write("0002_index.sql", build)
    project.while_open("insert into apples values (1)", function()
      local handle, pid = project.start "up"
      project.await(waits)
      assert(os.execute(("kill -INT %d && kill -TERM %d"):format(pid, pid)))
      local output, exit = command.finish(handle)
      assert.are.equal(1, exit)
      says(output, "stopped by a signal")
    end)
    project.await_gone()
    says(project.must "up", "dropping the INVALID index", "applied 0002_index.sql")
  end)

  it("works with a single connection", function()
    project.write("0002_index.sql",
                  build .. "-- migrate:down\ndrop index concurrently apples_by_name;\n")
    for _, args in ipairs { "up --dry-run", "up", "down", "up --print", "status", "verify" } do
      local output, exit = project.migrate(args, { DB_POOL_MAX = 1, DB_POOL_MIN = 0 })
      assert.are.equal(0, exit, args .. ": " .. output)
    end
  end)

  it("is named by status while it works", function()
    project.write("0002_index.sql", build)
    project.while_open("insert into apples values (1)", function(_, commit)
      local handle = project.start "up"
      project.await(waits)
      local output, exit = project.migrate "verify"
      assert.are.equal(1, exit)
      says(output, "0002_index.sql is being applied right now (0 statements done) by process",
           "is being built by process")
      commit()
      output, exit = command.finish(handle)
      assert.are.equal(0, exit, output)
    end)
    project.must "verify"
  end)

  it("says that its record failed, not the statement before it", function()
    project.write("0002_role.sql", "set role moonpool_system;\nselect 1;\n")
    local output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0002_role.sql:2: permission denied for table moonpool_migrations", "42501",
         "moonpool's own record of the migration", "nothing of 0002_role.sql is applied")
    project.write("0002_role.sql", "set role moonpool_system;\nselect 1;\nreset role;\n")
    project.must "up"
  end)

  it("refuses a parameter outside of quotes, and knows dollar quotes", function()
    project.write("0002_functions.sql", [[
create function twice(number integer) returns integer language sql return number + number;
create function thrice(integer) returns integer language plpgsql as $body$ begin
  return $1 * 3; end; $body$;
]])
    project.must "up"
    assert.are.equal(42, owner.value "select twice(6) + thrice(10)")
    project.write("0003_function.sql",
                  "create function half(integer) returns integer language sql return $1 / 2;\n")
    local output, exit = project.migrate "up"
    assert.are.equal(1, exit)
    says(output, "0003_function.sql:1: $1 outside of quotes")
  end)
end)
