-- moonpool.db: single statements on pooled connections, leases, other databases, the pool's limits,
-- lost connections.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

local await, contains = scratch.await, inline.contains

describe("moonpool.db", function()
  local schema

  setup(function()
    schema = scratch.schema("db_spec", {
      "create table db_spec.things (id int primary key, name text)",
      "create table db_spec.shapes (id int primary key, note text)",
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

  -- Waits until a backend is busy with this text, and gives its pid.
  local function pid_of(marker)
    return await("the statement " .. marker, function()
      return test.admin().value([[
        select pid from pg_stat_activity
         where state = 'active' and pid <> pg_backend_pid() and query like '%' || $1 || '%'
           limit 1]], marker)
    end)
  end

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
      assert.is_truthy(failure(db.exec, ""))
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

  describe("pool", function()
    it("of 5 serves 200 callers at once", function()
      local five = db.open { url = host.app_url, max = 5 }
      local calls, pids, count = {}, {}, 0
      for n = 1, 200 do
        calls[n] = function()
          local row = five.one("select $1::int as n, pg_backend_pid() as pid, pg_sleep(0.001)", n)
          if not pids[row.pid] then pids[row.pid], count = true, count + 1 end
          return row.n
        end
      end
      local results = moonpool.all(calls)
      for n = 1, 200 do assert.are.equal(n, results[n]) end
      assert.is_true(count <= 5, count .. " connections")
      five.close()
    end)

    it("serves those who wait in the order they came", function()
      local one = db.open { url = host.app_url, max = 1 }
      local release, held, order, handles = false, false, {}, {}
      local holder = moonpool.spawn(one.lease, function(conn)
        conn.value "select 1"
        held = true
        await("the release", function() return release end)
      end)
      await("the lease", function() return held end)
      for n = 1, 30 do
        handles[n] = moonpool.spawn(function()
          one.value("select $1::int", n)
          order[#order + 1] = n
        end)
      end
      moonpool.sleep(0)
      assert.are.equal(0, #order)
      release = true
      holder:wait()
      for _, handle in ipairs(handles) do handle:wait() end
      for n = 1, 30 do assert.are.equal(n, order[n]) end
      one.close()
    end)

    it("that is full answers BUSY, and recovers", function()
      local output, code = scratch.script([[
        local moonpool = require "moonpool"
        local db       = require "moonpool.db"
        local release, held = false, false
        local holder = moonpool.spawn(db.lease, function(conn)
          conn.value "select 1"
          held = true
          while not release do moonpool.sleep(0) end
        end)
        while not held do moonpool.sleep(0) end
        local handles = {}
        for n = 1, 2 do handles[n] = moonpool.spawn(db.value, "select $1::int", n) end
        moonpool.sleep(0)
        local ok, e = pcall(db.value, "select 3")
        print(ok, e.code, e.status)
        ok, e = pcall(db.transaction, function(tx) return tx:value "select 3" end)
        print(ok, e.code)
        release = true
        print(handles[1]:wait(), handles[2]:wait(), db.value "select 4")
      ]], { DB_POOL_MAX = "1", MOONPOOL_QUEUE_LIMIT = "2" })
      assert.are.equal("false\tBUSY\t503\nfalse\tBUSY\n1\t2\t4\n", output)
      assert.are.equal(0, code)
    end)

    it("cancels a statement that runs longer than DB_QUERY_TIMEOUT, and keeps the connection",
       function()
      local output = scratch.script([[
        local db   = require "moonpool.db"
        local host = require "moonpool.host"
        local pid, began = db.value "select pg_backend_pid()", host.clock()
        local ok, e = pcall(db.value, "select pg_sleep(30)")
        print(ok, e.code, e.status, e.message:find("DB_QUERY_TIMEOUT", 1, true) ~= nil,
          host.clock() - began < 5)
        print(db.value "select pg_backend_pid()" == pid)
      ]], { DB_POOL_MAX = "1", DB_QUERY_TIMEOUT = "200" })
      assert.are.equal("false\tDEADLINE_EXCEEDED\t504\ttrue\ttrue\ntrue\n", output)
    end)

    it("lets the server end a statement after DB_STATEMENT_TIMEOUT", function()
      local output = scratch.script([[
        local db = require "moonpool.db"
        local ok, e = pcall(db.value, "select pg_sleep(30)")
        print(ok, e.sqlstate)
        ok, e = pcall(db.transaction, function(tx) return tx:value "select pg_sleep(30)" end)
        print(ok, e.sqlstate, db.value "select 1")
      ]], { DB_STATEMENT_TIMEOUT = "200" })
      assert.are.equal("false\t57014\nfalse\t57014\t1\n", output)
    end)

    it("a result beyond MOONPOOL_RESULT_LIMIT is an error, in and outside of transactions",
       function()
      local output = scratch.script([[
        local db  = require "moonpool.db"
        local sql = "select repeat('x', 1000) as x from generate_series(1, 5000)"
        local ok, e = pcall(db.transaction, function(tx) return tx:query(sql) end)
        print(ok, e and e.code)
        ok, e = pcall(db.query, sql)
        print(ok, e and e.code, db.value "select 1")
      ]], { MOONPOOL_RESULT_LIMIT = "1" })
      assert.are.equal("false\tINVALID_ARGUMENT\nfalse\tINVALID_ARGUMENT\t1\n", output)
    end)
  end)

  describe("prepared statements", function()
    local function kept(size)
      return (scratch.script([[
        local db = require "moonpool.db"
        db.lease(function(conn)
          local right = true
          for round = 1, 2 do
            for n = 1, 20 do right = right
              and conn.value(("select %d + $1::int"):format(n), round) == n + round end
          end
          local count = "select count(*) from pg_prepared_statements"
          conn.value(count)
          print(right, conn.value(count))
        end)
      ]], { MOONPOOL_STATEMENT_CACHE = tostring(size) }))
    end

    it("are kept, as many as MOONPOOL_STATEMENT_CACHE says", function()
      assert.are.equal("true\t5\n", kept(5))
      assert.are.equal("true\t0\n", kept(0))
      local many = kept(256):match "^true\t(%d+)\n$"
      assert.is_true(many and tonumber(many) >= 21)
    end)

    it("heal when a table changes under them", function()
      local output = scratch.script([[
        local db    = require "moonpool.db"
        local owner = db.open { url = os.getenv "MOONPOOL_OWNER_URL", max = 1 }
        local sql   = "select * from db_spec.shapes"
        local function columns(run) local n = 0 for _ in pairs(run()) do n = n + 1 end return n end
        db.insert("db_spec.shapes", { id = 1, note = "one" })
        local function inside()
          return db.transaction(function(tx)
            tx:exec "update db_spec.shapes set note = 'two'"
            return tx:first(sql)
          end)
        end
        local function outside() return db.first(sql) end
        print(columns(inside), columns(outside))
        owner.exec "alter table db_spec.shapes add column extra int"
        print("inside", columns(inside))
        owner.exec "alter table db_spec.shapes add column more int"
        print("outside", columns(outside))
        owner.exec "alter table db_spec.shapes alter column extra type text using extra::text"
        print("inside", columns(inside), "outside", columns(outside))
        owner.exec "alter table db_spec.shapes drop column extra, drop column more"
        print("insert", db.insert("db_spec.shapes", { id = 2, note = "n" }).note)
        owner.close()
      ]], { DB_POOL_MAX = "1" })
      assert.are.equal("2\t2\ninside\t3\noutside\t4\ninside\t4\toutside\t4\ninsert\tn\n", output)
    end)

    it("heal when somebody deallocated them", function()
      local one = db.open { url = host.app_url, max = 1 }
      one.value "select 41 + 1"
      one.exec "deallocate all"
      assert.are.equal(42, one.value "select 41 + 1")
      one.close()
    end)
  end)

  describe("a connection that is cut", function()
    local function cut(marker)
      local pid = pid_of(marker)
      test.admin().value("select pg_terminate_backend($1)", pid)
    end

    it("while a query runs is an error, and the next one works", function()
      local query = moonpool.spawn(db.value, "select pg_sleep(30) /* cut query */")
      cut "cut query"
      local e = failure(query.wait, query)
      assert.are.equal("CONNECTION_LOST", e.code)
      assert.are.equal(503, e.status)
      assert.is_nil(e.outcome_unknown)
      assert.are.equal(1, db.value "select 1")
    end)

    it("while a write runs leaves its outcome unknown, and says so", function()
      local write = moonpool.spawn(db.exec,
        "insert into db_spec.things select 1, pg_sleep(30)::text /* cut write */")
      cut "cut write"
      local e = failure(write.wait, write)
      assert.is_true(e.outcome_unknown)
      assert.are.equal(0, schema.owner.value "select count(*) from db_spec.things")
    end)

    it("while idle is replaced unseen", function()
      local one = db.open { url = host.app_url, max = 1 }
      local pid = one.value "select pg_backend_pid()"
      test.admin().value("select pg_terminate_backend($1)", pid)
      await("its end", function()
        return test.admin().value("select count(*) = 0 from pg_stat_activity where pid = $1", pid)
      end)
      -- Either the host has seen the end, or this one meets it: a query that was never run may be
      -- sent again.
      local ok, other = pcall(one.value, "select pg_backend_pid()")
      if not ok then other = one.value "select pg_backend_pid()" end
      assert.are_not.equal(pid, other)
      one.close()
    end)

    it("during a lease fails the lease only", function()
      local one = db.open { url = host.app_url, max = 1 }
      local e = failure(one.lease, function(conn)
        local pid = conn.value "select pg_backend_pid()"
        test.admin().value("select pg_terminate_backend($1)", pid)
        conn.value "select pg_sleep(30)"
      end)
      assert.are.equal("CONNECTION_LOST", e.code)
      assert.are.equal(1, one.value "select 1")
      one.close()
    end)
  end)

  it("a statement that was canceled at the server is QUERY_CANCELED", function()
    local query = moonpool.spawn(db.value, "select pg_sleep(30) /* canceled there */")
    local pid = pid_of "canceled there"
    -- A cancel that comes while the text is only being parsed is lost, so: asleep first.
    await("its sleep", function()
      return test.admin().value(
        "select true from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", pid)
    end)
    test.admin().value("select pg_cancel_backend($1)", pid)
    local e = failure(query.wait, query)
    assert.are.same({ "QUERY_CANCELED", "57014", 504 }, { e.code, e.sqlstate, e.status })
    assert.are.equal(1, db.value "select 1")
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
