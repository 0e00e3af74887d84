-- moonpool.db: the pool and its limits, prepared statements, lost connections.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

local await = scratch.await

describe("moonpool.db, its pool", function()
  local schema

  setup(function()
    schema = scratch.schema("db_pool", {
      "create table db_pool.things (id int primary key, name text)",
      "create table db_pool.shapes (id int primary key, note text)",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate db_pool.things"
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
        local sql   = "select * from db_pool.shapes"
        local function columns(run) local n = 0 for _ in pairs(run()) do n = n + 1 end return n end
        db.insert("db_pool.shapes", { id = 1, note = "one" })
        local function inside()
          return db.transaction(function(tx)
            tx:exec "update db_pool.shapes set note = 'two'"
            return tx:first(sql)
          end)
        end
        local function outside() return db.first(sql) end
        print(columns(inside), columns(outside))
        owner.exec "alter table db_pool.shapes add column extra int"
        print("inside", columns(inside))
        owner.exec "alter table db_pool.shapes add column more int"
        print("outside", columns(outside))
        owner.exec "alter table db_pool.shapes alter column extra type text using extra::text"
        print("inside", columns(inside), "outside", columns(outside))
        owner.exec "alter table db_pool.shapes drop column extra, drop column more"
        print("insert", db.insert("db_pool.shapes", { id = 2, note = "n" }).note)
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
        "insert into db_pool.things select 1, pg_sleep(30)::text /* cut write */")
      cut "cut write"
      local e = failure(write.wait, write)
      assert.is_true(e.outcome_unknown)
      assert.are.equal(0, schema.owner.value "select count(*) from db_pool.things")
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
end)
