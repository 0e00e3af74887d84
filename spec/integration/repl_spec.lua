-- moonpool repl: lines from stdin, and a person at a terminal.
local command   = require "spec.support.process.command"
local companion = require "spec.support.process.companion"
local inline    = require "spec.support.data.inline"
local migrated  = require "spec.support.process.migrated"

local contains = inline.contains

describe("moonpool repl", function()
  local project, folder

  setup(function()
    project = migrated({
      ["migrations/0001_items.sql"] = [[
        create table items (name text primary key, stock int not null default 0);
        grant select, insert, update on items to moonpool_app;
      ]],
      ["scripts/greet.lua"] = [[
        local moonpool = require "moonpool"
        return moonpool.operation { run = function(tx, input)
          return { greeting = tx:value("select $t::text", { t = "Hello, " .. input.name }) }
        end }
      ]],
    }, { TERM = "xterm" })
    folder, project.env.HOME = project.folder, project.folder.path
  end)

  teardown(function() project.remove() end)

  local function repl(lines, options)
    return project.run("repl " .. (options or ""), lines)
  end

  it("shows values: rows as a table, tables as JSON", function()
    local out, err, code = repl [[
1 + 1
"zwei", nil
x = { a = { 1 } }
x
decimal "1.50"
for i = 1, 2 do
  print(i)
end
db.query "select 1 as one, 'zwei' as two union all select 22, null"
db.first "select 5 as five"
_.five
]]
    assert.are.same({ "", 0 }, { err, code })
    assert.are.equal([[
2
"zwei"
nil
{
  "a": [
    1
  ]
}
1.50
1
2
one | two
----+-----
  1 | zwei
 22 |
(2 rows)
five
----
   5
(1 row)
5
]], out)
  end)

  it("runs SQL and operations", function()
    local out, err, code = repl [[
\sql insert into items (name) values ('nut'), ('washer')
\sql select name from items order by name;
\sql select name from items where false
\sql update items set stock = 2 returning name, stock
call("greet", { name = "you" }).greeting
\ops
\why
]]
    assert.are.same({ "", 0 }, { err, code })
    contains(out, "(2 rows changed)\nname\n------\nnut\nwasher\n(2 rows)\n(0 rows)\n", "stock\n",
             '"Hello, you"\n', "greet", "round trip 1")
  end)

  it("keeps a transaction open until it is committed or thrown away", function()
    local out, err, code = repl [[
\begin
tx:exec "insert into items (name) values ('bolt')"
\sql select count(*) as here from items where name = 'bolt'
\rollback
db.value "select count(*) from items where name = 'bolt'"
\begin serializable
tx:value "show transaction_isolation"
tx:insert("items", { name = "bolt" }).stock
pcall(tx.savepoint, tx, function() error "own" end)
\commit
db.value "select count(*) from items where name = 'bolt'"
\begin
\sql delete from items
]]
    assert.are.same({ 1 }, { code }) -- there is no right to delete
    contains(err, "permission denied for table items", "SQLSTATE 42501")
    contains(out, "here\n----\n   1\n(1 row)\nrolled back\n0\n", '"serializable"\n0\nfalse\n',
             "committed\n1\n", "the open transaction was rolled back")
  end)

  it("ends with the first failure of its stdin", function()
    for lines, told in pairs {
      ["nonsense here"] = "line:1: syntax error near 'here'",
      ["x = ("] = "the line is not complete",
      ["error 'oh'"] = "line:1: oh", ["\\nonsense"] = "there is no such command",
      ["\\commit"] = "no transaction is open", ["\\begin loud"] = "there is no level loud",
      ["db.query 'select x'"] = 'column "x" does not exist',
    } do
      local out, err, code = repl(lines .. "\nprint 'not run'\n")
      assert.are.equal(1, code, err)
      contains(err, told)
      assert.is_nil(out:find "not run")
    end
    local _, err, code = repl("", "--nonsense")
    contains(err, '"--nonsense" is not understood')
    assert.are.equal(2, code)
  end)

  describe("at a terminal", function()
    local person

    -- `script` gives it a terminal; what appears there comes through the FIFO.
    before_each(function()
      person = companion.start(function(fifo)
        local words = { "cd '" .. folder.path .. "' && exec env" }
        for name, value in pairs(project.env) do
          words[#words + 1] = ("%s='%s'"):format(name, value)
        end
        words[#words + 1] = ("script -qfec '%s repl' /dev/null >'%s'")
          :format(command.executable(), fifo)
        return table.concat(words, " ")
      end)
      person:hear() -- the greeting: from here on keys are read one by one
    end)

    after_each(function() person:stop() end)

    -- Reads lines until one contains the text.
    local function wait_for(text)
      local line
      repeat line = person:hear() until line:find(text, 1, true)
    end

    it("completes a word, keeps a history, and edits", function()
      person:say "moonpool.vers\t"
      wait_for '"0.'
      person:say "\\be\t"
      person:say "tx:va\t 'select 40 + 2'"
      wait_for "42"
      person:say "\\roll\t"
      wait_for "rolled back"
      person:say "\\quit"
      repeat until not person.answers:read "l" -- it has ended
      local history = io.open(folder.path .. "/.moonpool_history"):read "a"
      contains(history, "moonpool.version", "tx:value")
    end)

    it("ends what runs with Ctrl-C, and itself with Ctrl-D", function()
      person:say "print('bu' .. 'sy') while true do end"
      wait_for "busy"
      person:type "\3"
      wait_for "interrupted"
      person:say "print('al' .. 'ive')"
      wait_for "alive"
      person:say "\\begin"
      person:say "print('bu' .. 'sy') moonpool.sleep(1000)"
      wait_for "busy"
      person:type "\3"
      wait_for "the transaction has ended"
      person:type "\4"
    end)
  end)
end)
