-- Values that take long to be read or written: that is charged to the task that wants them, and
-- others run in between.
local db         = require "moonpool.db"
local definition = require "moonpool.operation.definition"
local host       = require "moonpool.host"
local inline     = require "spec.support.data.inline"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"

local LONG = "('[' || repeat('{\"a\":[1,2]},', 150000) || '1]')"

-- How often another task runs while fn does, and what fn gives.
local function turns_during(fn)
  local turns, over = 0, false
  local counter = moonpool.spawn(function()
    while not over do
      turns = turns + 1
      moonpool.sleep(0)
    end
  end)
  local ok, result = pcall(fn)
  over = true
  counter:wait()
  assert(ok, result)
  return turns, result
end

local function limited(fn, limits)
  return host.spawn_limited(limits or { cpu_ms = 60000, memory = 1 << 30 }, fn):wait()
end

local function numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function names(n)
  local object = {}
  local long = "a name that is longer than forty characters, and so not interned "
  for i = 1, n do object[long .. i] = i end
  return object
end

describe("a long value", function()
  local list, object
  setup(function() list, object = numbers(1000000), names(50000) end)
  teardown(function() list, object = nil, nil end)

  local ways = {
    ["an array is written"]   = function() return #json.encode(list) end,
    ["an object is written"]  = function()
      return #json.encode({ object, object }, { sorted = true })
    end,
    ["a column is read by its name"] = function()
      return #db.first("select " .. LONG .. "::jsonb as doc").doc
    end,
    ["a column is read by pairs"] = function()
      local row, count = db.first("select " .. LONG .. "::json as doc"), 0
      for _, value in pairs(row) do count = count + #value end
      return count
    end,
    ["a column is read by db.value"] = function()
      return #db.value("select " .. LONG .. "::jsonb")
    end,
  }
  for what, fn in pairs(ways) do
    it("lets others run while " .. what, function()
      local turns, result = turns_during(function() return limited(fn) end)
      assert.is_true(turns >= 3, turns)
      assert.are.equal(fn(), result)
    end)
    it("is charged to its task while " .. what, function()
      local ok, e = pcall(limited, fn, { cpu_ms = 20, memory = 1 << 30 })
      assert.is_false(ok)
      assert.are.equal("SCRIPT_TIMEOUT", e.code)
    end)
  end

  it("is read once, and the same table then", function()
    limited(function()
      local row = db.first("select " .. LONG .. "::jsonb as doc")
      assert.are.equal(row.doc, row.doc)
      for _, value in pairs(row) do assert.are.equal(row.doc, value) end
    end)
  end)

  it("lets others run while it becomes the answer of a call", function()
    local op = inline.define(function(tx)
      local rows = {}
      for i = 1, 100000 do rows[i] = { some_name = i } end
      return { rows = rows, now = tx:value "select 1" }
    end, { timeout = 60 })
    definition.limit(definition.of(op))
    for _, key in ipairs { false, "long_values_spec" } do
      local turns, text = turns_during(function()
        return (moonpool.call(op, {}, { border = true, answer_text = true, key = key or nil }))
      end)
      assert.is_true(turns >= 3, turns)
      assert.are.equal('{"now":1,"rows":[{"someName":1},', text:sub(1, 32))
    end
  end)

  it("may be changed while it is written: that is an error or a text, and no more", function()
    for _, options in ipairs { {}, { sorted = true } } do
      local doomed, over = names(30000), false
      local writer = host.spawn_limited({ cpu_ms = 60000, memory = 1 << 30 }, function()
        local ok, text = pcall(json.encode, { doomed, doomed }, options)
        over = true
        return ok, text
      end)
      moonpool.spawn(function()
        while not over do
          moonpool.sleep(0)
          for name in pairs(doomed) do doomed[name] = nil end
          for i = 1, 100 do doomed[i .. ""] = {} end
          collectgarbage()
        end
      end):wait()
      local ok, text = writer:wait()
      assert.truthy(not ok or json.decode(text, { max_bytes = #text + 1 }))
    end
  end)
end)
