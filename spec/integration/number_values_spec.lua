-- Numbers that are written otherwise than their column's type wants, and columns whose numbers are
-- none.
local db      = require "moonpool.db"
local decimal = require "moonpool.decimal"
local failure = require "spec.support.data.failure"
local json    = require "moonpool.json"
local values  = require "spec.support.data.values"

local unseen, through, stored, refusal = values.unseen, values.through, values.stored,
  values.refusal

describe("a number", function()
  it("may be given as a float that is whole", function()
    for type_name, list in pairs { int2 = { 10 / 2, -0.0 }, int4 = { 10 / 2, -3.0 },
                                   int8 = { 1e15, 2 ^ 53, -2.0 ^ 63 } } do
      for _, value in ipairs(list) do
        assert.are.equal(math.tointeger(value), through(type_name, value))
      end
    end
    assert.are.equal(5, #db.query(unseen "select i from generate_series(1, 9) i limit $1", 10 / 2))
    assert.are.equal("{1,2}", stored("int4[]", { 1.0, 4 / 2 }))
    local e = refusal(unseen "select $size::int8", { size = 2.0 ^ 63 })
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.matches(
      "$size: the parameter is an integer, but the float has a fraction or does not fit",
      e.message, 1,
      true)
  end)

  it("NaN and infinity can be read, compared, written and sent back, but not calculated with",
     function()
    for text, rank in pairs { NaN = 2, Infinity = 1, ["-Infinity"] = -1 } do
      local columns =
        "'%s'::numeric as price, '%s'::float8 as f, array['%s'::float8] as fs, \z
          array['%s'::numeric] as ns"
      local row = db.one(unseen("select " .. columns:format(text, text, text, text)))
      local value = row.price
      assert.is_true(decimal.is(value))
      assert.are.equal(text, tostring(value))
      assert.is_false(value:is_finite())
      assert.is_true(decimal "1":is_finite())
      assert.is_true(value == through("numeric", value))
      assert.are.equal(text, stored("numeric", value))
      assert.are.equal(rank < 0, value < decimal "0")
      assert.are.equal(rank > 0, value > decimal "0")
      assert.is_false(value == decimal "0")
      assert.matches("be used in a calculation", failure(function() return value + 1 end), 1, true)
      assert.are.equal(tostring(tonumber(text:lower()) or value:tonumber()),
                       tostring(value:tonumber()))
      local json_text = ('{"price":"%s","f":"%s","fs":["%s"],"ns":["%s"]}'):format(text, text, text,
        text)
      assert.are.equal(json_text, json.encode(row))
      assert.are.equal(json_text, json.encode(row, { camel = true, decimal_strings = true }))
      assert.are.equal(('{"price":"%s"}'):format(text), json.encode { price = value })
      assert.are.equal(text, through("jsonb", { price = value }).price)
      assert.are.equal(text, through("jsonb", value))
      assert.are.equal(text, db.value(unseen "select $1::jsonb", row).price)
    end
    assert.is_false(pcall(decimal, "NaN"))
  end)

  it("decimals that are whole are integers for integers, others an error", function()
    assert.are.equal(5, through("int4", decimal "5.00"))
    assert.are.equal(-7, through("int8", decimal "-7"))
    local e = refusal(unseen "select $price::int4", { price = decimal "5.01" })
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.matches("$price: the parameter is an integer, but the decimal has a fraction",
                   e.message, 1, true)
  end)
end)
