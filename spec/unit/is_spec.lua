-- Schemas: what they accept, convert and refuse, how they name the place, and the camelCase border.
local is = require "moonpool.is"
local json = require "moonpool.json"
local decimal = require "moonpool.decimal"

-- The error of a check that must fail.
local function failure(schema, value, border)
  local method = border and schema.from_json or schema.check
  local ok, e = pcall(method, schema, value)
  assert.is_false(ok, "expected a VALIDATION_ERROR")
  assert.equal("VALIDATION_ERROR", e.code)
  assert.equal(400, e.status)
  return e
end

local function refuses(pattern, schema, ...)
  for _, value in ipairs { ... } do assert.matches(pattern, failure(schema, value).message) end
end

local function border(text) return json.decode(text, { decimals = true }) end

describe("values", function()
  it("strings", function()
    assert.equal("é", is.string:check "é")
    assert.equal("ééé", is.string:max(3):check "ééé")
    refuses("must be a string", is.string, 5, true, {}, decimal "5")
    refuses("valid UTF%-8", is.string, "\xff", "\xed\xa0\x80")
    refuses("NUL", is.string, "a\0b")
    refuses("at most 3 characters", is.string:max(3), "éééé")
    refuses("at least 2 characters", is.string:min(2), "é")
    refuses("must not be empty", is.string:min(1), "")
    refuses("at most 10000 characters", is.string, ("x"):rep(10001))
    assert.equal(10001, #is.string:max(20000):check(("x"):rep(10001)))
    local vin = is.string:pattern("^%w+$", "a VIN")
    assert.equal("1FTFW1", vin:check "1FTFW1")
    refuses("must look like a VIN", vin, "1 FT")
  end)

  it("uuids", function()
    local id = "0190a5c8-7b1e-7cc3-98c4-dc0c0c07398f"
    assert.equal(id, is.uuid:check(id:upper()))
    refuses("must be a UUID", is.uuid, "", "x", id .. "0", "{" .. id .. "}", id:gsub("%-", ""),
            (id:gsub("0", "g")), id .. "\n")
    refuses("must be a string", is.uuid, 5)
  end)

  it("e-mail addresses", function()
    for _, ok in ipairs { "a@b.co", "first.last+tag@sub.example.com", "o'hara@exämple.de" } do
      assert.equal(ok, is.email:check(ok))
    end
    refuses("must look like an e%-mail address", is.email, "", "a", "a@b", "a@b.c", "@b.co", "a@",
            "a b@c.co", "a@b..co",
      "a@@b.co",
      "a@b.co\n", ".a@b.co", "a.@b.co", "a..b@c.co", "a@-b.co", "a@b.co,c@d.co", "<a@b.co>",
      ("x"):rep(250) .. "@b.co")
  end)

  it("numbers", function()
    assert.equal(5, is.integer:check(5))
    assert.equal("integer", math.type(is.integer:check(5.0)))
    assert.equal(3, is.integer:from_json(border "3.0"))
    refuses("must be an integer", is.integer, 1.5, "5", true, 2 ^ 70, 0 / 0, decimal "1.5",
            decimal "1e30")
    refuses("at least 1", is.integer:min(1), 0, math.mininteger)
    refuses("at most 9", is.integer:max(9), 10)
    assert.equal(1.5, is.number:check(1.5))
    assert.equal(1.5, is.number:from_json(border "1.5"))
    refuses("finite", is.number, 0 / 0, math.huge)
    refuses("must be a number", is.number, "1")
  end)

  it("decimals", function()
    for _, v in ipairs { "28500.00", decimal "28500.00", 28500 } do
      assert.is_true(is.decimal:check(v) == decimal "28500")
    end
    assert.equal("28500.00", tostring(is.decimal:from_json(border "28500.00")))
    refuses("floats are not exact", is.decimal, 1.5, 2.0)
    refuses("must be a decimal number", is.decimal, "", "1e5", "NaN", "1,5", " 1", "1.", ".5", "+1",
            "0x1", true, {},
      ("9"):rep(1001))
    local money = is.decimal:precision(12):scale(2):min(0)
    assert.equal("9999999999.99", tostring(money:check "9999999999.99"))
    assert.equal("1.50", tostring(money:check "1.500"))
    refuses("at most 2 digits after the point", money, "1.505")
    refuses("at most 10 digits in front", money, "10000000000")
    refuses("at least 0", money, "-0.01", -1)
    refuses("at most 24.99", is.decimal:max "24.99", "25")
  end)

  it("booleans and enums", function()
    assert.is_false(is.boolean:check(false))
    refuses("true or false", is.boolean, 0, "true", {})
    local condition = is.enum { "NEW", "USED" }
    assert.equal("USED", condition:check "USED")
    refuses("must be one of NEW, USED", condition, "new", "", 1, "OLD")
  end)

  it("dates are real days", function()
    for _, ok in ipairs { "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31",
                          "+010000-01-01", "-004713-11-24", "+000000-02-29", "+5874897-12-31",
                          "infinity", "-infinity" } do
      assert.equal(ok, is.date:check(ok))
    end
    refuses("there is no such day", is.date, "2023-02-29", "-000001-02-29")
    refuses("from %-004713%-11%-24 to %+5874897%-12%-31", is.date, "-004713-11-23",
            "+5874898-01-01")
    refuses("the year has four digits", is.date, "0000-01-01", "12345-01-01", "+2024-01-01")
    refuses("must be a date", is.date, "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10",
            "2024-04-31", "2024-01-00",
      "0000-01-01",
      "24-01-01", "2024-1-1", "2024-01-01T00:00:00Z", "", "2024-01-01\n")
  end)

  it("timestamps become UTC", function()
    for from, to in pairs {
      ["2024-02-29T13:45:00Z"] = "2024-02-29T13:45:00Z",
      ["2024-02-29T13:45:00.000Z"] = "2024-02-29T13:45:00Z",
      ["2024-02-29T23:30:00.25-05:00"] = "2024-03-01T04:30:00.25Z",
      ["2024-03-01T00:30:00+01:00"] = "2024-02-29T23:30:00Z",
      ["2024-01-01T00:00:00+00"] = "2024-01-01T00:00:00Z",
      ["2023-12-31 20:00:00-0800"] = "2024-01-01T04:00:00Z",
      ["2024-12-31T23:59:59.123456+05:45"] = "2024-12-31T18:14:59.123456Z",
      ["2024-05-05T10:20Z"] = "2024-05-05T10:20:00Z",
      ["0001-01-01T00:00:00Z"] = "0001-01-01T00:00:00Z",
      ["9999-12-31T23:59:59Z"] = "9999-12-31T23:59:59Z",
      ["9999-12-31T23:59:59.9999999Z"] = "+010000-01-01T00:00:00Z",
      ["9999-12-31T23:59:59-01:00"] = "+010000-01-01T00:59:59Z",
      ["+010000-01-01T00:59:59+01:00"] = "9999-12-31T23:59:59Z",
      ["0001-01-01T00:00:00+01:00"] = "+000000-12-31T23:00:00Z",
      ["-000043-03-15T12:00:00Z"] = "-000043-03-15T12:00:00Z",
      ["2024-02-29T24:00:00Z"] = "2024-03-01T00:00:00Z",
      ["2024-12-31T24:00:00.000-01:00"] = "2025-01-01T01:00:00Z",
      ["2016-12-31T23:59:60Z"] = "2017-01-01T00:00:00Z",
      ["+294277-01-01T00:00:00+00:01"] = "+294276-12-31T23:59:00Z",
      infinity = "infinity", ["-infinity"] = "-infinity",
    } do
      assert.equal(to, is.timestamp:check(from))
    end
    refuses("time with its zone", is.timestamp, "2024-02-29T13:45:00", "2024-02-30T13:45:00Z",
      "2024-02-29T24:00:01Z", "2024-02-29T24:00:00.1Z", "2024-02-29T25:00:00Z",
      "2024-02-29T13:60:00Z",
      "2024-02-29T13:45:60Z", "2024-02-29T13:45:00.Z", "2024-02-29T13:45:00+16:00",
        "2024-02-29",
      "2024-02-29T13:45:00+05:60", "2024-02-29T13:45:00Zx", "now", "")
    refuses("there is no such time of a day", is.timestamp, "2024-02-29T24:00:01Z")
    refuses("may have a second 60", is.timestamp, "2024-02-29T13:45:60Z")
    refuses("the zone is Z, or at most 15:59 from it", is.timestamp, "2024-02-29T13:45:00+16:00")
    refuses("from %-004713%-11%-24 to %+294276%-12%-31", is.timestamp, "+294277-01-01T00:00:00Z",
            "-004713-11-24T00:00:00+00:01", "+294276-12-31T23:59:59.9999999Z")
  end)

  it("rows are passed on and not looked at", function()
    local row = setmetatable({}, { __index = error, __pairs = error, __len = error, __eq = error })
    assert.is_true(rawequal(row, is.row:check(row)))
    refuses("must be a row", is.row, 1, "x", decimal "1")
    refuses("must be a row", is.row:of("orders", "id"), 1)
    assert.has_error(function() return is.row:of(1) end)
    assert.has_error(function() return is.string:of "orders" end)
  end)
end)

describe("absence", function()
  it("is told apart from null", function()
    local s = is.object { a = is.string:optional(), b = is.string:nullable():optional(),
                          c = is.integer:default(7) }
    local copy = s:check { b = is.null }
    assert.is_nil(copy.a)
    assert.equal(is.null, copy.b)
    assert.equal(7, copy.c)
    assert.matches("^a: must not be null$", failure(s, { a = is.null }).message)
    assert.matches("^x: is required$", failure(is.object { x = is.string:nullable() }, {}).message)
    assert.equal("must not be null", failure(is.string, is.null).message)
    assert.equal("is required", failure(is.string, nil).message)
  end)

  it("fills defaults with fresh copies, false included", function()
    local s = is.object { list = is.array(is.integer):default {}, on = is.boolean:default(false) }
    local one, two = s:check {}, s:check {}
    one.list[1] = 5
    assert.equal(0, #two.list)
    assert.is_false(one.on)
    assert.equal("[]", json.encode(two.list))
    assert.has_error(function() return is.integer:default "x" end)
  end)
end)

describe("objects", function()
  local deal = is.object {
    customer_id = is.uuid:optional(),
    customer_data = is.object { first_name = is.string:min(1), email = is.email:optional(),
      line_2 = is.string:optional() }:optional(),
    prices = is.array(is.object { sale_price = is.decimal:scale(2) }):max(3):default {},
    meta = is.any:optional(),
  }:exactly_one("customer_id", "customer_data")

  it("copies and never shares", function()
    local input = { customer_data = { first_name = "A" }, prices = { { sale_price = "1" } },
                    meta = { deep = { 1 } } }
    local copy = deal:check(input)
    assert.are_not.equal(input.customer_data, copy.customer_data)
    assert.are_not.equal(input.meta.deep, copy.meta.deep)
    assert.same("A", copy.customer_data.first_name)
    assert.is_true(decimal.is(copy.prices[1].sale_price))
    assert.equal("string", type(input.prices[1].sale_price))
    input.meta.deep[1] = 2
    assert.equal(1, copy.meta.deep[1])
  end)

  it("collects all failures with their paths", function()
    local e = failure(deal, { customer_data = { first_name = "", email = "x" },
                              prices = { { sale_price = "1" },
      { sale_price = true } } })
    local paths = {}
    for i, f in ipairs(e.fields) do paths[i] = f.path end
    assert.same({ "customer_data.email", "customer_data.first_name", "prices[2].sale_price" },
                paths)
    assert.equal("must look like an e-mail address", e.fields[1].message)
    assert.matches("^customer_data%.email: must look like an e%-mail address; "
      .. "customer_data%.first_name: must not be empty; prices", e.message)
    local many = is.object { a = is.string, b = is.string, c = is.string, d = is.string,
                             e = is.string }
    assert.matches("^a: is required; b: is required; c: is required %(and 2 more%)$",
                   failure(many, {}).message)
    assert.equal(5, #failure(many, {}).fields)
    assert.matches("^VALIDATION_ERROR: ", tostring(failure(is.string, 1)))
  end)

  it("takes a path from the caller", function()
    local ok, e = pcall(deal.check, deal, { customer_data = {} }, "input")
    assert.is_false(ok)
    assert.equal("input.customer_data.first_name", e.fields[1].path)
  end)

  it("refuses unknown fields with the nearest name", function()
    local e = failure(deal, { custmer_id = "x", customer_data = { first_name = "A" } })
    assert.equal("unknown field `custmer_id`; did you mean `customer_id`?", e.message)
    assert.equal("custmer_id", e.fields[1].path)
    e = failure(deal, { customer_data = { first_name = "A", first_nmae = 1, zzzzzzzz = 1 } })
    assert.matches("customer_data: unknown field `first_nmae`; did you mean `first_name`%?",
                   e.message)
    assert.matches("unknown field `zzzzzzzz`$", e.message)
    assert.matches("did you mean `customer_id`", failure(deal, { customerId = 1,
      customer_data = { first_name = "A" } }).message)
    failure(deal, { [1] = 1, customer_data = { first_name = "A" } })
    failure(deal, { ["\xff"] = 1, customer_data = { first_name = "A" } })
    failure(deal, { [("x"):rep(100000)] = 1, customer_data = { first_name = "A" } })
  end)

  it("wants exactly one of some", function()
    assert.equal("exactly one of customer_id and customer_data must be given",
                 failure(deal, {}).message)
    assert.matches("exactly one",
                   failure(deal, { customer_id = "0190a5c8-7b1e-7cc3-98c4-dc0c0c07398f",
      customer_data = { first_name = "A" } }).message)
    local own = is.object { a = is.any:optional(), b = is.any:optional() }:exactly_one("a", "b",
      "Either a or b")
    assert.equal("Either a or b", failure(own, {}).message)
    assert.has_error(function() is.object { a = is.any, b = is.any }:exactly_one("a", "b") end)
    assert.has_error(function() is.object { a = is.any:optional() }:exactly_one("a", "b") end)
  end)

  it("refuses what is no object or no array", function()
    refuses("must be an object", deal, 1, "x", { 1 }, json.array(), io.stdout, true)
    refuses("must be an array", is.array(is.any), 1, "x", { a = 1 }, { 1, nil, 3 }, { [2] = 1 },
            { 1, x = 1 })
    refuses("at most 2 items", is.array(is.any):max(2), { 1, 2, 3 })
    refuses("at least 1 item", is.array(is.any):min(1), {})
    assert.equal("[]", json.encode(is.array(is.any):check {}))
    local endless = {}
    endless.x = endless
    refuses("contains itself", is.any, endless)
    refuses("not a function", is.any, { print })
  end)
end)

describe("the border", function()
  local s = is.object {
    customer_data = is.object { first_name = is.string, line_2 = is.string:optional() },
    line_items = is.array(is.object { unit_price = is.decimal }):optional(),
    meta_data = is.any:optional(),
    by_name = is.map(is.object { sub_total = is.integer }):optional(),
    note_text = is.string:nullable():optional(),
  }

  it("respells names, leaves data alone, and goes back to the same text", function()
    local text =
      '{"byName":{"any_Key x":{"subTotal":1}},"customerData":{"firstName":"A","line_2":"B"},'
      .. '"lineItems":[{"unitPrice":"28500.00"}],'
      .. '"metaData":{"trimLevel":[{"sub_name":[]}],"x_y":null},"noteText":null}'
    local copy = s:from_json(border(text))
    assert.equal("A", copy.customer_data.first_name)
    assert.equal("B", copy.customer_data.line_2)
    assert.equal("28500.00", tostring(copy.line_items[1].unit_price))
    assert.is_table(copy.meta_data.trimLevel)
    assert.equal(1, copy.by_name["any_Key x"].sub_total)
    assert.equal(is.null, copy.note_text)
    assert.equal(text, json.encode(copy, { camel = true, decimal_strings = true, sorted = true }))
    assert.equal(
      text, json.encode(s:check(copy), { camel = true, decimal_strings = true, sorted = true }))
  end)

  it("names places as the caller wrote them", function()
    local e = failure(
      s, border '{"customerData":{},"lineItems":[{"unitPrice":1.5},{"unitPrice":"x"}]}', true)
    assert.equal("customerData.firstName", e.fields[1].path)
    assert.equal("lineItems[1].unitPrice", e.fields[2].path)
    e = failure(s, border '{"customer_data":{"firstName":"A"}}', true)
    assert.matches("unknown field `customer_data`; did you mean `customerData`%?", e.message)
    assert.matches("customerData: is required", e.message)
  end)

  it("keeps {} and [] apart", function()
    assert.matches("must be an array", failure(is.array(is.any), border "{}", true).message)
    assert.matches("must be an object", failure(is.object {}, border "[]", true).message)
  end)
end)

describe("maps and unions", function()
  it("maps take any name", function()
    local m = is.map(is.integer):max(2)
    assert.same({ a = 1, ["b c"] = 2 }, m:check { a = 1, ["b c"] = 2 })
    refuses("x: must be an integer", m, { x = "1" })
    refuses("at most 2 items", m, { a = 1, b = 2, c = 3 })
    refuses("must be an object", m, { 1 }, 5)
    refuses("name that is not text", m, { ["\xff"] = 1 })
  end)

  it("unions take the first that fits", function()
    local u = is.one_of(is.integer, is.object { a = is.string })
    assert.equal(5, u:check(5))
    assert.same({ a = "x" }, u:check { a = "x" })
    refuses("none of the 2 forms", u, "x", { a = 1 }, { b = 1 })
    assert.equal(is.null, is.one_of(is.integer, is.string:nullable()):check(is.null))
  end)
end)

describe("schemas", function()
  it("are immutable", function()
    local a = is.string
    local b = a:max(3):optional()
    assert.equal("12345", a:check "12345")
    assert.is_nil(b:check(nil))
    assert.has_error(function() a.foo = 1 end)
    assert.has_error(function() return is.boolean:min(1) end)
    assert.has_error(function() return is.string:min(-1) end)
    assert.has_error(function() return is.string:pattern("[") end)
    assert.has_error(function() return is.object { a = "string" } end)
    assert.has_error(function() return is.object { a_b = is.any, aB = is.any } end)
    assert.has_error(function() return is.strin end)
  end)

  it("document themselves as JSON Schema", function()
    local s = is.object {
      customer_id = is.uuid:describe "whose deal",
      sale_price = is.decimal:scale(2):min(0):optional(),
      state = is.enum { "A", "B" }:default "A",
      tags = is.array(is.string:max(5)):nullable():optional(),
    }
    local doc = json.decode(json.encode(s:json_schema(), { camel = true, sorted = true }))
    assert.equal("https://json-schema.org/draft/2020-12/schema", doc["$schema"])
    assert.same({ "customerId" }, doc.required)
    assert.is_false(doc.additionalProperties)
    assert.same({ type = "string", format = "uuid", description = "whose deal" },
                doc.properties.customerId)
    assert.equal(0.01, doc.properties.salePrice.multipleOf)
    assert.same({ type = "string", enum = { "A", "B" }, default = "A" }, doc.properties.state)
    assert.equal("null", doc.properties.tags.anyOf[2].type)
    assert.equal(5, doc.properties.tags.anyOf[1].items.maxLength)
    local either = is.object { a = is.any:optional(), b_c = is.any:optional() }:exactly_one("a",
      "b_c"):json_schema()
    assert.equal('[{"oneOf":[{"required":["a"]},{"required":["bC"]}]}]', json.encode(either.allOf))
    for _, schema in ipairs { is.any, is.row, is.boolean, is.email, is.date, is.timestamp,
                              is.number, is.integer,
      is.map(is.any),
      is.one_of(is.integer, is.string) } do
      assert.is_table(schema:json_schema())
    end
  end)
end)
