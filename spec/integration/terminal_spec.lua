-- What a person at a terminal sees of a failed call; programs get JSON (cli_spec.lua).
local command  = require "spec.support.process.command"
local inline   = require "spec.support.data.inline"
local json     = require "moonpool.json"

local contains = inline.contains

describe("moonpool call at a terminal", function()
  local folder

  setup(function()
    folder = command.folder {
      ["scripts/lib/stock.lua"] = [[
local stock = {}

function stock.take(tx, count)
  return tx:value("select stok from\n  (values (1)) as t (stock)\n  where stock > $count",
                  { count = count })
end

function stock.divide(tx, by)
  tx:exec("select 1 / $by::int", { by = by })
end

return stock
]],
      ["scripts/sell.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local stock    = require "lib.stock"

return moonpool.operation {
  input = is.object { how = is.enum { "sql", "lua", "fail", "late", "fine" },
                      count = is.integer:default(1) },
  run = function(tx, input)
    print("selling", input.count)
    moonpool.log.warn("how: %s", input.how)
    if input.how == "sql" then stock.take(tx, input.count) end
    if input.how == "lua" then input.count = input.count.x.y end
    if input.how == "fail" then moonpool.fail("SOLD_OUT", "nothing is left", { status = 409 }) end
    if input.how == "late" then stock.divide(tx, 0) end
    return { sold = tx:value "select 5" }
  end,
}
]],
    }
  end)

  teardown(function() folder.remove() end)

  local function call(input, options)
    return command.terminal(("call sell '%s' %s"):format(json.encode(input), options or ""),
                            { dir = folder.path })
  end

  it("shows the place, the statement with a caret, and who called", function()
    local screen, code = call { how = "sql" }
    assert.are.equal(1, code)
    contains(screen, [[
scripts/lib/stock.lua:4: column "stok" does not exist]], [[

     4 |   return tx:value("select stok from\n  (values (1)) as t (stock)\n  where stock > $count",

    select stok from
           ^
      (values (1)) as t (stock)
      where stock > $1
]], "called from:\n  scripts/sell.lua:11  in ", "DATABASE_ERROR, status 500; SQLSTATE 42703\n",
      "moonpool errors 42703 tells")
    assert.is_nil(screen:find("[C]", 1, true))
    assert.is_nil(screen:find("moonpool/", 1, true))
  end)

  it("shows who called the module whose statement failed later", function()
    local screen = call { how = "late" }
    contains(screen, "scripts/lib/stock.lua:9: division by zero", "    select 1 / $1::int\n",
             "called from:\n  scripts/sell.lua:14\n", "SQLSTATE 22012")
  end)

  it("shows the line of a fault in a script", function()
    local screen = call { how = "lua" }
    contains(screen,
             "scripts/sell.lua:12: attempt to index a number value (field 'count')",
             '\n    12 |     if input.how == "lua" then input.count = input.count.x.y end')
  end)

  it("tells a domain error by its message", function()
    local screen = call { how = "fail" }
    contains(screen, "\nnothing is left\n\nSOLD_OUT, status 409\n")
    assert.is_nil(screen:find("sell.lua:13", 1, true))
  end)

  it("tells what is wrong with the input", function()
    local screen = call { how = "sq", many = 2 }
    contains(screen, "the input of sell is not accepted:\n  how   ",
             "\n  many  unknown field `many`", "moonpool call sell --help shows the input")
  end)

  it("shows what the operation prints and logs, with the call's name", function()
    local screen, code = call { how = "fine" }
    contains(screen, "info  script: selling 1 (sell, call ", "warn  script: how: fine (sell, call ",
             '\n{\n  "sold": 5\n}\n')
    assert.are.equal(0, code)
  end)

  it("shows the steps of the call with --why, also of one that fails", function()
    local screen = call({ how = "fine" }, "--why")
    contains(screen, "the script starts, attempt 1", "round trip 1, with begin",
             "scripts/sell.lua:15  select ", "committed", '"sold": 5')
    screen = call({ how = "sql" }, "--why")
    contains(screen, "fails: ", "rolls back", 'column "stok" does not exist')
    assert.is_nil(screen:find("with --why", 1, true))
  end)

  it("gives JSON with --json", function()
    local screen = call({ how = "fail" }, "--json")
    assert.are.equal("SOLD_OUT", json.decode(screen:match "{\"error.*").error.code)
  end)
end)
