-- The answer of a call becomes text before COMMIT: a result that cannot be written is not stored.
local moonpool = require "moonpool"
local failure  = require "spec.support.data.failure"
local fault    = require "spec.support.workload.fault"
local inline   = require "spec.support.data.inline"
local json     = require "moonpool.json"
local scratch  = require "spec.support.data.scratch"

describe("the answer of a call", function()
  local schema

  setup(function()
    moonpool.call(inline.define(function(tx) -- what is asked once
      tx:publish("answers_spec", 1)
    end), {})
    schema = scratch.schema("answers", {
      "create table answers.made (id int primary key, name text)",
      [[create table answers.clashing (id int primary key, user_id int, "userId" int)]],
      [[create function answers.fail() returns int language plpgsql as
        $$ begin raise sqlstate '40001'; end $$]],
      "grant execute on function answers.fail to moonpool_app" })
  end)
  teardown(function() schema.drop() end)
  before_each(function() schema.owner.exec "truncate answers.made, answers.clashing" end)
  after_each(fault.assert_quiet)

  local function call(run, options)
    local all = { border = true, answer_text = true }
    for name, value in pairs(options or {}) do all[name] = value end
    return moonpool.call_info(inline.define(run), {}, all)
  end
  local function stored(name)
    return schema.owner.value("select count(*) from answers." .. (name or "made"))
  end
  local function insert(tx) return tx:insert("answers.made", { id = 1, name = "Ann" }) end

  it("is one text for a caller outside of Lua", function()
    local text, info = call(function(tx)
      return { made_row = insert(tx), price = moonpool.decimal "1.50" }
    end)
    assert.equal('{"madeRow":{"id":1,"name":"Ann"},"price":"1.50"}', text)
    assert.equal(1, info.round_trips) -- a row that nobody reads still travels with COMMIT
    assert.equal("null", (call(function() end)))
    assert.equal('"x"', (call(function() return "x" end)))
    assert.equal("null", (call(function() return json.null end)))
    assert.equal("false", (call(function() return false end)))
  end)

  it("needs no further round trip for a row that is promised", function()
    local text, info = call(function(tx)
      insert(tx)
      return { tx:one "select 1 as one" }
    end)
    assert.equal('[{"one":1}]', text)
    assert.equal(2, info.round_trips)
    assert.equal(1, stored())
  end)

  it("is written before COMMIT: what it cannot hold undoes the work", function()
    for what, give in pairs {
      ["a function cannot be JSON"] = function(row) return { row, print } end,
      ["a number that is NaN"]      = function(row) return { row = row, ratio = 0 / 0 } end,
      ["contains itself"]           = function()
        local loop = {}
        loop.loop = loop
        return loop
      end,
      ["would both be `userId`"]    = function(_, tx)
        return { tx:one [[select 1 as user_id, 2 as "userId"]] }
      end,
      ["valid UTF-8"]               = function() return { "\xff" } end } do
      for _, key in ipairs { false, "a key" } do
        local e = failure(function()
          call(function(tx) return give(insert(tx), tx) end, { key = key or nil })
        end)
        assert.equal("RESULT_UNWRITABLE", e.code, what)
        inline.contains(e.message, "was undone: its result cannot be written as JSON", what)
        assert.equal(0, stored(), what)
      end
    end
  end)

  it("tells the failure of a statement that only the answer reads, as that failure", function()
    local function broken(tx)
      insert(tx)
      return { tx:one "select 1 as one where false" }
    end
    assert.equal("RESOURCE_NOT_FOUND", failure(function() call(broken) end).code)
    assert.equal(0, stored())
    local e = failure(function()
      call(function(tx)
        insert(tx)
        return { insert(tx) }
      end, { key = "twice" })
    end)
    assert.equal("23505", e.sqlstate)
    assert.equal(0, stored())
  end)

  it("tells that the work is stored when only a row that came with COMMIT cannot be written",
     function()
    local e = failure(function()
      call(function(tx) return tx:insert("answers.clashing", { id = 1, user_id = 2 }) end)
    end)
    assert.equal("RESULT_UNWRITABLE", e.code)
    inline.contains(e.message, "is done and stored, but its result cannot be written as JSON",
                    "would both be `userId`")
    assert.equal(1, stored "clashing")
  end)

  it("is made anew by each attempt", function()
    local attempts = 0
    local text = call(function(tx)
      attempts = attempts + 1
      if attempts == 1 then tx:exec "select answers.fail()" end
      return { attempt = attempts }
    end)
    assert.equal('{"attempt":2}', text)
  end)
end)
