-- Strict where silence hurts: fields that the input does not have, results that `output` does not
-- describe, callers of a tenant whom row level security shows nothing.
local command  = require "spec.support.process.command"
local failure  = require "spec.support.data.failure"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local serving  = require "spec.support.process.serving"

describe("a checked input", function()
  local input = is.object { shop_id = is.uuid, note = is.string:optional(),
                            lines = is.array(is.object { sku = is.string }) }

  local function checked()
    return input:check { shop_id = "7f000000-0000-7000-8000-000000000000",
                         lines = { { sku = "a" } } }
  end

  it("raises for a field that its schema does not have, and names the nearest", function()
    assert.has_error(function() return checked().shop_idd end,
      "there is no field `shop_idd`; did you mean `shop_id`?")
    assert.has_error(function() return checked().lines[1].skuu end,
      "there is no field `skuu`; did you mean `sku`?")
    assert.has_error(function() return checked().nothing_alike end,
      "there is no field `nothing_alike`; the schema does not have it")
  end)

  it("gives nil for an optional field that is absent, and takes further fields", function()
    local value = checked()
    assert.is_nil(value.note)
    value.total = 3
    assert.are.equal(3, value.total)
  end)

  it("of several forms can be asked which form it has", function()
    local form = is.one_of(is.object { card = is.string }, is.object { cash = is.integer })
    local value = form:check { cash = 5 }
    assert.is_nil(value.card)
    assert.are.equal(5, value.cash)
    assert.has_error(function() return value.cahs end,
      "there is no field `cahs`; did you mean `cash`?")
  end)
end)

describe("an operation that takes more round trips than its `round_trips`", function()
  local function reads(count, most)
    return moonpool.operation { round_trips = most, run = function(tx)
      local sum = 0
      for i = 1, count do sum = sum + tx:value("select $1::int", i) end
      return sum
    end }
  end

  it("fails a spec, and says how to see why", function()
    local op = reads(3, 2)
    local e = failure(moonpool.call, op)
    assert.matches("took 4 round trips, and its definition says at most 2; `moonpool explain",
                   e.message, 1, true)
    assert.equal("SCRIPT_ERROR", e.code)
  end)

  it("does nothing where it takes as many", function()
    assert.same({ 6, n = 1 }, table.pack(moonpool.call(reads(3, 4))))
    assert.equal(4, select(2, moonpool.call_info(reads(3, 4))).round_trips)
  end)
end)

describe("a result that `output` does not describe", function()
  local files = {
    ["scripts/wrong.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"
return moonpool.operation {
  output = is.object { first_name = is.string, lines = is.array(is.integer) },
  run    = function()
    return { first_name = 5, lines = {} }
  end,
}
]],
    ["scripts/right.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"
return moonpool.operation {
  output = is.object { name = is.string:optional(), price = is.decimal, at = is.timestamp,
                       lines = is.array(is.row), none = is.array(is.string) },
  run    = function(tx)
    local row = tx:one "select null as name, 1.50 as price, now() as at"
    return { name = row.name, price = row.price, at = row.at, none = {},
             lines = tx:query "select 1 as n, null as nothing" }
  end,
}
]],
  }
  it("is refused by `moonpool call`", function()
    local folder = command.folder(files)
    finally(folder.remove)
    local out, err, code = command.streams("call wrong --json", { dir = folder.path })
    assert.are.equal(1, code)
    assert.are.equal("", out)
    assert.matches("the result of wrong is not what its `output` says: firstName: must be a string",
                   err, 1, true)
    out, err, code = command.streams("call right --json", { dir = folder.path })
    assert.are.equal(0, code, err)
    assert.matches('"lines":[{"n":1,"nothing":null}],"none":[]', out, 1, true)
  end)

  it("fails a spec", function()
    local op = moonpool.operation { output = is.object { n = is.integer },
                                    run = function() return { n = "one" } end }
    assert.error_matches(function() moonpool.call(op) end, "n: must be an integer")
  end)

  it("is told in the log of a host that serves, which answers", function()
    -- each worker tells it once
    local host = serving.start(files, { env = { MOONPOOL_LOG = "text", MOONPOOL_WORKERS = "1" } })
    finally(function() host:stop() end)
    assert.are.same({ firstName = 5, lines = {} }, host:call "wrong".result)
    host:call "wrong"
    scratch.await("the warning", function()
      return host:log():find("the result of wrong is not what its `output` says", 1, true)
    end)
    assert.are.equal(1, select(2, host:log():gsub("the result of wrong", "")))
  end)
end)

describe("an operation without tenant, called for a tenant", function()
  it("is told, unless it says that it has none", function()
    local function operation(fields)
      return ([[
local is = require "moonpool.is"
return require "moonpool".operation { %s run = function(tx) return tx:value "select 1" end }
]]):format(fields)
    end
    local folder = command.folder {
      ["scripts/own.lua"]  = operation
        'tenant = "shop_id", input = is.object { shop_id = is.uuid },',
      ["scripts/open.lua"] = operation "",
      ["scripts/none.lua"] = operation "tenant = false,",
    }
    finally(folder.remove)
    local tenant = " --tenant 7f000000-0000-7000-8000-000000000000"
    local words  = "open was called for a tenant and has no `tenant`"
    for args, expected in pairs { ["open" .. tenant] = true, open = false,
                                  ["none" .. tenant] = false, ["own" .. tenant] = false } do
      local _, err, code = command.streams("call " .. args, { dir = folder.path })
      assert.are.equal(0, code, err)
      assert.are.equal(expected, err:find(words, 1, true) ~= nil, args)
    end
  end)
end)
