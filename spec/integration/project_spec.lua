-- A project of one's own, from nothing: moonpool new, ops, call NAME --help, run -e.
local command = require "spec.support.process.command"
local inline  = require "spec.support.data.inline"
local json    = require "moonpool.json"
local test    = require "moonpool.test"

local contains = inline.contains

describe("a new project", function()
  local folder, database, env

  setup(function()
    folder = command.folder {}
    database = test.database { empty = true }
    env = { DATABASE_URL = database.app_url, MOONPOOL_OWNER_URL = database.owner_url }
  end)

  teardown(function()
    folder.remove()
    database.drop()
  end)

  local function run(args, options)
    return command.streams(args, { dir = folder.path .. (options and options.dir or ""), env = env,
                                   stdin = options and options.stdin })
  end

  local function works(args, options)
    local out, err, code = run(args, options)
    assert.are.equal(0, code, err)
    return out
  end

  -- In one test, because each step needs those before it.
  it("works as it is, and with an operation and a migration more", function()
    contains(works "new corner-shop", "corner-shop/moonpool.conf", "moonpool migrate up")
    local here = { dir = "/corner-shop" }
    works("migrate up", here)
    local note = json.decode(works("call add_note '{\"text\": \"Hello\"}'", here)).note
    assert.are.equal("Hello", note.text)
    contains(works("new op place_order", here), "scripts/place_order.lua",
             "spec/place_order_spec.lua")
    contains(works("new migration 'add orders'", here), "migrations/0002_add_orders.sql")
    works("migrate up", here)
    contains(works("call place_order '{\"text\": \"x\"}'", here), '"text":"x"')
    contains(works("spec", here), "4 successes / 0 failures / 0 errors")
    assert.are.equal("add_note     Add a note\nplace_order  Place order\n", works("ops", here))
    local list = json.decode(works("ops --json", here))
    assert.are.equal("Add a note", list[1].summary)
  end)

  it("is not written over anything", function()
    folder.write("taken/file", "mine")
    folder.write("scripts/taken.lua", "mine")
    for args, told in pairs {
      ["new taken"] = "taken exists and is not an empty folder",
      ["new op taken"] = "scripts/taken.lua exists already",
    } do
      local _, err, code = run(args)
      contains(err, told)
      assert.are.equal(1, code)
    end
    for args, told in pairs {
      ["new"] = "say what", ["new op"] = "the name is missing", ["new --op x"] = '"--op"',
      ["new op 1st"] = 'not "1st"', ["new op a/b"] = 'not "a/b"', ["new a b"] = 'too many',
      ["ops x"] = 'unknown argument "x"',
    } do
      local _, err, code = run(args)
      contains(err, told)
      assert.are.equal(2, code, err)
    end
  end)
end)

describe("moonpool", function()
  local folder

  setup(function()
    folder = command.folder {
      ["scripts/place_order.lua"] = [[
        local moonpool = require "moonpool"
        local is       = require "moonpool.is"
        return moonpool.operation {
          summary = "Place an order",
          input   = is.object {
            shop_id = is.integer:min(1), note = is.string:max(20):optional(),
            speed = is.enum { "slow", "fast" }:default "slow",
            order_lines = is.array(is.object { how_many = is.integer, price = is.decimal:scale(2) })
                            :min(1),
          },
          output  = is.object { order = is.row },
          tenant  = "shop_id",
          errors  = { orders_number_key = { "DUPLICATE", 409 } },
          run     = function() return { order = {} } end,
        }
      ]],
      ["scripts/tidy.lua"] = [[
        return require "moonpool".operation { summary = "Tidy up", every = "1h",
                                              run = function() end }
      ]],
      ["scripts/bad.lua"] = "local x = = 1\n",
    }
  end)

  teardown(function() folder.remove() end)

  local function run(args, stdin)
    return command.streams(args, { dir = folder.path, stdin = stdin })
  end

  it("ops lists operations, and tells files that cannot be loaded", function()
    local out, err, code = run "ops"
    assert.are.equal("place_order            Place an order\ntidy         every 1h  Tidy up\n", out)
    contains(err, "scripts/bad.lua:1: ", "near '='")
    assert.are.equal(1, code)
  end)

  it("call NAME --help shows input and result", function()
    local _
    local out, err, code = run "call place_order --help"
    assert.are.equal(0, code, err)
    contains(out, "place_order: Place an order", "Input:", "Result:",
      [[moonpool call place_order '{"orderLines":[{"howMany":1,"price":"1.00"}],"shopId":1}']],
      "shopId                                whole number of at least 1",
      "note                  optional        text of at most 20 characters",
      'speed                 default "slow"  one of: slow, fast',
      "orderLines[].price                    decimal number, at most 2 digits after the point",
      "tenant     shopId, or the caller's (--tenant)",
      "DUPLICATE  409  constraint orders_number_key")
    out, err, code = run "call place_ordr --help"
    assert.are.same({ "", 2 }, { out, code })
    contains(err, "did you mean `place_order`?")
    _, err, code = run "call bad --help"
    contains(err, "scripts/bad.lua:1")
    assert.are.equal(1, code)
    contains((run "call --help"), "Usage: moonpool call")
  end)

  it("run takes code as an argument and from stdin", function()
    local _
    local out, err, code = run "run -e 'print(...) print(arg[0], arg[1])' one two"
    assert.are.same({ "one\ttwo\n-e\tone\n", "", 0 }, { out, err, code })
    out, err, code = run("run - three", "print(require 'moonpool.db'.value 'select 6 * 7', ...)\n")
    assert.are.same({ "42\tthree\n", "", 0 }, { out, err, code })
    assert.are.equal(7, select(3, run "run -e 'return 7'"))
    _, err, code = run "run -e 'print(('"
    contains(err, "moonpool run: -e:1: unexpected symbol")
    assert.are.equal(1, code)
    _, err, code = run("run -", "\nerror 'oh'\n")
    contains(err, "stdin:2: oh")
    assert.are.equal(1, code)
    _, err, code = run "run -e"
    contains(err, "the code behind -e is missing")
    assert.are.equal(2, code)
  end)
end)
