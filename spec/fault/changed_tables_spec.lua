-- Tables change under calls that have their statements prepared: nobody hears of it, whatever the number of attempts.
local db       = require "moonpool.db"
local fault    = require "spec.support.fault"
local inline   = require "spec.support.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.scratch"

local CALLERS = 12

describe("a table that is changed under prepared statements", function()
  local schema
  local columns, ids = 0, 100

  setup(function()
    schema = scratch.schema("changed_tables", {
      "create table changed_tables.t (id int primary key, n int not null)",
      "insert into changed_tables.t select i, i from generate_series(1, 9) i" })
  end)
  teardown(function() schema.drop() end)
  after_each(fault.assert_quiet)

  local function change()
    columns = columns + 1
    schema.owner.exec(("alter table changed_tables.t add column c%d int"):format(columns))
  end

  -- Six texts, each of which is out of date after a change.
  local function read(ask)
    local rows = {}
    for i = 1, 6 do rows[i] = ask(("select * from changed_tables.t where id = $1 and %d = %d"):format(i, i), i) end
    local sum = 0
    for _, row in ipairs(rows) do sum = sum + row.n end
    return sum
  end

  local function together(fn)
    local work = {}
    for i = 1, CALLERS do work[i] = fn end
    moonpool.all(work)
  end

  it("is none of an operation's business, nor does it cost one of its attempts", function()
    local runs = 0
    local op = inline.define(function(tx)
      runs = runs + 1
      return read(function(...) return tx:one(...) end)
    end, { retries = 0 })
    local function call() assert.are.equal(21, (moonpool.call(op, {}))) end
    together(call)
    for _ = 1, 5 do
      change()
      together(call)
    end
    assert.truthy(runs > 6 * CALLERS, "no statement was out of date")
  end)

  it("nor of a transaction's last statements, which travel with COMMIT", function()
    for _ = 1, 3 do
      together(function()
        ids = ids + 1
        local id = ids
        local row = db.transaction({ retries = 0 }, function(tx)
          return tx:insert("changed_tables.t", { id = id, n = 1 })
        end)
        assert.are.equal(1, row.n)
      end)
      change()
    end
  end)

  it("nor of statements outside of transactions", function()
    for _ = 1, 5 do
      together(function() assert.are.equal(21, (read(db.one))) end)
      change()
    end
  end)
end)
