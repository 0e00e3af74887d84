-- What `moonpool serve` says of a database that does not have what migrations/ says, and of a
-- project without operations.
local command   = require "spec.support.process.command"
local migration = require "spec.support.data.migration"
local scratch   = require "spec.support.data.scratch"
local serving   = require "spec.support.process.serving"

local apples = "create table apples (id integer);\ngrant select on apples to moonpool_app;\n"
local hello  =
  'return require("moonpool").operation { summary = "x", run = function(tx) return 1 end }'

describe("moonpool serve", function()
  local project, host

  before_each(function() project = migration.project { ["0001_apples.sql"] = apples } end)

  after_each(function()
    if host then host:stop() end
    host = nil
    project.remove()
  end)

  local function start(files, shell)
    local all = { ["scripts/hello.lua"] = hello, ["migrations/0001_apples.sql"] = apples }
    for name, text in pairs(files or {}) do all[name] = text or nil end
    host = serving.start(all, { env = project.options().env, broken = true, shell = shell })
  end

  local function told(words)
    scratch.await("the log to say: " .. words, function()
      return host:log():find(words, 1, true)
    end)
  end

  local function faults()
    return tonumber(host:ask { ["do"] = "metrics" }.text:match "\nmoonpool_deployment_faults (%d+)")
  end

  it("tells which migrations are not applied, changed or missing", function()
    start()
    told "1 migration is not applied: 0001_apples.sql"
    told "warning: 1 migration is not applied"
  end)

  it("says nothing where all is applied, and serves with --require-migrated", function()
    project.must "up"
    start()
    scratch.await("the look", function() return faults() == 0 end)
    assert.falsy(host:log():find("applied", 1, true), host:log())
    host:stop()
    host = nil
    project.folder.write("scripts/hello.lua", hello)
    local output, exit = command.run("--app . serve --listen off --require-migrated --nonsense",
                                     project.options())
    assert.are.equal(2, exit, output)
  end)

  it("names changed files, missing ones, and a folder without operations", function()
    project.write("0002_pears.sql", "create table pears (id integer);\n")
    project.must "up"
    start { ["migrations/0001_apples.sql"] = "create table apples (id bigint);\n",
            ["scripts/hello.lua"] = false,
            ["scripts/lib/x.lua"] = "return 1\n" }
    told "1 migration was changed after it was applied: 0001_apples.sql"
    told "1 migration was applied, but its file is missing: 0002_pears.sql"
    told "there is no operation"
    scratch.await("the metric", function() return faults() == 3 end)
  end)

  it("refuses to start with --require-migrated where a migration is pending or edited", function()
    project.folder.write("scripts/hello.lua", hello)
    local output, exit = command.run("serve --listen off --require-migrated", project.options())
    assert.are.equal(1, exit, output)
    migration.says(output, "1 migration is not applied: 0001_apples.sql",
                   "nothing is served (--require-migrated)",
                   "moonpool migrate up")
    project.must "up"
    project.write("0001_apples.sql", "create table apples (id bigint);\n")
    output, exit = command.run("serve --listen off --require-migrated", project.options())
    assert.are.equal(1, exit, output)
    migration.says(output, "was changed after it was applied: 0001_apples.sql")
    output, exit = command.run("serve --listen off --require-migrated", project.options(nil, {
      DATABASE_URL = "postgres://nobody@127.0.0.1:1/x" }))
    assert.are_not.equal(0, exit, output)
  end)

  it("does not know where an older moonpool has granted nothing, and says so", function()
    project.must "up"
    project.owner.exec "revoke select on moonpool_migrations from moonpool_app"
    start()
    told "whether the migrations are applied cannot be seen: run `moonpool migrate up` once"
    project.must "up"
    assert.is_true(
      project.owner.value "select has_table_privilege('moonpool_app', 'moonpool_migrations', \z
        'select')")
  end)
end)
