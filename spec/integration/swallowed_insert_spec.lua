-- An insert whose row a trigger or a rule keeps away gives no row: an error for whoever looks at
-- it.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

describe("an insert that stores no row", function()
  local schema
  setup(function()
    schema = scratch.schema("swallowed", {
      "create table swallowed.by_trigger (id integer, t text)",
      [[create function swallowed.swallow() returns trigger language plpgsql as
        'begin return case when new.id < 0 then null else new end; end']],
      "create trigger swallow before insert on swallowed.by_trigger for each row execute \z
        function swallowed.swallow()",
    })
  end)
  teardown(function() schema.drop() end)

  local function assert_told(e)
    assert.are.equal("ROW_NOT_STORED", e.code)
    assert.matches("the insert into swallowed.by_trigger stored no row", e.message, 1, true)
  end

  it("is an error of db.insert", function()
    assert.are.equal(1, db.insert("swallowed.by_trigger", { id = 1, t = "x" }).id)
    assert_told(failure(db.insert, "swallowed.by_trigger", { id = -1, t = "x" }))
  end)

  it("is an error at the look, of each look", function()
    assert_told(failure(db.transaction, function(tx)
      return tx:insert("swallowed.by_trigger", { id = -1 }).id
    end))
    db.transaction(function(tx)
      local row = tx:insert("swallowed.by_trigger", { id = -1, t = "x" })
      for _ = 1, 2 do assert_told(failure(function() return row.id end)) end
      assert_told(failure(function() for _ in pairs(row) do end end))
    end)
  end)

  it("is none for whoever does not look", function()
    db.transaction(function(tx)
      tx:insert("swallowed.by_trigger", { id = -1 })
      assert.are.equal(1, tx:value "select 1")
    end)
  end)

  it("is told with the result that cannot be told", function()
    local op = moonpool.operation { run = function(tx)
      return tx:insert("swallowed.by_trigger", { id = -1 })
    end }
    assert_told(failure(moonpool.call, op, nil, { key = moonpool.uuid() }))
  end)
end)
