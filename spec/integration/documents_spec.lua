-- A JSON document that an operation reads and returns, or reads and writes back, is the same
-- document afterwards: its numbers, its empty arrays, its null.
local border   = require "moonpool.operation.border"
local cache    = require "moonpool.cache"
local db       = require "moonpool.db"
local decimal  = require "moonpool.decimal"
local failure  = require "spec.support.data.failure"
local is       = require "moonpool.is"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local numbers = { "0", "-1", "1.10", "0.10", "28500.00", "0.25", "-0.50", "1e400", "1.5e-7",
                  "0.30000000000000004", "9223372036854775807", "-9223372036854775808",
                  "9223372036854775808", "18446744073709551616",
                  "123456789012345678901234567890.50",
                  "3.14159265358979323846", "1.0", "100.0010" }

--- What a caller at the border gets: JSON in, JSON out.
local function answer(op, input)
  return border.encode(moonpool.call(op, border.decode(input or "{}"), { border = true }))
end

local function operation(run, input) return moonpool.operation { input = input, run = run } end

--- The number as the server's numeric writes it.
local function plain(text) return db.value("select ($1::text)::numeric::text", text) end

describe("a JSON document", function()
  local schema
  setup(function()
    schema = scratch.schema("documents", {
      [[create table documents.docs (id integer generated always as identity primary key,
        doc jsonb, plain json, price numeric(12, 2))]] })
  end)
  teardown(function() schema.drop() end)

  it("has the same numbers when it was read and is answered", function()
    for _, type_name in ipairs { "json", "jsonb" } do
      local op = operation(function(tx, input)
        local row = tx:one(("select $text::text::%s as doc, array[$text::text::%s] as list")
          :format(type_name, type_name), input)
        return { doc = row.doc, part = row.doc.n, inner = { row.doc.list[1] },
                 item = row.list[1].n }
      end, is.object { text = is.string })
      for _, number in ipairs(numbers) do
        local text = ('{"n": %s, "list": [%s]}'):format(number, number)
        local n = plain(number)
        local expected = ('{"doc":{"list":[N],"n":N},"inner":[N],"item":N,"part":N}'):gsub("N", n)
        assert.are.equal(expected, answer(op, json.encode { text = text }))
      end
    end
  end)

  it("has the same numbers when it was read and is written back", function()
    for _, number in ipairs(numbers) do
      local text = ('{"n": %s, "list": [%s, [], {}, null]}'):format(number, number)
      for _, column in ipairs { "doc", "plain" } do
        local id = db.insert("documents.docs", { [column] = json.raw(text) }).id
        local read = ("select %s::jsonb::text from documents.docs where id = $1"):format(column)
        local before = db.value(read, id)
        answer(operation(function(tx)
          local doc = tx:one("select * from documents.docs where id = $1", id)[column]
          tx:exec(("update documents.docs set %s = $doc where id = $id"):format(column),
                  { doc = doc, id = id })
        end))
        assert.are.equal(before, db.value(read, id))
      end
    end
  end)

  it("has the same numbers when it comes through is.any", function()
    local op = operation(function(_, input) return { any = input.any, inner = { input.any } } end,
                         is.object { any = is.any })
    for _, number in ipairs(numbers) do
      local n = plain(number)
      assert.are.equal(('{"any":%s,"inner":[%s]}'):format(n, n),
                       answer(op, '{"any":' .. number .. "}"))
      local doc = ('{"a_b":[%s,[],{},null]}'):format(n)
      assert.are.equal(('{"any":%s,"inner":[%s]}'):format(doc, doc),
                       answer(op, '{"any":' .. doc .. "}"))
    end
  end)

  it("keeps its order, and what Lua values cannot hold, in a row that is given back", function()
    local deep = ("["):rep(200) .. ("]"):rep(200)
    local op = operation(function(tx, input)
      return tx:one("select $text::text::json as doc", input)
    end, is.object { text = is.string })
    for _, text in ipairs { '{"z":1,"a":2,"m":[1.10,1e2,-0]}', '{"deep":' .. deep .. "}",
                            "[" .. ("9"):rep(2000) .. "]" } do
      assert.are.equal('{"doc":' .. text .. "}", answer(op, json.encode { text = text }))
    end
  end)

  it("makes no strings of numbers, and columns no numbers of strings", function()
    local op = operation(function(tx, input)
      local row = tx:insert("documents.docs",
                            { doc = { price = input.price }, price = input.price })
      return { row = row, price = row.price, given = input.price, any = input.any,
               stored = row.doc.price, twice = row.doc.price * 2, made = decimal(row.doc.price) }
    end, is.object { price = is.decimal, any = is.any })
    local told = json.decode(answer(op, '{"price":1.10,"any":1.10}'), { decimals = true })
    assert.are.same({ "1.10", "1.10", "1.10", "1.10", "2.20" },
                    { told.row.price, told.price, told.given, told.made, told.twice })
    assert.are.equal("1.10", tostring(told.any))
    assert.is_true(decimal.is(told.any))
    assert.is_true(decimal.is(told.stored))
    assert.is_true(decimal.is(told.row.doc.price))
  end)

  it("is what it was behind an idempotency key, and decimals in the cache are decimals", function()
    local op = operation(function(tx)
      return { n = tx:value "select '1.10'::jsonb", price = tx:value "select 1.10" }
    end)
    for _ = 1, 2 do
      local result = moonpool.call(op, {}, { key = "documents" })
      assert.are.equal("1.10", json.decode(border.encode(result)).price)
      result = moonpool.call(op, {}, { key = "documents", border = true })
      assert.are.equal('{"n":1.10,"price":"1.10"}', border.encode(result))
    end
    cache.set("documents", { price = decimal "1.10" }, { ttl = 60 })
    assert.are.equal('{"price":"1.10"}', border.encode(cache.get "documents"))
  end)

  it("has as many levels on its way out as in, wherever it stands in the answer", function()
    local function nested(n) return ("["):rep(n) .. ("]"):rep(n) end
    local op = operation(function(tx, input)
      local row = tx:insert("documents.docs", { doc = input.any, plain = input.any })
      return { row = row, inner = { row.doc, { row.plain } }, any = input.any }
    end, is.object { any = is.any })
    local doc = nested(63)
    local told = answer(op, '{"any":' .. doc .. "}")
    assert.are.equal(5, select(2, told:gsub(("%["):rep(63), "")))
    local e = failure(answer, op, '{"any":' .. nested(64) .. "}")
    assert.are.equal("VALIDATION_ERROR", e.code)
    local deepest = operation(function(tx, input)
      return { inner = { { tx:value("select $text::text::jsonb", input) } } }
    end, is.object { text = is.string })
    local function read(n) return answer(deepest, json.encode { text = nested(n) }) end
    assert.are.equal('{"inner":[[' .. nested(64) .. "]]}", read(64))
    assert.matches("column jsonb: .*nested deeper than 64 levels", failure(read, 65).message)
    assert.matches("nested deeper than 64 levels", failure(answer, operation(function(tx)
      tx:insert("documents.docs", { doc = json.decode(nested(64)), plain = { { nested = {} } } })
      local deep = {}
      for _ = 1, 64 do deep = { deep } end
      tx:insert("documents.docs", { doc = deep })
    end)).message, 1, true)
  end)
end)
