-- Tables change under calls that have their statements prepared: nobody hears of it, whatever the
-- number of attempts.
local db       = require "moonpool.db"
local fault    = require "spec.support.workload.fault"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

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
    for i = 1, 6 do
      rows[i] = ask(("select * from changed_tables.t where id = $1 and %d = %d"):format(i, i), i)
    end
    local sum = 0
    for _, row in ipairs(rows) do sum = sum + row.n end
    return sum
  end

  local function together(fn)
    local work = {}
    for i = 1, CALLERS do work[i] = fn end
    moonpool.all(work)
  end

  local ways = {
    ["alone"] = {},
    ["in a lane"] = { lane = "changed_tables" },
    ["in a lane, with a lock between hosts"] =
      { lane = "changed_tables", isolation = "serializable" },
    ["in a group"] = { lane = "changed_tables", group = 8 },
  }
  for way, fields in pairs(ways) do
    it("is none of an operation's business, nor does it cost one of its attempts: " .. way,
       function()
      local runs = 0
      fields.retries = 0
      local op = inline.define(function(tx)
        runs = runs + 1
        local sum = read(function(...) return tx:one(...) end)
        tx:exec "update changed_tables.t set n = n where id = 9"
        return sum
      end, fields)
      local function call() assert.are.equal(21, (moonpool.call(op, {}))) end
      together(call)
      for _ = 1, 5 do
        change()
        together(call)
      end
      assert.truthy(runs > 6 * CALLERS, "no statement was out of date")
    end)
  end

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

  it("nor when a type of their parameters is made anew", function()
    local function make()
      schema.owner.exec "alter table changed_tables.t drop column if exists e"
      schema.owner.exec "drop type if exists changed_tables.kind"
      schema.owner.exec "create type changed_tables.kind as enum ('a', 'b')"
      schema.owner.exec "alter table changed_tables.t add column e changed_tables.kind not null \z
        default 'a'"
    end
    local op = inline.define(function(tx)
      return tx:one("select n from changed_tables.t where id = 3 and e = $1", "a").n
    end, { retries = 0 })
    for _ = 1, 3 do
      make()
      together(function() assert.are.equal(3, (moonpool.call(op, {}))) end)
      make()
      together(function()
        assert.are.equal(3, db.one("select n from changed_tables.t where id = 3 and e = $1", "a").n)
      end)
    end
  end)

  it("nor of statements outside of transactions", function()
    for _ = 1, 5 do
      together(function() assert.are.equal(21, (read(db.one))) end)
      change()
    end
  end)
end)
