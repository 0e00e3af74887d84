-- Edges of times, JSON and parameter lists: taken as PostgreSQL takes them, or refused with a
-- message that says what to do.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local is       = require "moonpool.is"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local values   = require "spec.support.data.values"

local unseen, through = values.unseen, values.through

describe("is.timestamp", function()
  it("takes any number of digits of a second, and rounds as PostgreSQL does", function()
    for _, text in ipairs {
      "2024-02-29T13:45:00.1Z", "2024-02-29T13:45:00.1234567Z", "2024-02-29T13:45:00.1234565Z",
      "2024-02-29T13:45:00.1234575+02:00",
      "2024-02-29T13:45:00.123456789Z", "2024-12-31T23:59:59.9999999Z",
      "2024-02-29T13:45:00.999999499Z",
      "2024-02-29t13:45:00.000000100z", "2024-02-29T13:45:00.5+0530", "2024-02-29T13:45:00-08",
      "2016-12-31T23:59:60Z",
      "2024-02-29T13:45:00.0000000000000000000000001Z", "2024-02-29 13:45Z",
      "2024-02-28T23:59:59.99999951-00:30",
      "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-15:59", "0001-01-01T00:00:00+15:59",
      "2024-02-29T24:00:00Z", "2024-12-31T24:00:00.000+01:00", "-000043-03-15T12:00:00+01:00",
      "+012345-01-02T03:04:05.678Z", "infinity", "-infinity",
    } do
      assert.are.equal(db.value(unseen "select $1::timestamptz", text), is.timestamp:check(text),
                       text)
    end
  end)

  it("refuses what is none", function()
    for _, text in ipairs { "2024-02-29T13:45:61Z", "2024-02-29T13:45:60Z", "2024-02-29T13:45:00.Z",
                            "2024-02-29T13:45:00",
                            "2023-02-29T00:00:00Z", "2024-02-29T24:00:01Z" } do
      assert.is_false(pcall(is.timestamp.check, is.timestamp, text), text)
    end
  end)
end)

describe("a year that has not four digits", function()
  it("is read as ISO 8601's expanded form", function()
    local row = db.one [[select '10000-01-01'::date as d, '0044-03-15 BC'::date as bc,
      '0001-01-01 BC'::date as zero,
      '294276-12-31 23:59:59.5Z'::timestamptz as last, '4713-11-24 00:00Z BC'::timestamptz as first,
      '12345-01-02 03:04:05'::timestamp as t]]
    local expected = { "+010000-01-01", "-000043-03-15", "+000000-01-01",
                       "+294276-12-31T23:59:59.5Z", "-004712-11-24T00:00:00Z",
                       "+012345-01-02T03:04:05" }
    assert.are.same(expected, { row.d, row.bc, row.zero, row.last, row.first, row.t })
    assert.are.same(expected,
                    json.decode(
                      (json.encode(json.array { row.d, row.bc, row.zero, row.last, row.first,
                        row.t }))))
    assert.are.equal(row.last, json.decode(json.encode(row)).last)
    assert.are.equal(row.d, json.decode(json.encode(row)).d)
  end)

  it("is taken back by the schemas, whatever a column holds", function()
    for _, kind in ipairs { "date", "timestamptz" } do
      local schema = kind == "date" and is.date or is.timestamp
      local last = kind == "date" and "5874897-12-31" or "294276-12-31 23:59:59.999999Z"
      for _, text in ipairs { "4714-11-24 BC", "4713-01-01 BC", "0001-12-31 BC", "0001-01-01",
                              "9999-12-31", "10000-01-01", last, "infinity", "-infinity" } do
        local read = db.value(("select ($1::text)::%s"):format(kind), text)
        assert.are.equal(read, schema:check(read))
        assert.are.equal(read, through(kind, read))
      end
    end
  end)

  it("goes back as it came", function()
    for type_name, list in pairs {
      date = { "+010000-01-01", "-000043-03-15", "+000000-02-29", "0001-01-01", "9999-12-31" },
      timestamp = { "+012345-01-02T03:04:05.25", "-000001-12-31T23:59:59" },
      timestamptz = { "+294276-12-31T23:59:59.5Z", "-004712-11-24T00:00:00Z", "infinity" },
    } do
      for _, text in ipairs(list) do assert.are.equal(text, through(type_name, text)) end
    end
  end)

  it("is none of infinity's", function()
    assert.are.equal("infinity", db.value "select 'infinity'::timestamptz")
    assert.are.equal('{"d":"-infinity"}', json.encode(db.one "select '-infinity'::date as d"))
  end)
end)

describe("JSON", function()
  it("with a byte order mark is refused with a message that says so", function()
    for _, text in ipairs { "\u{FEFF}{\"a\":1}", "\u{FEFF}" } do
      assert.matches("a byte order mark (U+FEFF): send the text without it",
                     failure(json.decode, text), 1, true)
      assert.matches("a byte order mark", failure(json.raw, text), 1, true)
    end
    assert.are.equal("\u{FEFF}", json.decode '"\\ufeff"')
  end)

  it("of a json column may repeat names: the last one counts, as in jsonb", function()
    local row = db.one [[select '{"a":1,"b":{"c":null,"c":2},"a":3}'::json as j]]
    assert.are.same({ 3, 2 }, { row.j.a, row.j.b.c })
    assert.are.equal('{"j":{"a":3,"b":{"c":2}}}',
                     json.encode(json.decode(json.encode(row)), { sorted = true }))
    assert.is_false(pcall(json.decode, '{"a":1,"a":2}'))
  end)

  it("with U+0000 is refused by is.any with its path, and by jsonb", function()
    local input = is.object { doc = is.any }
    for body, path in pairs { ['{"doc":"a\\u0000"}'] = "doc",
                              ['{"doc":{"list":[1,{"x":"\\u0000"}]}}'] = "doc.list[1].x",
                              ['{"doc":{"a\\u0000":1}}'] = "doc" } do
      local e = failure(input.from_json, input, json.decode(body))
      assert.are.equal("VALIDATION_ERROR", e.code)
      assert.are.equal(path, e.fields[1].path)
      assert.matches("NUL", e.message, 1, true)
    end
    for _, value in ipairs { { a = { "x\0" } }, { ["k\0"] = 1 } } do
      assert.matches("NUL character (U+0000)",
                     tostring(failure(db.value, unseen "select $1::jsonb", value)), 1, true)
    end
    assert.matches("NUL", tostring(failure(db.transaction, function(tx)
      tx:publish("edges", { a = "\0" })
    end)), 1, true)
  end)

  it("keeps or refuses what is odd about numbers and text, and never changes it", function()
    for text, back in pairs { ["-0"] = "0", ["-0.0"] = "-0.0", ["1e400"] = "1" .. ("0"):rep(400),
                              ["18446744073709551616"] = "18446744073709551616",
                      ["-9223372036854775808"] = "-9223372036854775808", ["1E-2"] = "0.01" } do
      assert.are.equal(back, json.encode(json.decode(text)))
    end
    for _, text in ipairs { "1e1000000000", '"\\ud800"', '"\\udc00\\ud800"', "01", "+1", "NaN",
                            "Infinity", "-", "1." } do
      assert.is_false(pcall(json.decode, text), text)
    end
  end)
end)

describe("parameters", function()
  it("may be as many as the protocol has", function()
    local list, marks = {}, {}
    for i = 1, 20000 do list[i], marks[i] = i, ("$%d::int"):format(i) end
    local sum = db.value("select sum(i) from (values (" .. table.concat(marks, "), (")
                         .. ")) v (i)", table.unpack(list))
    assert.are.equal(20000 * 20001 // 2, sum)
  end)

  it("beyond that are an error that tells the way out", function()
    local e = failure(db.value, "select $65536::int", 1)
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.matches("65535", e.message, 1, true)
    assert.matches("unnest", e.message, 1, true)
    local names, input = {}, {}
    for i = 1, 1601 do names[i], input["n" .. i] = "$n" .. i, i end
    e = failure(db.value, "select concat(" .. table.concat(names, ", ") .. ")", input)
    assert.matches("more than 1600 named parameters: number them", e.message, 1, true)
  end)
end)

describe("a time", function()
  it("goes in as it came", function()
    assert.are.equal("2024-02-29T13:45:00.123457Z",
                     through("timestamptz", is.timestamp:check "2024-02-29T13:45:00.1234567Z"))
    assert.is_string(moonpool.now())
  end)
end)
