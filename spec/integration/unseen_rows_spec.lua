-- An insert whose row nobody can look at any more is sent without RETURNING, which needs no right
-- to read the table: so a table that may only be written shows what was asked for.
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local failure  = require "spec.support.data.failure"
local scratch  = require "spec.support.data.scratch"

local call, refusal = inline.call, inline.refusal

describe("the row of an insert is asked for", function()
  local schema

  setup(function()
    schema = scratch.schema("unseen", {
      "create table unseen.inbox (id bigint generated always as identity, note text, n int)",
      "create table unseen.things (id bigint generated always as identity, note text)",
    })
    schema.owner.exec "revoke select on unseen.inbox from moonpool_app"
  end)
  teardown(function() schema.drop() end)
  before_each(function() schema.owner.exec "truncate unseen.inbox, unseen.things" end)

  local function insert(tx, count)
    local row
    for i = 1, count or 1 do row = tx:insert("unseen.inbox", { note = "x", n = i }) end
    return row
  end

  local function stored() return schema.owner.value "select count(*) from unseen.inbox" end

  local function assert_asked_for(run)
    local e = refusal(run)
    assert.are.equal("42501", e.sqlstate)
    assert.are.equal(0, stored())
  end

  for _, count in ipairs { 1, 11 } do
    describe(("with %d in a transaction"):format(count), function()
      it("not where the script has ended and gives nothing", function()
        call(function(tx) insert(tx, count) end)
        call(function(tx)
          local kept = { insert(tx, count) }
          return { note = "stored", counts = { #kept, 2 } }
        end)
        assert.are.equal(2 * count, stored())
      end)

      it("not where it went by itself", function()
        call(function(tx) insert(tx, count) end, { merge = false })
        assert.are.equal(count, stored())
      end)

      it("where the script reads it", function()
        assert_asked_for(function(tx) return insert(tx, count).id end)
      end)

      it("where another statement sends it, for the script can still read it", function()
        assert_asked_for(function(tx)
          insert(tx, count)
          return tx:value "select 1"
        end)
      end)

      it("where it is in the result", function()
        assert_asked_for(function(tx) return insert(tx, count) end)
        assert_asked_for(function(tx) return { deep = { [1] = { insert(tx, count) } } } end)
      end)

      it("where a function of the result may hold it", function()
        assert_asked_for(function(tx)
          local row = insert(tx, count)
          return { read = function() return row.id end }
        end)
      end)

      it("where a hook may read it", function()
        assert_asked_for(function(tx)
          local row = insert(tx, count)
          tx:after_commit(function() return row.id end)
        end)
      end)

      it("where a task that goes on may read it", function()
        assert_asked_for(function(tx)
          local row = insert(tx, count)
          moonpool.spawn(function() return row end)
        end)
      end)
    end)
  end

  it("and is what it was, for whoever can look", function()
    local seen
    local result = call(function(tx)
      local row = tx:insert("unseen.things", { note = "a" })
      tx:after_commit(function() seen = row.id end)
      return { row = row }
    end)
    scratch.await("the hook", function() return seen end)
    assert.are.equal(seen, result.row.id)
    assert.are.equal("a", result.row.note)
  end)

  it("else an error says how to get it", function()
    local kept
    call(function(tx) kept = tx:insert("unseen.things", { note = "a" }) end)
    local e = failure(function() return kept.id end)
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.matches("unseen_rows_spec.lua:%d+ was not asked for.*inside of run", e.message)
    assert.are.equal(1, schema.owner.value "select count(*) from unseen.things")
  end)
end)
