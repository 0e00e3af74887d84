-- Strict reading, exact writing, and the respelling of names at the border.
local json = require "moonpool.json"
local decimal = require "moonpool.decimal"

local function refuses(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok, "expected an error")
  assert.matches(pattern, message)
end

local function round(text) return json.encode(json.decode(text), { sorted = true }) end

describe("json.decode", function()
  it("keeps arrays, objects and null apart", function()
    for _, text in ipairs { "[]", "{}", "null", "[[],{}]", '{"a":null,"b":[]}', "true", "false",
                            '""', "0" } do
      assert.equal(text, round(text))
    end
    assert.is_true(json.is_array(json.decode "[]"))
    assert.is_false(json.is_array(json.decode "{}"))
    assert.equal(json.null, json.decode "null")
  end)

  it("keeps integers of 64 bits", function()
    assert.equal(math.maxinteger, json.decode "9223372036854775807")
    assert.equal(math.mininteger, json.decode "-9223372036854775808")
    assert.equal("integer", math.type(json.decode "-0"))
  end)

  it("gives a float only where nothing is lost", function()
    for text, value in pairs { ["1.5"] = 1.5, ["0.1"] = 0.1, ["28500.00"] = 28500.0,
                               ["1e2"] = 100.0, ["12.5e-1"] = 1.25,
      ["1e300"] = 1e300, ["0.30000000000000004"] = 0.1 + 0.2,
      ["123456789012345.6"] = 123456789012345.6,
      ["1.7976931348623157e308"] = 1.7976931348623157e308, ["0.00001"] = 1e-5,
      ["100.0010"] = 100.001 } do
      local v = json.decode(text)
      assert.equal("float", math.type(v), text)
      assert.equal(value, v)
    end
    for _, text in ipairs { "9223372036854775808", "3.14159265358979323846",
                            "0.1000000000000000055511151231257827" } do
      assert.is_true(decimal.is(json.decode(text)), text)
      assert.equal(text, tostring(json.decode(text)))
    end
    assert.is_true(decimal.is(json.decode "1e400"))
    assert.is_true(decimal.is(json.decode "1e-400"))
  end)

  it("gives decimals with their own digits where asked to", function()
    local v = json.decode("[28500.00,1.50,7,1e2,-0.10,18446744073709551616]", { decimals = true })
    local texts = {}
    for i, x in ipairs(v) do texts[i] = tostring(x) end
    assert.same({ "28500.00", "1.50", "7", "100", "-0.10", "18446744073709551616" }, texts)
    assert.equal("integer", math.type(v[3]))
    assert.is_true(decimal.is(v[4]))
    refuses("line 1, column 2: the number has more than 1000 digits", json.decode, "[1e999999]",
            { decimals = true })
    refuses("1000 digits", json.decode, "1e99999999999999999999")
    refuses("1000 digits", json.decode, ("9"):rep(2000))
  end)

  it("refuses what the grammar does not know", function()
    for _, text in ipairs {
      "", " ", "nul", "tru", "NaN", "Infinity", "-", "01", "-01", "1.", ".5", "+1", "0x10", "1e",
      "1e+", "[1,]", "[,1]",
        "[1 2]",
      "[1", "]", "{", '{"a"}', '{"a":}', '{"a":1,}', "{,}", "{1:2}", "{'a':1}", "{a:1}", '"abc',
      '"\\x"', '"\\u12"', '"\\',
      "[1]x", "[1] [2]", "1 2", "[1/*c*/]", "// c\n1", "\xef\xbb\xbf1", '"a\nb"', '"a\tb"', '"\1"',
      "[\v1]", "[\f1]", "1\0",
        "\0",
      "[1]\0", "undefined", "[\xc2\xa01]" } do
      refuses("json: line %d+, column %d+: .", json.decode, text)
    end
    refuses("string expected", json.decode, nil)
    refuses("string expected", json.decode, 12)
  end)

  it("refuses names that occur twice, also when escaped differently", function()
    refuses('twice in one object: "a"', json.decode, '{"a":1,"a":2}')
    refuses("twice", json.decode, '{"a":null,"a":null}')
    refuses("twice", json.decode, '{"a":1,"\\u0061":2}')
    refuses("twice", json.decode, '[{"x":{"b":1,"c":[{}],"b":{}}}]')
    assert.equal('{"a":{"a":1},"b":[{"a":1},{"a":2}]}', round '{"a":{"a":1},"b":[{"a":1},{"a":2}]}')
  end)

  it("refuses invalid UTF-8 and lone surrogates", function()
    for _, bytes in ipairs { "\xff", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80",
                             "\xed\xbf\xbf",
      "\xf0\x80\x80\x80",
      "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98",
      "aaaaaaaaaaaaaaaa\xc3(" } do
      refuses("invalid UTF%-8", json.decode, '"' .. bytes .. '"')
      refuses("invalid UTF%-8", json.decode, '{"' .. bytes .. '":1}')
    end
    for _, escape in ipairs { "\\ud800", "\\udc00", "\\uDFFF", "\\ud800\\u0041", "\\ud800x",
                              "\\ud83d\\ud83d\\ude00",
      "\\\\\\ud800" } do
      refuses("surrogate", json.decode, '"' .. escape .. '"')
    end
    assert.equal("\u{1F600}", json.decode '"\\ud83d\\ude00"')
    assert.equal("\\ud800", json.decode '"\\\\ud800"')
    assert.equal("é€\u{10FFFF}\u{D7FF}\u{E000}", json.decode '"é€\u{10FFFF}\u{D7FF}\u{E000}"')
    assert.equal("a\0b", json.decode '"a\\u0000b"')
    assert.equal('\b\f\n\r\t"\\/', json.decode '"\\b\\f\\n\\r\\t\\"\\\\\\/"')
  end)

  it("tells line and column", function()
    refuses("line 3, column 4: ", json.decode, '{"a":\n  [1,\n 2 3]}')
    refuses("line 2, column 3: half of a surrogate", json.decode, '[\n"é\\ud800"]')
    refuses("line 2, column 2: invalid UTF%-8", json.decode, '[\n"\xff"]')
    refuses("line 1, column 1: ", json.decode, "x")
  end)

  it("limits depth and size", function()
    assert.equal(("["):rep(64) .. ("]"):rep(64), round(("["):rep(64) .. ("]"):rep(64)))
    refuses("deeper than 64", json.decode, ("["):rep(65) .. ("]"):rep(65))
    refuses("deeper than 64", json.decode, ("["):rep(1000000))
    refuses("deeper than 64", json.decode, ('{"a":'):rep(1000000))
    refuses("limit is 16777216", json.decode, '"' .. ("x"):rep(16 << 20) .. '"')
    refuses("limit is 4", json.decode, "[1,2]", { max_bytes = 4 })
    assert.same({ 1, 2 }, json.decode("[1,2]", { max_bytes = 5 }))
    refuses("unknown option", json.decode, "1", { decimal = true })
  end)

  it("survives mangled texts and reads back what it writes", function()
    math.randomseed(7)
    local seed = '{"a":[1,-2.50,1e5,"x\\u00e9\\ud83d\\ude00\\n"],"b":{"c":null,"d":[true,false,{}],'
      .. '"é":""},"n":12345678901234567890}'
    local alphabet = '{}[],:"\\u0123456789abdeEtrfalsn.+- \n\xff\xc3\xa9'
    local accepted = 0
    for _ = 1, 20000 do
      local bytes = { seed:byte(1, -1) }
      for _ = 1, math.random(1, 4) do
        local at, what, k = math.random(#bytes), math.random(3), math.random(#alphabet)
        if what == 1 then bytes[at] = alphabet:byte(k)
        elseif what == 2 then table.remove(bytes, at)
        else table.insert(bytes, at, alphabet:byte(k)) end
      end
      local ok, v = pcall(json.decode, string.char(table.unpack(bytes)))
      if ok then
        accepted = accepted + 1
        local once = json.encode(v, { sorted = true })
        assert.equal(once, round(once))
      else
        assert.matches("^json: line %d+, column %d+: .", v)
      end
    end
    assert.is_true(accepted > 500)
  end)
end)

describe("json.encode", function()
  it("writes the shortest text of a float, as the C library does", function()
    local function shortest(value)
      local whole = value == math.floor(value) and math.abs(value) < 1e15
      if whole then return ("%.1f"):format(value) end
      for digits = 15, 17 do
        local text = ("%%.%dg"):format(digits):format(value)
        if tonumber(text) == value then return text:find "[.e]" and text or text .. ".0" end
      end
    end
    local seed = tonumber(os.getenv "MP_SEED") or 7
    math.randomseed(seed)
    local function try(value)
      assert.equal(shortest(value), json.encode(value), "MP_SEED=" .. seed)
    end
    for _, value in ipairs { 0.0, -0.0, 1e15, 1e15 - 0.5, 1e-4, 9.9e-5, 0.1 + 0.2, 5e-324 } do
      try(value)
    end
    for _ = 1, 3000 do
      local digits = math.random(0, math.tointeger(10 ^ math.random(0, 15)))
      local value = digits / 10.0 ^ math.random(0, 8)
      try(-value)
      try(value + value * 2.0 ^ -52)
      try(math.random() * 10.0 ^ math.random(-8, 18))
    end
  end)

  it("writes numbers exactly", function()
    for _, case in ipairs { { 3.0, "3.0" }, { 0.1, "0.1" }, { 1e300, "1e+300" },
                            { 1 / 3, "0.3333333333333333" },
      { 2.0 ^ 53, "9007199254740992.0" }, { 5e-324, "4.94065645841247e-324" },
      { 123456.789, "123456.789" }, { 1e15,
        "1e+15" } } do
      assert.equal(case[2], json.encode(case[1]))
    end
    assert.equal("-0.0", json.encode(-0.0))
    assert.equal("9223372036854775807", json.encode(math.maxinteger))
    assert.equal("-9223372036854775808", json.encode(math.mininteger))
    math.randomseed(3)
    for _ = 1, 5000 do
      local v = string.unpack("d", string.pack("i8", math.random(0)))
      if v == v and v ~= math.huge and v ~= -math.huge then
        local text = json.encode(v)
        assert.equal(v, tonumber(text))
        assert.equal("float", math.type(tonumber(text)))
      end
    end
  end)

  it("writes decimals as numbers or as strings", function()
    local v = { price = decimal "28500.00" }
    assert.equal('{"price":28500.00}', json.encode(v))
    assert.equal('{"price":"28500.00"}', json.encode(v, { decimal_strings = true }))
  end)

  it("escapes strings", function()
    assert.equal([["\"\\\b\f\n\r\t\u0000\u001f/é"]], json.encode('"\\\b\f\n\r\t\0\31/é'))
    assert.equal('"\127"', json.encode "\127")
  end)

  it("tells arrays from objects", function()
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array()))
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("{}", json.encode(json.object()))
    assert.equal("[1,2]", json.encode { 1, 2 })
    assert.equal("[null]", json.encode { json.null })
    assert.equal("[]", json.encode(setmetatable({}, json.array_mt)))
    local backwards = {}
    for i = 5, 1, -1 do backwards[i] = i end
    assert.equal("[1,2,3,4,5]", json.encode(backwards))
  end)

  it("refuses with the path of the value", function()
    refuses("^%$%.items%[3%]%.x: a function cannot be JSON", json.encode,
            { items = { 1, 2, { x = print } } })
    refuses('^%$%.a%["b c"%]: a number that is NaN', json.encode, { a = { ["b c"] = 0 / 0 } })
    refuses("^%$: a number that is NaN or infinite", json.encode, math.huge)
    refuses("^%$%.s: a string that is not valid UTF%-8", json.encode, { s = "\xff" })
    refuses("not valid UTF%-8", json.encode, { ["\xff"] = 1 })
    refuses("^%$%[1%]: a thread", json.encode, { coroutine.create(print) })
    refuses("a FILE%* cannot be JSON", json.encode, io.stdout)
    refuses("positions and names", json.encode, { 1, 2, n = 2 })
    refuses("positions and names", json.encode, { [1.5] = 1 })
    refuses("with holes", json.encode, { [1] = 1, [3] = 3 })
    refuses("with holes", json.encode, { [2] = 1 })
    refuses("with holes", json.encode, { [math.mininteger] = 1 })
    refuses("positions and names", json.encode, json.array { x = 1 })
    refuses("positions and names", json.encode, json.object { 1 })
    refuses("not a string", json.encode, { [true] = 1 })
    local cycle = { a = {} }
    cycle.a.b = { cycle }
    refuses("%$%.a%.b%[1%]: the table contains itself", json.encode, cycle)
    local deep = {}
    local at = deep
    for _ = 1, 64 do at.x = {} at = at.x end
    refuses("deeper than 64", json.encode, deep)
    refuses("unknown option", json.encode, {}, { prety = true })
  end)

  it("works again after an error, and from a finalizer", function()
    assert.is_false(pcall(json.encode, { "kept?", print }))
    assert.equal("[1]", json.encode { 1 })
    local inner
    setmetatable({}, { __gc = function() inner = json.encode { "inner" } end })
    local big = {}
    for i = 1, 2000 do big[i] = { "item " .. i } end
    collectgarbage("incremental", 100, 1000)
    local text = json.encode(big, { sorted = true })
    collectgarbage()
    assert.equal('["inner"]', inner)
    assert.equal(text, round(text))
    collectgarbage("incremental", 200, 100)
  end)

  it("prints for people", function()
    assert.equal('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": [],\n  "c": {\n    "d": null\n  }\n}',
      json.encode({ c = { d = json.null }, b = json.array(), a = { 1, {} } }, { pretty = true }))
    assert.equal('{"a":1,"aa":2,"b":3}', json.encode({ b = 3, aa = 2, a = 1 }, { sorted = true }))
    assert.equal("{}", json.encode({}, { sorted = true }))
    assert.equal('[{},[{}],1]', json.encode({ {}, { {} }, 1 }, { sorted = true }))
  end)

  it("respells names at the border, but not those that are data", function()
    local camel = { camel = true, sorted = true }
    assert.equal('{"customerData":{"firstName":"A"},"list":[{"aB":1}]}',
      json.encode({ customer_data = { first_name = "A" }, list = { { a_b = 1 } } }, camel))
    assert.equal('{"metaData":{"trim_level":{"sub_name":[{"x_y":1}]}}}',
      json.encode({ meta_data = json.raw { trim_level = { sub_name = { { x_y = 1 } } } } }, camel))
    assert.equal('{"m":{"key_one":{"aB":1}}}',
                 json.encode({ m = json.map { key_one = { a_b = 1 } } }, camel))
    local raw = json.decode('{"a_b":[{"c_d":1}]}', { raw = true })
    assert.equal('{"subData":{"c_d":1}}', json.encode({ sub_data = raw.a_b[1] }, camel))
    refuses("same name in snake_case", json.encode, { a_b = 1, aB = 2 }, { camel = true })
    assert.equal('{"NEW":1,"_x":2,"a__b":3,"x y":4}',
                 json.encode({ NEW = 1, _x = 2, a__b = 3, ["x y"] = 4 }, camel))
  end)
end)

describe("names", function()
  it("come back as they were", function()
    for snake, camel in pairs { customer_id = "customerId", line_2 = "line_2", line2 = "line2",
                                a_b_c = "aBC", a_2b_c = "a_2bC",
      id = "id", msrp_2024_usd = "msrp_2024Usd", a1_b2 = "a1B2" } do
      assert.equal(camel, json.camel(snake))
      assert.equal(snake, json.snake(camel))
    end
    for _, other in ipairs { "", "_x", "x_", "a__b", "A", "x y", "é", "1a", "A_B" } do
      assert.equal(other, json.camel(other))
      assert.equal(other, json.snake(other))
    end
  end)

  it("marks refuse tables that have a metatable", function()
    refuses("metatable", json.array, setmetatable({}, { __index = {} }))
    refuses("table expected", json.array, "x")
    assert.equal(5, json.raw(5))
    assert.is_true(json.is_array { 1 })
    assert.is_false(json.is_array "x")
  end)
end)
