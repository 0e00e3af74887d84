-- `moonpool check`: finds mistakes in scripts/ before they run.
local command  = require "spec.support.process.command"
local correct  = require "spec.support.data.correct"
local db       = require "moonpool.db"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local mistakes = require "spec.support.data.mistakes"
local shop     = require "spec.support.data.shop"
local sql      = require "moonpool.sql"
local test     = require "moonpool.test"

-- The marks of a file: line -> { rule, words of the message, words of the help or nil }.
local function marks_of(text)
  local marks, number = {}, 0
  for line in text:gmatch "([^\n]*)\n" do
    number = number + 1
    local where, rule, words = line:match "%-%-([!^]) ([%w-]+): (.*)$"
    if rule then
      local message, help = words:match "^(.-) | (.*)$"
      marks[where == "^" and number - 1 or number] = { rule, message or words, help }
    end
  end
  return marks
end

local function has(text, words) return (text or ""):find(words, 1, true) ~= nil end

-- Whether one of the findings is the marked one.
local function is_found(found, path, line, mark)
  for _, finding in ipairs(found) do
    if finding.file == path and finding.line == line and finding.rule == mark[1]
      and has(finding.message, mark[2]) and (not mark[3] or has(finding.help, mark[3])) then
      return true
    end
  end
  return false
end

describe("moonpool check", function()
  local database

  setup(function()
    database = test.database { empty = true }
    local owner = db.open { url = database.owner_url, max = 1 }
    for _, statement in ipairs(sql.split(shop.schema)) do owner.exec(statement.sql) end
    owner.close()
  end)

  teardown(function() database.drop() end)

  -- Checks a project of these files. -> its output, and the exit code
  local function check(files, args)
    local folder = command.folder(files)
    local output, code = command.run("check " .. (args or ""), { dir = folder.path,
      env = { DATABASE_URL = database.app_url, MOONPOOL_OWNER_URL = database.owner_url } })
    folder.remove()
    return output, code
  end

  local function findings(files)
    local output, code = check(files, "--json")
    local ok, result = pcall(json.decode, output)
    assert(ok, output)
    return result.findings, code, result
  end

  it("finds each mistake at its place, and nothing else", function()
    local found, code = findings(mistakes)
    assert.are.equal(1, code)
    local wrong, marked = {}, {}
    for path, text in pairs(mistakes) do
      for line, mark in pairs(marks_of(text)) do
        marked[path .. ":" .. line] = true
        if not is_found(found, path, line, mark) then
          wrong[#wrong + 1] = ("not found: %s:%d: %s: %s"):format(path, line, mark[1], mark[2])
        end
      end
    end
    for _, finding in ipairs(found) do
      local place = finding.file .. ":" .. finding.line
      if not marked[place] then
        wrong[#wrong + 1] = ("also found: %s: %s: %s"):format(place, finding.rule, finding.message)
      end
    end
    table.sort(wrong)
    assert.are.equal("", table.concat(wrong, "\n"))
  end)

  it("has a word about each rule in its help", function()
    local help = command.run("help checking", { dir = moonpool.app_dir })
    for path, text in pairs(mistakes) do
      for _, mark in pairs(marks_of(text)) do
        assert.truthy(help:find("`" .. mark[1] .. "`", 1, true), path .. ": " .. mark[1])
      end
    end
  end)

  it("shows the line, a caret and what to do", function()
    local output, code = check { ["scripts/unknown_column.lua"] = [[
local moonpool = require "moonpool"
return moonpool.operation {
  run = function(tx)
	return tx:one("select naem as \"größe\" from shops")
  end,
}
]] }
    assert.are.equal(1, code)
    assert.are.equal([[
scripts/unknown_column.lua:4:24: error: column "naem" does not exist [sql]
  4 | 	return tx:one("select naem as \"größe\" from shops")
    | 	                      ^~~~
  help: did you mean `name`? shops have: id, name

1 file, 1 operation, 1 statement: 1 error
]], output)
  end)

  it("shows the part of a long line that matters", function()
    local output = check { ["scripts/long.lua"] = 'local moonpool = require "moonpool" ' ..
      'return moonpool.operation { run = function(tx) local _ = "' .. ("ü"):rep(500) ..
      '" return tx:one("select naem from shops where \'' .. ("x"):rep(9000) ..
      '\' is null") end }\n' }
    local line, mark = output:match "| (…[^\n]*…)\n[^|]*| ([^\n]*)\n"
    assert.is_truthy(line, output)
    assert.is_true(utf8.len(line) < 170)
    local at = utf8.offset(line, #mark:match "^ *" + 1)
    assert.are.equal("naem", line:sub(at, at + 3))
  end)

  it("raises no alarm about correct scripts", function()
    for name, files in pairs(correct) do
      local output, code = check(files)
      assert.are.equal(0, code, output)
      assert.matches(": no faults\n$", output, nil, name)
    end
  end)

  it("raises no alarm about the project's own scripts", function()
    local output, code = command.run("check", { dir = moonpool.app_dir })
    assert.are.equal(0, code, output)
    assert.matches(": no faults\n$", output)
  end)

  it("says that a text cannot be seen, which is no fault", function()
    local body = [[
    local sql = "select id from products where shop_id = $shop_id"
    for name in pairs(input) do sql = sql .. " and " .. name .. " = $" .. name end
    return tx:query(sql, input)]]
    local found, code = findings { ["scripts/built.lua"] = shop.operation(body) }
    assert.are.equal(0, code)
    assert.are.equal("note", found[1].severity)
    assert.are.equal("sql-unseen", found[1].rule)
    assert.is_nil(found[2])
  end)

  it("takes back what a comment gives a reason for", function()
    local excused = [[
local seen = {} -- the skus
return moonpool.operation {
  run = function(tx, input)
    seen[1] = true -- check: a cache, which may be wrong
    -- check: the table comes with the next release
    -- and is not there yet
    return tx:query(
      "select id from not_there")
  end,
}
]]
    local files = { ["scripts/a.lua"] = 'local moonpool = require "moonpool"\n' .. excused }
    assert.are.same({}, (findings(files)))
    files["scripts/a.lua"] = files["scripts/a.lua"]:gsub("check: [^\n]*", "check:")
    assert.are.equal(2, #findings(files))
  end)

  it("checks the files that are named", function()
    local files = {
      ["scripts/a.lua"] = shop.operation [[ return tx:value "select 1 frm a" ]],
      ["scripts/lib/b.lua"] = "return missing\n",
    }
    local output, code = check(files, "scripts/lib")
    assert.are.equal(1, code)
    assert.matches("scripts/lib/b.lua:1:8: error: there is no global `missing`", output, 1, true)
    assert.is_nil(output:find("scripts/a.lua", 1, true))
    assert.are.equal(0, select(2, check({ ["scripts/a.lua"] = files["scripts/a.lua"],
      ["scripts/c.lua"] = shop.operation "return 1" }, "./scripts/c.lua")))
    output, code = check(files, "scripts/d.lua")
    assert.are.equal(2, code)
    assert.matches("no file of scripts/ is at scripts/d.lua", output, 1, true)
    assert.are.equal(2, select(2, check(files, "--jsn")))
  end)

  it("finds conditions on big tables that no index serves", function()
    local owner = db.open { url = database.owner_url, max = 1 }
    finally(function()
      owner.exec "drop table entries"
      owner.close()
    end)
    owner.exec "create table entries (id int primary key, kind text not null, made_on date)"
    owner.exec "insert into entries select n, 'k' || n % 100 from generate_series(1, 20000) n"
    owner.exec "grant select on entries to moonpool_app"
    owner.exec "analyze entries"
    local found = findings { ["scripts/a.lua"] = [[
return require "moonpool".operation {
  run = function(tx)
    tx:value "select count(*) from entries where id = 5"
    return tx:value "select count(*) from entries where kind = 'k1'"
  end,
}
]] }
    assert.are.equal(1, #found)
    assert.are.same({ "plan", 4 }, { found[1].rule, found[1].line })
    assert.matches("`entries`, which has about 20000 rows", found[1].message, 1, true)
    assert.matches("create index concurrently on entries (kind)", found[1].help, 1, true)
  end)

  it("needs a database", function()
    local folder = command.folder { ["scripts/a.lua"] = shop.operation "return 1" }
    local output, code = command.run("check", { dir = folder.path, env = {
      DATABASE_URL = "postgres://nobody@127.0.0.1:1/none" } })
    folder.remove()
    assert.are.equal(3, code, output)
  end)

  it("makes a database of its own in the embedded server, with the project's migrations", function()
    local folder = command.folder {
      ["scripts/a.lua"] = shop.operation [[ return tx:one "select name from things" ]],
      ["migrations/0001_things.sql"] =
        "create table things (title text);\ngrant select on things to moonpool_app;\n",
    }
    local options = { dir = folder.path, env = { MOONPOOL_STATE = folder.path .. "/state",
      DATABASE_URL = false, MOONPOOL_OWNER_URL = false } }
    finally(function()
      command.run("db stop", options)
      folder.remove()
    end)
    local output, code = command.run("check", options)
    assert.are.equal(1, code, output)
    assert.matches('column "name" does not exist', output, 1, true)
    folder.write("migrations/0002_name.sql", "alter table things add column name text;\n")
    for _ = 1, 2 do
      output, code = command.run("check", options)
      assert.are.equal(0, code, output)
    end
    folder.write("migrations/0003_wrong.sql", "-- migrate:down\ndrop table things;\n")
    output, code = command.run("check", options)
    assert.are.equal(1, code, output)
    assert.matches("0003_wrong.sql:1: nothing stands in front of", output, 1, true)
    assert.is_nil(output:find("traceback", 1, true), output)
  end)
end)
