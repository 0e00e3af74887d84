-- Types: what a value of Lua becomes in the database and back, and what is refused because it
-- cannot.
local db       = require "moonpool.db"
local decimal  = require "moonpool.decimal"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local values   = require "spec.support.data.values"

local null = moonpool.null

local unseen, through, stored, refusal = values.unseen, values.through, values.stored,
  values.refusal

describe("type", function()
  describe("integer", function()
    for type_name, limits in pairs {
      int2 = { -32768, 32767 }, int4 = { -2147483648, 2147483647 },
      int8 = { math.mininteger, math.maxinteger },
    } do
      it(type_name .. " to its limits", function()
        for _, value in ipairs { 0, 1, -1, limits[1], limits[2] } do
          local back = through(type_name, value)
          assert.are.equal("integer", math.type(back))
          assert.are.equal(value, back)
          assert.are.equal(("%d"):format(value), stored(type_name, value))
        end
      end)
    end

    it("beyond its limits is an error", function()
      for type_name, value in pairs { int2 = 32768, int4 = 2147483648,
                                      int8 = "9223372036854775808" } do
        local e = refusal(unseen(("select $1::%s"):format(type_name)), value)
        assert.are.equal("22003", e.sqlstate)
      end
    end)

    it("as text", function()
      assert.are.equal(42, through("int4", "42"))
      assert.are.equal("22P02", refusal(unseen "select $1::int4", "four").sqlstate)
    end)

    it("a fraction is not rounded away", function()
      assert.is_truthy(refusal(unseen "select $1::int4", 1.5))
    end)

    it("oid", function()
      assert.are.equal(4294967295, db.value "select 4294967295::oid")
    end)
  end)

  describe("float", function()
    it("float8 is a number, exactly", function()
      for _, value in ipairs { 0.0, 0.1, -1.5, 1e300, 5e-324, 1.7976931348623157e308, 0.1 + 0.2,
                               2.0 ^ 53 } do
        local back = through("float8", value)
        assert.are.equal("float", math.type(back))
        assert.are.equal(value, back)
      end
    end)

    it("float4", function()
      assert.are.equal(0.25, through("float4", 0.25))
    end)

    it("an integer may be given", function()
      assert.are.equal(3.0, through("float8", 3))
    end)

    it("the server's infinity and NaN are Lua's", function()
      assert.are.equal(math.huge, db.value "select 'Infinity'::float8")
      assert.are.equal(-math.huge, db.value "select '-Infinity'::float8")
      local nan = db.value "select 'NaN'::float8"
      assert.is_true(nan ~= nan)
    end)

    it("infinity and NaN of Lua are refused", function()
      for _, value in ipairs { math.huge, -math.huge, 0 / 0 } do
        local e = refusal(unseen "select $1::float8", value)
        assert.are.equal("INVALID_ARGUMENT", e.code)
        assert.matches("$1", e.message, 1, true)
      end
    end)
  end)

  describe("numeric", function()
    it("is a decimal, exactly, scale and all", function()
      for _, text in ipairs { "0", "0.00", "28500.00", "-0.01",
                              "123456789012345678901234567890.123456789",
                              "0.1000000000000000055511151231257827",
                              ("9"):rep(500) .. "." .. ("9"):rep(400) } do
        local back = through("numeric", decimal(text))
        assert.is_true(decimal.is(back))
        assert.are.equal(text, tostring(back))
        assert.are.equal(text, stored("numeric", decimal(text)))
      end
    end)

    it("may be given as text, integer or float", function()
      assert.are.equal("28500.00", tostring(through("numeric(12,2)", "28500")))
      assert.are.equal("7.00", tostring(through("numeric(12,2)", 7)))
      assert.are.equal("0.1", tostring(through("numeric", 0.1)))
      assert.are.equal("100000000000000000000", tostring(through("numeric", 1e20)))
    end)

    it("calculates in Lua as in the database", function()
      assert.are.equal(
        "0.30", tostring(db.value "select 0.10::numeric" + db.value "select 0.20::numeric"))
    end)
  end)

  describe("bool", function()
    it("both ways", function()
      assert.is_true(through("bool", true))
      assert.is_false(through("bool", false))
      assert.is_nil(through("bool", nil))
    end)
  end)

  describe("text", function()
    for what, value in pairs {
      ["quotes"]             = [[it's "quoted" and \escaped\]],
      ["what looks like SQL"] = "'; drop table deals; --",
      ["what looks like a parameter"] = "$1 $name $$ $x$",
      ["unicode"]            = "naïve 漢字 🚗 e\u{301}",
      ["nothing"]            = "",
      ["blanks"]             = " \t\n\r ",
      ["braces and commas"]  = "{a,b,NULL}",
      ["a long one"]         = ("x"):rep(1000000),
      ["control characters"] = "\1\2\31\127",
    } do
      it("with " .. what, function()
        for _, type_name in ipairs { "text", "varchar" } do
          assert.are.equal(value, through(type_name, value))
        end
        assert.are.equal(value, db.value(unseen "select $value::text", { value = value }))
      end)
    end

    it("from a number and a decimal", function()
      assert.are.equal("42", through("text", 42))
      assert.are.equal("28500.00", through("text", decimal "28500.00"))
    end)

    it("with a NUL is refused", function()
      local e = refusal(unseen "select $1::text", "a\0b")
      assert.are.equal("INVALID_ARGUMENT", e.code)
      assert.is_truthy(e.message:find("NUL", 1, true), e.message)
      assert.are.equal("INVALID_ARGUMENT",
                       refusal(unseen "select $name::text", { name = "a\0b" }).code)
    end)

    it("that is no UTF-8 is refused", function()
      for _, value in ipairs { "\255", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80" } do
        local e = refusal(unseen "select $1::text", value)
        assert.are.equal("INVALID_ARGUMENT", e.code)
        assert.is_truthy(e.message:find("UTF-8", 1, true), e.message)
      end
    end)

    it("char(n) comes with its blanks", function()
      assert.are.equal("ab ", db.value "select 'ab'::char(3)")
    end)

    it("of types without a form of their own", function()
      assert.are.equal("P1DT2H", db.value "select interval '1 day 2 hours'")
      assert.are.equal("P1DT2H", through("interval", "1 day 2 hours"))
      assert.are.equal("192.168.0.1/32", db.value "select '192.168.0.1'::inet::cidr")
      assert.are.equal("[1,5)", through("int4range", "[1,5)"))
    end)
  end)

  describe("uuid", function()
    it("both ways, in lower case", function()
      local id = moonpool.uuid()
      assert.are.equal(id, through("uuid", id))
      assert.are.equal(id, through("uuid", id:upper()))
    end)

    it("malformed is an error", function()
      assert.are.equal("22P02", refusal(unseen "select $1::uuid", "42").sqlstate)
    end)
  end)

  describe("date and time", function()
    it("date", function()
      assert.are.equal("2026-02-28", through("date", "2026-02-28"))
      assert.is_truthy(refusal(unseen "select $1::date", "2026-02-30"))
    end)

    it("timestamptz is ISO 8601 in UTC", function()
      for given, expected in pairs {
        ["2026-11-23T18:09:27.123456Z"]   = "2026-11-23T18:09:27.123456Z",
        ["2026-11-23T18:09:27.5Z"]        = "2026-11-23T18:09:27.5Z",
        ["2026-11-23T18:09:27Z"]          = "2026-11-23T18:09:27Z",
        ["2026-01-01T00:00:00+05:30"]     = "2025-12-31T18:30:00Z",
        ["2026-07-01 12:00:00-04"]        = "2026-07-01T16:00:00Z",
        ["0001-01-01T00:00:00Z"]          = "0001-01-01T00:00:00Z",
        ["9999-12-31T23:59:59.999999Z"]   = "9999-12-31T23:59:59.999999Z",
      } do
        assert.are.equal(expected, through("timestamptz", given))
      end
    end)

    it("moonpool.now() goes in and comes back", function()
      local now = moonpool.now()
      assert.is_true(db.value(unseen "select $1::timestamptz = $2::timestamptz", now,
                              through("timestamptz", now)))
    end)

    it("timestamp has no zone", function()
      assert.are.equal("2026-11-23T18:09:27", through("timestamp", "2026-11-23T18:09:27"))
    end)

    it("beyond what ISO 8601 can say is an error, not a wrong date", function()
      for _, sql in ipairs { "select 'infinity'::timestamptz as t",
                             "select '0044-03-15 BC'::timestamptz as t" } do
        local ok, value = pcall(function() return db.one(sql).t end)
        assert.is_true(not ok or not tostring(value):match "^%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z$",
                       tostring(value))
      end
    end)
  end)

  describe("json", function()
    for _, type_name in ipairs { "json", "jsonb" } do
      it(type_name .. " both ways, exactly", function()
        for _, text in ipairs {
          "{}", "[]", "[[], {}]", '{"a": null}', "[null]",
          '{"a": {"b": [1, 2.5, "x", true, false, null]}}',
          '{"n": 9223372036854775807}', '{"n": -9223372036854775808}',
          '{"n": 18446744073709551616}',
          '{"n": 3.14159265358979323846}', '{"n": 0.1}', '{"n": 123456789012345678901234567890.5}',
          [[{"s": "it's \"quoted\" \\ \n 漢字 🚗"}]], '{"": 1}', '{"$1": "$name"}',
          '{"customerId": {"snake_case": 1}}',
          '{"1": "text key"}',
        } do
          local sql = ("select $text::text::%s as v"):format(type_name)
          local value = db.value(sql, { text = text })
          assert.are.equal("table", type(value))
          local back = db.value(unseen(("select $1::%s::jsonb::text"):format(type_name)), value)
          assert.are.equal(db.value("select $1::jsonb::text", json.raw(text)), back)
          back = db.value(unseen(("select $v::%s::jsonb::text"):format(type_name)), { v = value })
          assert.are.equal(db.value("select $1::jsonb::text", json.raw(text)), back)
        end
      end)

      it(type_name .. " of what scripts make", function()
        local value = through(type_name, { name = "x", price = decimal "28500.00",
                                           list = { 1, 2, 3 }, none = null,
                                           empty = json.array {}, deep = { deeper = { true } } })
        assert.are.equal("28500.00", tostring(value.price))
        assert.are.same({ 1, 2, 3 }, { table.unpack(value.list) })
        assert.are.equal(null, value.none)
        assert.is_true(json.is_array(value.empty))
        assert.is_true(value.deep.deeper[1])
      end)

      it(type_name .. " keeps the digits of a decimal", function()
        assert.are.equal("28500.00", db.value(("select $1::%s ->> 'price'"):format(type_name),
                                              { price = decimal "28500.00" }))
      end)

      it(type_name .. " of an array", function()
        local value = through(type_name, { { sku = "a" }, { sku = "b" } })
        assert.are.equal("b", value[2].sku)
        assert.are.equal("[]", stored(type_name, json.array {}))
      end)

      it(type_name .. " scalars come as what they are", function()
        assert.are.equal("text", db.value(("select '\"text\"'::%s"):format(type_name)))
        assert.are.equal(7, db.value(("select '7'::%s"):format(type_name)))
        assert.are.equal(null, db.value(("select 'null'::%s"):format(type_name)))
        assert.is_nil(db.value(("select null::%s"):format(type_name)))
      end)
    end

    it("two looks at a column give the same table, and another row another one", function()
      local rows = db.query "select '{\"a\": 1}'::jsonb as j from generate_series(1, 2)"
      assert.is_true(rawequal(rows[1].j, rows[1].j))
      assert.is_false(rawequal(rows[1].j, rows[2].j))
    end)

    it("what is no JSON is refused, with its path", function()
      for _, value in ipairs { { f = print }, { n = 0 / 0 }, { s = "\255" },
                               { 1, [3] = 3, x = 1 } } do
        local e = refusal("select $1::jsonb", value)
        assert.is_truthy(tostring(e))
      end
      local circle = {}
      circle.circle = circle
      assert.is_truthy(refusal("select $1::jsonb", circle))
    end)

    it("a row as json", function()
      local row = db.one "select 1 as a, 'x' as b, 1.50 as c"
      local back = db.value(unseen "select $1::jsonb", row)
      assert.are.same({ 1, "x" }, { back.a, back.b })
    end)
  end)

  describe("array", function()
    local function items(array)
      return { table.unpack(array) }
    end

    for type_name, list in pairs {
      ["int4[]"] = { 1, -2, 2147483647 },
      ["int8[]"] = { math.mininteger, math.maxinteger },
      ["int2[]"] = { 1 },
      ["float8[]"] = { 0.5, -1e300 },
      ["bool[]"] = { true, false, true },
      ["text[]"] = { "plain", "", "with,comma", '"quoted"', "back\\slash", "{braces}", "NULL",
                     "null", " blanks ", "漢字",
                     "it's", "$1", "line\nfeed" },
      ["varchar[]"] = { "a", "b" },
      ["uuid[]"] = { "0197a1f0-0000-7000-8000-000000000001" },
      ["date[]"] = { "2026-02-28", "2026-03-01" },
      ["timestamptz[]"] = { "2026-11-23T18:09:27.5Z" },
      ["bytea[]"] = { "\0\1\255", "" },
    } do
      it(type_name .. " both ways", function()
        assert.are.same(list, items(through(type_name, list)))
        assert.are.equal(
          #list, db.value(unseen(("select cardinality($list::%s)"):format(type_name)),
                          { list = list }))
      end)
    end

    it("numeric[]", function()
      local back = through("numeric[]", { decimal "1.10", "2.20", 3 })
      assert.are.same({ "1.10", "2.20", "3" },
                      { tostring(back[1]), tostring(back[2]), tostring(back[3]) })
    end)

    it("jsonb[]", function()
      local back = through("jsonb[]", { { a = 1 }, { a = { b = "c,\"d\"" } } })
      assert.are.equal(1, back[1].a)
      assert.are.equal('c,"d"', back[2].a.b)
    end)

    it("empty", function()
      local back = through("int4[]", {})
      assert.are.equal(0, #back)
      assert.is_true(json.is_array(back))
      assert.are.equal("{}", stored("text[]", {}))
    end)

    it("with NULLs, which are moonpool.null", function()
      local back = through("int4[]", { 1, null, 3, null })
      assert.are.same({ 1, null, 3, null }, items(back))
      assert.are.equal("{NULL}", stored("text[]", { null }))
      assert.are.equal('{"NULL"}', stored("text[]", { "NULL" }))
    end)

    it("of two dimensions", function()
      local back = through("int4[]", { { 1, 2 }, { 3, 4 }, { 5, 6 } })
      assert.are.equal(3, #back)
      assert.are.same({ 5, 6 }, items(back[3]))
      assert.are.equal("{{a,b},{c,d}}", stored("text[]", { { "a", "b" }, { "c", "d" } }))
    end)

    it("with bounds of its own", function()
      assert.are.same({ 7, 8 }, items(db.value "select '[5:6]={7,8}'::int4[]"))
    end)

    it("as text that looks like one", function()
      assert.are.same({ 1, 2 }, items(through("int4[]", "{1,2}")))
    end)

    it("in `any`", function()
      local sql = unseen "select count(*) from generate_series(1, 10) i where i = any($1)"
      assert.are.equal(2, db.value(sql, { 3, 4, 11 }))
      assert.are.equal(0, db.value(sql, {}))
    end)

    it("with a wrong element is an error", function()
      assert.is_truthy(refusal(unseen "select $1::int4[]", { 1, "two" }))
      assert.is_truthy(refusal(unseen "select $1::text[]", { print }))
      assert.is_truthy(refusal(unseen "select $1::text[]", { "a\0b" }))
    end)

    it("with a hole is an error, not a shorter array", function()
      local list = { 1, 2, 3, 4 }
      list[2] = nil
      local ok, value = pcall(db.value, unseen "select $1::int4[]", list)
      assert.is_true(not ok or #value == 4, "elements were lost")
    end)

    it("with names is an error", function()
      assert.is_truthy(refusal(unseen "select $1::int4[]", { a = 1 }))
    end)

    it("a table for any other type is an error that names the parameter", function()
      local e = refusal(unseen "select $list::int4", { list = { 1 } })
      assert.are.equal("INVALID_ARGUMENT", e.code)
      assert.is_truthy(e.message:find("$list", 1, true), e.message)
    end)

    for what, value in pairs { ["an object"] = { a = 1 }, ["a list"] = { 1, 2 },
                               ["a list of JSON"] = json.array { 1, 2 },
                               ["a list of objects"] = { { a = 1 } } } do
      it(what .. " for text is an error, whether the type is known or not", function()
        local function refused(sql)
          local inside, outside = unseen(sql), unseen(sql)
          for _, knowledge in ipairs { "cold", "warm" } do
            local ok, got = pcall(db.transaction, function(tx) return tx:value(inside, value) end)
            assert.is_false(ok, ("%s, in a transaction: %s"):format(knowledge, got))
            ok, got = pcall(db.value, outside, value)
            assert.is_false(ok, ("%s, outside: %s"):format(knowledge, got))
          end
        end
        refused "select $1::text"
        refused "select $1::uuid"
      end)
    end

    it("needs no retry to find out its type", function()
      for _, value in ipairs { { 1, 2 }, { { 1, 2 }, { 3, 4 } }, json.array { 1, 2 },
                               json.decode "[[1,2],[3,4]]" } do
        local sql = unseen "select $1::int4[]"
        local back = db.transaction({ retries = 0 }, function(tx) return tx:value(sql, value) end)
        assert.are.equal(#value, #back)
      end
    end)

    it("NULL as a whole", function()
      assert.is_nil(through("int4[]", nil))
      assert.is_nil(db.value(unseen "select $a::text[]", { a = null }))
    end)
  end)

  describe("bytea", function()
    it("both ways, any byte", function()
      local all = {}
      for i = 0, 255 do all[#all + 1] = string.char(i) end
      for _, value in ipairs { table.concat(all), "\0", "", "plain", "\\x41", "\255\254",
                               ("\0\1"):rep(100000) } do
        assert.are.equal(#value, db.value(unseen "select length($1::bytea)", value))
        assert.are.equal(value, through("bytea", value))
      end
    end)

    it("by $name", function()
      assert.are.equal("a\0b", db.value(unseen "select $data::bytea", { data = "a\0b" }))
    end)
  end)

  describe("an error of class 22", function()
    local secret = "078-05-1120"

    for what, case in pairs {
      ["integer"] = { "select $1::int4", "22P02" }, ["uuid"] = { "select $1::uuid", "22P02" },
      ["numeric"] = { "select $1::numeric", "22P02" }, ["bool"] = { "select $1::bool", "22P02" },
      ["date"] = { "select $1::date", "22" }, ["timestamptz"] = { "select $1::timestamptz", "22" },
      ["json"] = { "select ($1::text || 'x')::json", "22P02" },
      ["text cast inside"] = { "select ($1::text)::int4", "22P02" },
      ["array"] = { "select $1::int4[]", "22P02" },
    } do
      it("does not repeat the value of a " .. what, function()
        for _, value in ipairs { secret, ('"%s"'):format(secret), ("x'%s'"):format(secret),
                                 "one\n" .. secret } do
          local e = refusal(unseen(case[1]), value)
          if e.sqlstate then
            assert.are.equal(case[2], e.sqlstate:sub(1, #case[2]))
            assert.is_nil(e.message:find(secret, 1, true), e.message)
            assert.is_nil(tostring(e):find(secret, 1, true), tostring(e))
            assert.is_truthy(#e.message > 10)
          end
        end
      end)
    end

    it("still says what was wrong", function()
      assert.is_truthy(refusal(unseen "select $1::uuid", secret).message:find("uuid", 1, true))
    end)
  end)
end)
