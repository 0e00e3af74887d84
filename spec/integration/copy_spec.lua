-- db.copy_in and db.copy_out.
local db       = require "moonpool.db"
local decimal  = require "moonpool.decimal"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

describe("COPY", function()
  local schema

  setup(function()
    schema = scratch.schema("copies", {
      "create table copies.items (id integer primary key, name text, price numeric(12,2), yes \z
        boolean, data jsonb)",
      "create table copies.watched (id integer primary key)",
      [[create function copies.keep_away() returns trigger language plpgsql as $$
        begin if new.id % 2 = 0 then return null; end if; return new; end $$]],
      [[create trigger keep_away before insert on copies.watched
        for each row execute function copies.keep_away()]],
    })
  end)

  teardown(function() schema.drop() end)
  before_each(function() db.exec "delete from copies.items" end)

  after_each(function()
    inline.everything_is_given_back(schema.owner)
    assert.are.equal(1, db.value "select 1")
  end)

  local function count() return db.value "select count(*) from copies.items" end

  describe("in", function()
    it("tells how many rows a trigger has kept away", function()
      assert.are.same({ 2, 1 }, { db.copy_in("copies.watched", { { 1 }, { 2 }, { 3 } }) })
      assert.are.same({ 1, 0 }, { db.copy_in("copies.watched", { { 5 } }) })
      assert.are.same({ 1 }, { db.copy_in("copies.watched", "7\n8\n") }) -- texts are not read
    end)

    it("stores rows, whatever their values are", function()
      local text = "tab\t, line\n, return\r, back\\slash, \\N and ünicode"
      assert.are.equal(3, db.copy_in("copies.items (id, name, price, yes, data)", {
        { 1, text, decimal "28500.10", true, { a = { 1, 2 } } },
        { 2, json.null, json.null, false, json.null },
        { 3, "", 1, true, "{}" },
      }))
      local row = db.one "select * from copies.items where id = 1"
      assert.are.equal(text, row.name)
      assert.are.equal("28500.10", tostring(row.price))
      assert.are.equal(2, row.data.a[2])
      row = db.one "select * from copies.items where id = 2"
      assert.is_nil(row.name)
      assert.is_false(row.yes)
      assert.are.equal("", db.value "select name from copies.items where id = 3")
    end)

    it("takes a statement and text, from a function that may wait", function()
      local at = 0
      assert.are.equal(300, db.copy_in("copy copies.items (id, name) from stdin (format csv)",
                                       function()
        at = at + 1
        if at % 50 == 0 then moonpool.sleep(0) end
        return at <= 300 and ("%d,\"name, %d\"\n"):format(at, at) or nil
      end))
      assert.are.equal("name, 300", db.value "select name from copies.items where id = 300")
      assert.are.equal(2, db.copy_in("copies.items (id)", "301\n302\n"))
      assert.are.equal(0, db.copy_in("copies.items (id)", {}))
    end)

    it("stores much, faster than rows one by one", function()
      local text, at = ("x"):rep(1000), 0
      assert.are.equal(20000, db.copy_in("copies.items (id, name)", function()
        at = at + 1
        return at <= 20000 and { at, text } or nil
      end))
      assert.are.equal(20000, count())
    end)

    it("stores nothing when the server refuses a row, and tells the line", function()
      local e = failure(db.copy_in, "copies.items (id, name)", { { 1, "a" }, { "x", "b" } })
      assert.are.equal("22P02", e.sqlstate)
      assert.are.equal(2, e.copy_line)
      e = failure(db.copy_in, "copies.items (id, name)", { { 1, "a" }, { 1, "b" } })
      assert.are.equal("23505", e.sqlstate)
      assert.are.equal("items_pkey", e.constraint)
      local at = 0      -- refused long before the end
      e = failure(db.copy_in, "copies.items (id, name)", function()
        at = at + 1
        return at <= 100000 and { at == 1 and "x" or at, "b" } or nil
      end)
      assert.are.equal("22P02", e.sqlstate)
      assert.are.equal(0, count())
    end)

    it("stores nothing when the source fails, whose error is raised", function()
      local at = 0
      local e = failure(db.copy_in, "copies.items (id)", function()
        at = at + 1
        if at == 5000 then moonpool.fail("NO_MORE", "no more") end
        return { at }
      end)
      assert.are.equal("NO_MORE", e.code)
      inline.contains(failure(db.copy_in, "copies.items (id)", function()
        return 7
      end).message, "number")
      assert.are.equal(0, count())
    end)

    it("may take longer than a statement may", function()
      local output, exit = scratch.script([[
        local moonpool, db = require "moonpool", require "moonpool.db"
        local at = 0
        print(db.copy_in("copies.items (id)", function()
          at = at + 1
          if at == 2 then moonpool.sleep(0.3) end
          return at <= 2 and { at } or nil
        end), db.value "show statement_timeout")
      ]], { DB_STATEMENT_TIMEOUT = "100" })
      assert.are.equal(0, exit, output)
      assert.truthy(output:find "2%s+100ms", output)
    end)

    it("uses the connection again", function()
      inline.with_pool_of(1, function()
        local pid = db.value "select pg_backend_pid()"
        db.copy_in("copies.items (id)", { { 1 } })
        failure(db.copy_in, "copies.items (id)", { { 1 } })
        db.copy_out("select 1", function() end)
        assert.are.equal(pid, db.value "select pg_backend_pid()")
      end)
    end)

  end)

  it("is undone when the code that waits for it is ended", function()
    for _, fn in ipairs {
      function() db.copy_in("copies.items (id)", function() coroutine.yield() end) end,
      function()
        db.copy_out("select n from generate_series(1, 1000000) n", function() coroutine.yield() end)
      end,
    } do
      local co = coroutine.create(fn)
      assert.is_true(coroutine.resume(co))
      assert.are.equal("suspended", coroutine.status(co))
      coroutine.close(co)
      scratch.await("the connection to come back", function()
        return host.pool_stats().active_connections == 0
      end)
    end
    assert.are.equal(0, count())
  end)

  it("fails when its connection is lost, whichever way it goes", function()
    local function kill()
      test.admin().value [[
        select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
         where datname = 'moonpool' and query like '%; copy%' and state = 'active']]
    end
    local rows = 0
    local e = failure(db.copy_in, "copies.items (id, name)", function()
      rows = rows + 1
      if rows == 10 then kill() end
      return { rows, ("x"):rep(10000) }
    end)
    assert.are.equal("CONNECTION_LOST", e.code)
    assert.is_nil(e.outcome_unknown)
    e = failure(db.lease, function(conn)      -- all was put, and the end waits
      conn.copy_start "copy copies.items (id, name) from stdin"
      conn.copy_put "1\ta\n"
      schema.owner.transaction({}, function(tx)
        tx:exec "insert into copies.items (id) values (1)"
        tx:flush()
        moonpool.spawn(function()
          scratch.await("the COPY to wait for the row", function()
            return test.admin().value [[
              select exists (select from pg_stat_activity
                              where datname = 'moonpool' and query like '%; copy%'
                                and wait_event_type = 'Lock')]]
          end)
          kill()
        end)
        local _, failed = pcall(conn.copy_end)
        error(failed, 0)
      end)
    end)
    assert.is_true(e.outcome_unknown)
    local killed
    e = failure(db.copy_out, "select repeat('x', 10000) from generate_series(1, 100000)", function()
      if not killed then kill() end
      killed = true
    end)
    assert.are.equal("CONNECTION_LOST", e.code)
    assert.are.equal(0, count())
  end)

  describe("out", function()
    it("hands over the rows of a query or a statement", function()
      db.copy_in("copies.items (id, name)", { { 1, "a" }, { 2, "b\tc" } })
      local pieces = {}
      assert.are.equal(2, db.copy_out("select id, name from copies.items order by id",
                                      function(bytes)
        pieces[#pieces + 1] = bytes
      end))
      assert.are.equal("1\ta\n2\tb\\tc\n", table.concat(pieces))
      pieces = {}
      assert.are.equal(2, db.copy_out("copy copies.items (id) to stdout (format csv, header)",
                                      function(bytes)
        pieces[#pieces + 1] = bytes
      end))
      assert.are.equal("id\n1\n2\n", table.concat(pieces))
    end)

    it("holds little at a time while its sink waits", function()
      collectgarbage()
      local before, most, size = collectgarbage "count", 0, 0
      assert.are.equal(60000, db.copy_out("select repeat('x', 500) from generate_series(1, 60000)",
                                          function(bytes)
        size = size + #bytes
        if size % 7 == 0 then moonpool.sleep(0) end
        collectgarbage "step"
        most = math.max(most, collectgarbage "count")
      end))
      assert.are.equal(60000 * 501, size)
      assert.is_true(most - before < 8192)
    end)

    it("raises what the server or the sink raises", function()
      assert.are.equal("42P01", failure(db.copy_out, "select * from nowhere", print).sqlstate)
      local e = failure(db.copy_out, "select 100 / (5000 - n) from generate_series(1, 10000) n",
                        function() end)
      assert.are.equal("22012", e.sqlstate)
      e = failure(db.copy_out, "select n from generate_series(1, 1000000) n", function()
        moonpool.fail("FULL", "full")
      end)
      assert.are.equal("FULL", e.code)
    end)
  end)

  describe("refuses", function()
    it("what is no COPY, and the wrong direction", function()
      assert.is_false(pcall(db.copy_in, "copy copies.items to stdout", {}))
      assert.is_false(pcall(db.copy_out, "copy copies.items from stdin", print))
      assert.is_false(pcall(db.copy_in, "copies.items; delete from copies.items", {}))
      assert.is_false(pcall(db.copy_out, "select 1", nil))
      db.lease(function(conn)
        assert.are.equal("INVALID_ARGUMENT", failure(conn.copy_start, "select 1").code)
        assert.are.equal("INVALID_ARGUMENT", failure(conn.copy_put, "x").code)
        conn.copy_start "copy copies.items (id) from stdin"
        inline.contains(failure(conn.query, "select 1").message, "COPY is under way")
        assert.are.equal(0, conn.copy_end())
        assert.are.equal(1, conn.value "select 1")
      end)
    end)

    it("an operation", function()
      assert.are.equal("INVALID_ARGUMENT", inline.refusal(function()
        db.copy_in("copies.items", {})
      end).code)
    end)
  end)
end)
