-- A string that is given to json or jsonb is a JSON string, whatever it looks like; text that is
-- JSON already is json.raw(text).
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local is       = require "moonpool.is"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local strings = { "hello", "5", "5.0", "true", "null", '"quoted"', '{"admin":true}', "[1,2]", "",
                  " ", "{", "\\", "it's",
                  "a\nb\tc", "漢字 🚗", "$1", "NaN", "Infinity",
                  "0197a1f0-0000-7000-8000-000000000001" }

local serial = 0
local function unseen(sql)
  serial = serial + 1
  return ("%s /* json %d */"):format(sql, serial)
end

describe("a string for json", function()
  local schema
  setup(function()
    schema = scratch.schema("json_values", {
      [[create table json_values.docs (id integer generated always as identity primary key,
        doc jsonb, plain json, docs jsonb[],
                                       t text)]],
    })
  end)
  teardown(function() schema.drop() end)

  it("stays a string, at the first use of a text as at the next", function()
    for _, type_name in ipairs { "json", "jsonb" } do
      for _, text in ipairs(strings) do
        local sql = unseen(("select $1::%s as v"):format(type_name))
        assert.are.equal(text, db.value(sql, text))
        assert.are.equal(text, db.value(sql, text))
        local named = unseen(("select $v::%s as v"):format(type_name))
        assert.are.equal(text, db.transaction({ retries = 0 }, function(tx)
          local first = tx:one(named, { v = text })
          assert.are.equal(text, tx:value(named, { v = text }))
          return first.v
        end))
      end
    end
  end)

  it("stays a string where nothing in the text speaks of JSON", function()
    for _, text in ipairs(strings) do
      local rows = {
        db.insert("json_values.docs", { doc = text, plain = text, t = text }),
        db.transaction(function(tx)
          return tx:insert("json_values.docs", { doc = text, plain = text, t = text })
        end),
        db.one(
          unseen "insert into json_values.docs (doc, plain, t) values ($1, $2, $3) returning *",
          text, text, text),
        db.transaction(function(tx)
          local last = tx:value "select max(id) from json_values.docs"
          return tx:one(
            unseen "update json_values.docs set doc = $a, plain = $b, t = $c where id = $id \z
              returning *",
            { a = text, b = text, c = text, id = last })
        end),
      }
      for _, row in ipairs(rows) do
        assert.are.same({ text, text, text }, { row.doc, row.plain, row.t })
        assert.are.equal("string",
                         db.value("select jsonb_typeof(doc) from json_values.docs where id = $1",
                                  row.id))
      end
    end
  end)

  it("is what was read, when it is written back", function()
    for _, text in ipairs(strings) do
      local row = db.insert("json_values.docs", { doc = text })
      db.exec("update json_values.docs set doc = $doc where id = $id",
              { doc = row.doc, id = row.id })
      assert.are.equal(text, db.value("select doc from json_values.docs where id = $1", row.id))
    end
  end)

  it("is one inside of an array of json", function()
    local row = db.insert("json_values.docs", { docs = strings })
    assert.are.same(strings, { table.unpack(row.docs) })
    for _, text in ipairs(strings) do
      local found = db.value(
        unseen "select count(*) from json_values.docs where id = $id and $t = any (docs)",
        { id = row.id, t = text })
      assert.are.equal(1, found)
    end
  end)

  it("is one in COPY", function()
    db.exec "delete from json_values.docs"
    local rows = {}
    for i, text in ipairs(strings) do rows[i] = { text, { text, { text } }, text } end
    assert.are.equal(#strings, db.copy_in("json_values.docs (doc, docs, t)", rows))
    for i, row in ipairs(db.query "select doc, docs, t from json_values.docs order by id") do
      assert.are.same({ strings[i], strings[i], strings[i], strings[i] },
                      { row.doc, row.docs[1], row.docs[2][1], row.t })
    end
  end)

  it("is one in a message", function()
    local topic, got = "json_values", {}
    db.transaction(function(tx)
      for _, text in ipairs(strings) do tx:publish(topic, text) end
    end)
    local own <close> = setmetatable({ db.open { url = host.admin_url, max = 1 } },
                                     { __close = function(o) o[1].close() end })
    for i, row in ipairs(
      own[1].query("select payload from moonpool.outbox where topic = $1 order by id", topic)) do
      got[i] = row.payload
    end
    assert.are.same(strings, got)
  end)

  it("comes through is.any as it is", function()
    local op = moonpool.operation { input = is.object { doc = is.any }, run = function(tx, input)
      return tx:insert("json_values.docs", { doc = input.doc, plain = input.doc })
    end }
    for _, text in ipairs(strings) do
      local row = moonpool.call(op, json.decode(json.encode { doc = text }), { border = true })
      assert.are.same({ text, text }, { row.doc, row.plain })
    end
  end)

  it("costs no round trip that is counted", function()
    local op = moonpool.operation { run = function(tx)
      tx:insert("json_values.docs", { doc = "5", t = unseen "x" })
      tx:exec(unseen "update json_values.docs set doc = $1 where false", "5")
      return tx:value(unseen "select $1::text", "x")
    end }
    local _, info = moonpool.call_info(op)
    assert.are.same({ 2, 3, 1 }, { info.round_trips, info.statements, info.attempts })
  end)
end)

describe("json.raw(text)", function()
  it("is JSON text as it stands, in statements and in JSON", function()
    assert.are.equal(true, db.value(unseen "select $1::jsonb", json.raw '{"admin":true}').admin)
    assert.are.equal(5, db.value(unseen "select $1::jsonb", json.raw "5"))
    assert.are.equal('{"a" : 1}', db.value(unseen "select $1::json::text", json.raw '{"a" : 1}'))
    assert.are.equal('[{"a_b": 1},2]', json.encode({ json.raw '{"a_b": 1}', 2 }, { camel = true }))
    assert.are.equal('{"a":1}', tostring(json.raw '{"a":1}'))
    assert.are.equal(2, db.value(unseen "select cardinality($1::jsonb[])",
                                 { json.raw "1", json.raw "{}" }))
  end)

  it("is refused unless it is JSON", function()
    for _, text in ipairs { "", "hello", "{", "[1,]", '{"a":1,"a":2}', "NaN", "1 2" } do
      assert.matches("json.raw: this is not JSON text", failure(json.raw, text), 1, true)
    end
  end)
end)

describe("a savepoint", function()
  it("holds the failure of a text that is used first inside of it", function()
    db.transaction({ retries = 0 }, function(tx)
      tx:exec(unseen "select $1::text", "before")
      local ok, e = pcall(tx.savepoint, tx, function(inner)
        inner:exec(unseen "select $1 from nowhere_at_all", "x")
      end)
      assert.is_false(ok)
      assert.are.equal("42P01", e.sqlstate)
      assert.are.equal("after", tx:value(unseen "select $1::text", "after"))
    end)
  end)
end)
