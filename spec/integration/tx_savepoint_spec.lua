-- Savepoints: what they undo, what they keep, and what they do not heal.
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local call, refusal = inline.call, inline.refusal

describe("a transaction", function()
  local schema

  setup(function()
    schema = scratch.schema("tx_savepoint_spec", {
      "create table tx_savepoint_spec.things (id int primary key, name text)",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate tx_savepoint_spec.things"
  end)

  local function things()
    return schema.owner.value "select count(*) from tx_savepoint_spec.things"
  end

  local function ids()
    return
      schema.owner.value "select string_agg(id::text, ',' order by id) from \z
        tx_savepoint_spec.things"
  end

  describe("savepoint()", function()
    it("gives what its function gives", function()
      assert.are.same({ 1, nil, "three", n = 3 }, call(function(tx)
        return table.pack(tx:savepoint(function(inner)
          inner:exec "insert into tx_savepoint_spec.things (id) values (1)"
          return 1, nil, "three"
        end))
      end))
      assert.are.equal(1, things())
    end)

    it("undoes only what is inside, raises the error, and the rest commits", function()
      local caught
      call(function(tx)
        tx:exec "insert into tx_savepoint_spec.things (id) values (1)"
        local ok, e = pcall(function()
          tx:savepoint(function()
            tx:exec "insert into tx_savepoint_spec.things (id) values (2)"
            return tx:value "select 1 / 0"
          end)
        end)
        caught = not ok and e
        tx:exec "insert into tx_savepoint_spec.things (id) values (3)"
      end)
      assert.are.equal("22012", caught.sqlstate)
      assert.are.equal("1,3", ids())
    end)

    it("undoes on a script's error too", function()
      call(function(tx)
        local ok, e = pcall(function()
          tx:savepoint(function()
            tx:exec "insert into tx_savepoint_spec.things (id) values (2)"
            moonpool.fail("NO", "no")
          end)
        end)
        assert.are.same({ false, "NO" }, { ok, e.code })
        tx:exec "insert into tx_savepoint_spec.things (id) values (3)"
      end)
      assert.are.equal("3", ids())
    end)

    it("that nobody catches fails the transaction", function()
      local e = refusal(function(tx)
        tx:exec "insert into tx_savepoint_spec.things (id) values (1)"
        tx:savepoint(function() return tx:value "select 1 / 0" end)
      end)
      assert.are.equal("22012", e.sqlstate)
      assert.are.equal(0, things())
    end)

    it("nests", function()
      call(function(tx)
        tx:savepoint(function()
          tx:exec "insert into tx_savepoint_spec.things (id) values (1)"
          pcall(function()
            tx:savepoint(function()
              tx:exec "insert into tx_savepoint_spec.things (id) values (2)"
              tx:savepoint(function()
                tx:exec "insert into tx_savepoint_spec.things (id) values (3)"
              end)
              return tx:value "select 1 / 0"
            end)
          end)
          tx:savepoint(function()
            tx:exec "insert into tx_savepoint_spec.things (id) values (4)"
          end)
        end)
      end)
      assert.are.equal("1,4", ids())
    end)

    it("fails with what was queued in it, at the latest when it is released", function()
      local caught
      call(function(tx)
        local ok, e = pcall(function()
          tx:savepoint(function()
            tx:exec "insert into tx_savepoint_spec.things (id) values (1), (1)"
          end)
        end)
        caught = not ok and e
        tx:exec "insert into tx_savepoint_spec.things (id) values (2)"
      end)
      assert.are.equal("23505", caught.sqlstate)
      assert.are.equal("2", ids())
    end)

    it("whose function caught the failure fails all the same", function()
      local caught
      call(function(tx)
        local ok, e = pcall(function()
          return tx:savepoint(function()
            pcall(function() return tx:value "select 1 / 0" end)
            return "fine"
          end)
        end)
        caught = not ok and e
      end)
      assert.are.equal("22012", caught.sqlstate)
    end)

    it("does not fail with what was queued before it", function()
      local started
      local e = refusal(function(tx)
        tx:exec "insert into tx_savepoint_spec.things (id) values (1), (1)"
        pcall(function() tx:savepoint(function() started = true end) end)
      end)
      assert.are.equal("23505", e.sqlstate)
      assert.is_nil(started)
      assert.are.equal(0, things())
    end)

    it("does not heal a transaction that failed before it", function()
      local e = refusal(function(tx)
        pcall(function() return tx:value "select 1 / 0" end)
        pcall(function() tx:savepoint(function() end) end)
        return "fine"
      end)
      assert.are.equal("22012", e.sqlstate)
    end)

    it("keeps the rows it gave", function()
      assert.are.equal("a", call(function(tx)
        local row = tx:savepoint(function()
          return tx:insert("tx_savepoint_spec.things", { id = 1, name = "a" })
        end)
        return row.name
      end))
    end)

    it("undone, its rows raise what became of them", function()
      call(function(tx)
        local row
        pcall(function()
          tx:savepoint(function()
            row = tx:insert("tx_savepoint_spec.things", { id = 1, name = "a" })
            moonpool.fail("NO", "no")
          end)
        end)
        assert.is_false((pcall(function() return row.name end)))
        assert.are.equal(0, tx:value "select count(*) from tx_savepoint_spec.things")
      end)
    end)

    it("many one after another, and a hundred deep", function()
      local function deeper(tx, n)
        if n == 0 then return tx:exec "insert into tx_savepoint_spec.things (id) values (1)" end
        tx:savepoint(function() deeper(tx, n - 1) end)
      end
      call(function(tx)
        deeper(tx, 100)
        for i = 2, 51 do
          tx:savepoint(function()
            tx:exec("insert into tx_savepoint_spec.things (id) values ($1)", i)
          end)
        end
      end)
      assert.are.equal(51, things())
    end)
  end)
end)
