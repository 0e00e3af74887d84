-- moonpool.db: single statements on pooled connections, leases, other databases.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local scratch  = require "spec.support.data.scratch"

local await, contains = scratch.await, inline.contains

describe("moonpool.db", function()
  local schema

  setup(function()
    schema = scratch.schema("db_spec", {
      "create table db_spec.things (id int primary key, name text)",
      "create table db_spec.halves (how text)",
      [[create procedure db_spec.half(how text) language plpgsql as $$
        begin
          insert into db_spec.halves values (how);
          commit;
          if how = 'stale' then execute 'execute mp_unknown'; end if;
          set default_transaction_read_only = on;
          commit;
          insert into db_spec.halves values (how);
        end $$]],
      "grant execute on all routines in schema db_spec to moonpool_app",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate db_spec.things"
  end)

  describe("runs", function()
    before_each(function()
      schema.owner.exec "insert into db_spec.things values (1, 'a'), (2, 'b'), (3, null)"
    end)

    it("query: an array of rows", function()
      local rows = db.query("select * from db_spec.things where id < $1 order by id", 3)
      assert.are.equal(2, #rows)
      assert.are.same({ 1, "a", 2, "b" }, { rows[1].id, rows[1].name, rows[2].id, rows[2].name })
      assert.are.same({}, db.query "select * from db_spec.things where false")
    end)

    it("first: a row or nil", function()
      assert.are.equal("a", db.first("select * from db_spec.things where id = $id",
                                     { id = 1 }).name)
      assert.is_nil(db.first "select * from db_spec.things where false")
    end)

    it("one: a row, or an error", function()
      assert.are.equal("a", db.one("select * from db_spec.things where id = $1", 1).name)
      local e = failure(db.one, "select * from db_spec.things where id = $id", { id = 7 },
                        "Thing not found: $id")
      assert.are.same({ "RESOURCE_NOT_FOUND", 404, "Thing not found: 7" },
                      { e.code, e.status, e.message })
      assert.are.equal("TOO_MANY_ROWS", failure(db.one, "select * from db_spec.things").code)
    end)

    it("value: the first column or nil", function()
      assert.are.equal("b", db.value("select name, id from db_spec.things where id = $1", 2))
      assert.is_nil(db.value "select name from db_spec.things where id = 3")
      assert.is_nil(db.value "select name from db_spec.things where false")
    end)

    it("exec and count: the number of rows", function()
      assert.are.equal(2, db.exec("update db_spec.things set name = $1 where id < 3", "x"))
      assert.are.equal(0, db.count "delete from db_spec.things where false")
    end)

    it("insert: the row as stored", function()
      local row = db.insert("db_spec.things", { id = 4, name = "d" })
      assert.are.equal("d", row.name)
      assert.are.equal("d", db.value "select name from db_spec.things where id = 4")
      local e = failure(db.insert, "db_spec.things", { id = 4 })
      assert.are.same({ "UNIQUE_VIOLATION", "things_pkey", "things" },
                      { e.code, e.constraint, e.table })
    end)

    it("a failing statement as an error with its place and text, and goes on", function()
      local e = failure(db.value, "select nothing from db_spec.things")
      assert.are.equal("42703", e.sqlstate)
      assert.are.equal("select nothing from db_spec.things", e.query)
      e = failure(function() db.exec "select 1 / 0" end)
      contains(e.line, "db_spec.lua:")
      assert.are.equal(1, db.value "select 1")
    end)

    it("each statement as a transaction of its own", function()
      db.exec "insert into db_spec.things values (9, 'nine')"
      failure(db.exec, "insert into db_spec.things values (10, 'ten'), (9, 'again')")
      assert.are.equal(1, schema.owner.value "select count(*) from db_spec.things where id > 8")
    end)

    it("a failing statement whose long message stays readable text", function()
      schema.owner.exec [[
        create or replace function db_spec.complain(n int) returns int language plpgsql as
        $f$ begin raise exception '%', repeat('x', n) || repeat('é', 1000); end $f$]]
      schema.owner.exec "grant execute on function db_spec.complain to moonpool_app"
      for n = 0, 3 do
        local e = failure(db.value, "select db_spec.complain($1)", n)
        assert.is_truthy(utf8.len(e.message), "cut in the middle of a character")
        assert.are.equal("P0001", e.sqlstate)
      end
    end)

    it("one statement at a time", function()
      assert.is_truthy(failure(db.exec, "select 1; select 2"))
      contains(failure(db.exec, "").message, "db.exec")
      assert.are.equal(1, db.value "select 1")
    end)

    it("no transaction that would be left open", function()
      pcall(db.exec, "begin")
      await("no open transaction", function()
        return schema.owner.value [[
          select count(*) = 0 from pg_stat_activity
           where datname = current_database() and state like 'idle in transaction%']]
      end)
      db.exec "insert into db_spec.things values (20, 'kept')"
      assert.are.equal(1, schema.owner.value "select count(*) from db_spec.things where id = 20")
    end)

    it("no setting that the next would find", function()
      local one = db.open { url = host.app_url, max = 1 }
      pcall(one.exec, "set application_name = 'left behind'")
      assert.are_not.equal("left behind", one.value "select current_setting('application_name')")
      one.close()
    end)

    it("large results and large parameters", function()
      local rows = db.query "select i, repeat('x', 100) as x from generate_series(1, 20000) i"
      assert.are.equal(20000, #rows)
      assert.are.equal(20000, rows[20000].i)
      local text = ("0123456789"):rep(800000)
      assert.are.equal(#text, db.value("select length($1::text)", text))
      assert.is_true(db.value("select $1::text", text) == text)
    end)
  end)

  describe("misused", function()
    it("inside of a transaction is refused", function()
      db.transaction(function(tx)
        for name, use in pairs { query = db.query, value = db.value, insert = db.insert,
                                 lease = db.lease,
                                 transaction = db.transaction } do
          local e = failure(use, "select 1", function() end)
          assert.are.equal("INVALID_ARGUMENT", e.code)
          contains(e.message, "db." .. name)
          contains(e.message, "tx")
        end
        assert.are.equal(1, tx:value "select 1")
      end)
    end)

    it("names the call, whatever is wrong", function()
      for part, use in pairs {
        ["db.value: 1 value for 2 parameters"] = function()
          db.value("select $1::int + $2::int", 1)
        end,
        ["$id"] = function() db.value("select $id::int", {}) end,
        ["db.open"] = function() db.open { url = 5432 } end,
        ["db.close"] = function() db.close() end,
        ["db.query"] = function() db.query() end,
      } do
        local e = failure(use)
        contains(e.message, part)
        contains(e.line, "db_spec.lua:")
      end
    end)

    it("a wait where Lua cannot yield names call and line", function()
      local e = failure(function()
        table.sort({ 2, 1 }, function() return db.value "select true" end)
      end)
      contains(e.message, "db.value")
      contains(e.line, "db_spec.lua:")
      assert.are.equal(1, db.value "select 1")
    end)
  end)

  describe("lease()", function()
    it("keeps one connection and gives back what its function gives", function()
      local same, other, n = db.lease(function(conn)
        local pid = conn.value "select pg_backend_pid()"
        conn.exec "set application_name = 'leased'"
        return pid == conn.value "select pg_backend_pid()",
          conn.value "select current_setting('application_name')", 3
      end)
      assert.are.same({ true, "leased", 3 }, { same, other, n })
    end)

    it("leaves no session state to the next", function()
      local one = db.open { url = host.app_url, max = 1 }
      one.lease(function(conn)
        conn.exec "set application_name = 'left behind'"
        conn.exec "listen left_behind"
        conn.value "select pg_advisory_lock(4711)"
      end)
      assert.are.equal(0, one.value "select count(*) from pg_listening_channels()")
      scratch.await("the end of the other backend, and of its lock", function()
        return
          one.value "select count(*) = 0 from pg_locks where locktype = 'advisory' and objid = 4711"
      end)
      assert.are_not.equal("left behind", one.value "select current_setting('application_name')")
      one.close()
    end)

    it("is given back when its function fails", function()
      local one = db.open { url = host.app_url, max = 1 }
      local e = failure(one.lease, function(conn)
        conn.value "select 1"
        error "on purpose"
      end)
      contains(e.message, "on purpose")
      failure(one.lease, function(conn) conn.value "select 1 / 0" end)
      assert.are.equal(1, one.value "select 1")
      one.close()
    end)

    it("left inside a transaction rolls it back", function()
      local one = db.open { url = host.app_url, max = 1 }
      one.lease(function(conn)
        conn.exec "begin"
        conn.exec "insert into db_spec.things values (1, 'a')"
      end)
      assert.are.equal(0, one.value "select count(*) from db_spec.things")
      one.close()
    end)

    it("is dead afterwards", function()
      local kept
      db.lease(function(conn) kept = conn end)
      assert.are.equal("INVALID_ARGUMENT", failure(kept.value, "select 1").code)
    end)
  end)

  describe("open()", function()
    it("speaks to another database as another role", function()
      local other = db.open { url = host.owner_url, max = 1 }
      assert.are.equal("moonpool_owner", other.value "select current_user")
      assert.are.equal("moonpool_app", db.value "select current_user")
      other.close()
    end)

    it("closed is closed, twice too", function()
      local other = db.open { url = host.owner_url, max = 1 }
      other.value "select 1"
      other.close()
      other.close()
      contains(failure(other.value, "select 1").message, "closed")
    end)

    it("with a size that makes no sense is refused", function()
      for _, max in ipairs { 0, -1, 1.5, 1000000, "many" } do
        local ok, other = pcall(db.open, { url = host.app_url, max = max })
        if ok then other.close() end
        assert.is_false(ok, "max = " .. tostring(max))
      end
    end)

    it("that cannot connect is NO_DATABASE, without the password", function()
      local other = db.open { url = "postgres://nobody:hunter2secret@127.0.0.1:1/x", max = 1 }
      local e = failure(other.value, "select 1")
      assert.are.equal("NO_DATABASE", e.code)
      assert.are.equal(503, e.status)
      assert.is_nil(tostring(e):find("hunter2secret", 1, true))
      other.close()
    end)

    it("with a malformed URL says so, without the password", function()
      local e = failure(function()
        return db.open({ url = "postgres://nobody:hunter2secret@[::1/x", max = 1 }).value "select 1"
      end)
      assert.is_nil(tostring(e):find("hunter2secret", 1, true))
    end)
  end)

  -- Where a statement that did nothing would be sent again.
  for how, code in pairs { stale = "26000", ["read only"] = "25006" } do
    it("does not run a procedure again that has committed and then failed: " .. how, function()
      local e = failure(function() db.exec("call db_spec.half($1)", how) end)
      assert.are.equal(code, e.sqlstate)
      assert.are.equal(1, db.value("select count(*) from db_spec.halves where how = $1", how))
    end)
  end
end)
