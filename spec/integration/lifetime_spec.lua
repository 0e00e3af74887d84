-- What ends early, late, twice or inside of something else: coroutines, finalizers, leases,
-- databases, the process.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local contains = inline.contains

describe("the end of", function()
  local schema

  setup(function()
    schema = scratch.schema("lifetime_spec", {
      "create table lifetime_spec.things (id int primary key, name text)",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function() schema.owner.exec "truncate lifetime_spec.things" end)

  -- Runs fn with a database of its own, of one connection.
  local function with_one_connection(fn)
    local one = db.open { url = host.owner_url, max = 1 }
    local ok, e = pcall(fn, one)
    pcall(one.close)
    if not ok then error(e, 0) end
  end

  local function things()
    return schema.owner.value "select count(*) from lifetime_spec.things"
  end

  -- Runs fn in another task while the table is locked.
  local function while_locked(fn)
    schema.owner.transaction(function(tx)
      tx:exec "lock table lifetime_spec.things in access exclusive mode"
      tx:flush()
      scratch.elsewhere(fn)
    end)
  end

  local function await_blocked(mark)
    scratch.await("a statement to wait for the lock", function()
      return schema.owner.value([[select exists (select from pg_stat_activity
        where wait_event_type = 'Lock' and strpos(query, $1) > 0 and pid <> pg_backend_pid())]],
          mark)
    end)
  end

  describe("a coroutine that another task closes", function()
    it("while it waits in a transaction fails the call; the host goes on", function()
      local output, code = scratch.script [[
        local db       = require "moonpool.db"
        local moonpool = require "moonpool"
        local co, closed
        local ok, e = pcall(db.transaction, function(tx)
          co = coroutine.create(function() tx:query "select pg_sleep(60)" end)
          moonpool.spawn(function()
            while not db.value "select exists (select from pg_stat_activity \z
                                               where wait_event = 'PgSleep')" do
              moonpool.sleep(0)
            end
            closed = coroutine.close(co)
          end)
          coroutine.resume(co)
          tx:value "select 1"
        end)
        print(ok, type(e) == "table" and e.code, closed)
        print("still", db.value "select 42")
      ]]
      contains(output, "false\tCANCELED\ttrue\n", "still\t42\n")
      assert.are.equal(0, code, output)
    end)

    it("while it waits in a statement of its own leaves the host whole", function()
      local output, code = scratch.script [[
        local db       = require "moonpool.db"
        local host     = require "moonpool.host"
        local moonpool = require "moonpool"
        local co = coroutine.create(function() db.query "select pg_sleep(60)" end)
        moonpool.spawn(function() coroutine.resume(co) end)
        while not db.value "select exists (select from pg_stat_activity \z
                                           where wait_event = 'PgSleep')" do
          moonpool.sleep(0)
        end
        print("closed", coroutine.close(co))
        local limit = host.clock() + 20
        while host.pool_stats().active_connections > 0 and host.clock() <
          limit do moonpool.sleep(0) end
        print("active", host.pool_stats().active_connections)
        print("still", db.value "select 42")
      ]]
      contains(output, "closed\ttrue\n", "active\t0\n", "still\t42\n")
      assert.are.equal(0, code, output)
    end)
  end)

  describe("an object", function()
    it("whose finalizer runs a statement does not mix its values into another's", function()
      local output, code = scratch.script [[
        local db = require "moonpool.db"
        collectgarbage("setpause", 100) -- always at it, on a small heap
        db.transaction(function(tx)
          local many, finalized, live = {}, 0, true
          for i = 1, 300 do many[i] = i end
          local function bomb()
            setmetatable({}, { __gc = function()
              if not live then return end
              finalized = finalized + 1
              pcall(tx.exec, tx, "select $1::text", "X")
              bomb()
            end })
          end
          for _ = 1, 5 do bomb() end
          local long, right = ("original"):rep(50), true
          for _ = 1, 60 do
            right = right and tx:value("select $1::text || array_length($2::int[], 1)::text", long,
              many) == long .. "300"
          end
          live = false
          print("right", right, "finalizers ran", finalized > 0)
        end)
      ]]
      contains(output, "right\ttrue\tfinalizers ran\ttrue\n")
      assert.are.equal(0, code, output)
    end)

    it("whose finalizer asks the pool when the host ends gets an error", function()
      local output, code = scratch.script [[
        local host = require "moonpool.host"
        KEEP = setmetatable({}, { __gc = function()
          print(pcall(host.pool_stats))
          print(pcall(host.resize or require("moonpool.pool").resize, 0, 1))
        end })
      ]]
      assert.are.equal(0, code, output)
      contains(output, "false\t")
      contains(output, "closing")
    end)

    it("whose finalizer sends a statement when the host ends does no harm", function()
      local output, code = scratch.script [[
        local db = require "moonpool.db"
        db.value "select 1"
        KEEP = setmetatable({}, { __gc = function()
          print("query", pcall(db.query, "select 1"))
          print("transaction", pcall(db.transaction, function(tx) tx:exec "select 1" end))
        end })
      ]]
      assert.are.equal(0, code, output)
      contains(output, "query\tfalse", "transaction\tfalse")
    end)
  end)

  it("a row's columns: the iterator of one row does not read another that nobody looked at",
     function()
    -- No pcall around it inside: that would look.
    local e = failure(db.transaction, function(tx)
      local settled = tx:one "select 1 as a"
      assert.are.equal(1, settled.a)
      local next_column = pairs(settled)
      local lazy = tx:one "select 2 as a"
      next_column(lazy, nil)
    end)
    contains(e.message, "pairs(row)")
    db.transaction(function(tx)
      local first, second = tx:one "select 1 as a", tx:one "select 2 as a"
      local next_column = pairs(first)
      assert.are.equal(2, second.a)
      assert.are.same({ "a", 2 }, { next_column(second, nil) })
    end)
  end)

  describe("a database is refused while", function()
    local function refused_inside(one)
      local e = failure(one.close)
      assert.are.equal("INVALID_ARGUMENT", e.code)
      contains(e.message, "db.close", "still use")
    end

    it("a lease holds a connection", function()
      with_one_connection(function(one)
        one.lease(function(conn)
          refused_inside(one)
          assert.are.equal(1, conn.value "select 1")
        end)
        one.close()
        contains(failure(one.query, "select 1").message, "closed")
      end)
    end)

    it("a transaction runs", function()
      with_one_connection(function(one)
        one.transaction(function(tx)
          refused_inside(one)
          assert.are.equal(1, tx:value "select 1")
        end)
        one.close()
      end)
    end)

    it("a statement runs", function()
      with_one_connection(function(one)
        local task
        while_locked(function()
          task = moonpool.spawn(one.value,
                                "select count(*) /* closing */ from lifetime_spec.things")
          await_blocked "/* closing */"
          refused_inside(one)
        end)
        assert.are.equal(0, task:wait())
        one.close()
      end)
    end)
  end)

  it("a lease comes with the end of its task: the connection is free at once", function()
    with_one_connection(function(one)
      local holds = false
      collectgarbage "stop" -- the collector must not be what gives it back
      local ok, e = pcall(function()
        -- The operation's time is over while its child sleeps: both are ended.
        local fault = inline.refusal(function()
          moonpool.all { function()
            one.lease(function(conn)
              holds = conn.value "select true"
              moonpool.sleep(1000)
            end)
          end }
        end, { timeout = 0.5 })
        assert.is_true(holds, "there was no lease to end: " .. tostring(fault))
        assert.are.equal(7, one.transaction({ timeout = 5 }, function(tx)
          return tx:value "select 7"
        end))
      end)
      collectgarbage "restart"
      if not ok then error(e, 0) end
      one.close()
    end)
  end)

  describe("a wait for a connection", function()
    it("names who holds it, and no SQL text", function()
      with_one_connection(function(one)
        local e, task
        while_locked(function()
          task = moonpool.spawn(function()
            return one.value "select 'SSN 123-45-6789' from lifetime_spec.things /* held */"
          end)
          await_blocked "/* held */"
          e = failure(one.transaction, { timeout = 0.2 }, function() end)
        end)
        task:wait()
        contains(e.message, "held by", "lifetime_spec.lua:", "a statement running")
        for _, secret in ipairs { "SSN", "6789", "select" } do
          assert.is_nil(tostring(e):lower():find(secret:lower(), 1, true), tostring(e))
        end
      end)
    end)
  end)

  describe("one user's session state comes before the next user:", function()
    local function left(one)
      return one.value "select coalesce(current_setting('app.dealership_id', true), '')"
    end

    it("a cursor with hold", function()
      with_one_connection(function(one)
        one.exec "declare kept cursor with hold for select 'of another' as x"
        assert.are.equal(0, one.value "select count(*) from pg_cursors where name = 'kept'")
        assert.are.equal("34000", failure(one.value, "fetch kept").sqlstate)
      end)
    end)

    it("a temporary table, by either spelling", function()
      with_one_connection(function(one)
        for _, make in ipairs { "create table pg_temp.kept as select 1 as a",
                                "create temp table kept (a int)",
                                "select 1 as a into temp kept",
                                "select 1 as a into pg_temp.kept" } do
          one.exec(make)
          assert.are.equal("42P01",
                           failure(one.value, "select count(*) from pg_temp.kept").sqlstate, make)
        end
      end)
    end)

    it("a setting by the text of a function that calls set_config", function()
      with_one_connection(function(one)
        for _, text in ipairs {
          "select set_config('app.dealership_id', 'another', false)",
          "select pg_catalog.set_config('app.dealership_id', 'another', false)",
          "with x as (select set_config('app.dealership_id', 'another', false) as s) select s \z
            from x",
          "do $$ begin perform set_config('app.dealership_id', 'another', false); end $$",
          "select query_to_xml('select set_config(''app.dealership_id'', ''another'', false)', \z
            true, false, '')",
          "set app.dealership_id = 'another'",
        } do
          one.exec(text)
          assert.are.equal("", left(one), text)
          pcall(one.transaction, function(tx) tx:exec(text) end)
          assert.are.equal("", left(one), text)
          one.lease(function(conn) conn.exec(text) end)
          assert.are.equal("", left(one), text)
        end
      end)
    end)

    it("a lock of the session", function()
      with_one_connection(function(one)
        for _, text in ipairs { "select pg_advisory_lock(42)",
                                "select query_to_xml('select pg_advisory_lock(42)', true, false, \z
                                  '')" } do
          one.query(text)
          scratch.await("the lock to go", function()
            return
              schema.owner.value "select not exists (select from pg_locks where locktype = \z
                'advisory' and objid = 42)"
          end)
        end
      end)
    end)
  end)

  describe("a column's type comes with ALTER TABLE:", function()
    it("the same insert works at the second try", function()
      with_one_connection(function(one)
        schema.owner.exec "create table lifetime_spec.typed (a text)"
        one.insert("lifetime_spec.typed", { a = "{}" })
        schema.owner.exec "alter table lifetime_spec.typed alter column a type jsonb using a::jsonb"
        pcall(one.insert, "lifetime_spec.typed", { a = "{}" })
        one.insert("lifetime_spec.typed", { a = "{}" })
        schema.owner.exec "drop table lifetime_spec.typed"
      end)
    end)

    it("so does one of another shape of value", function()
      with_one_connection(function(one)
        schema.owner.exec "create table lifetime_spec.shaped (a jsonb)"
        one.insert("lifetime_spec.shaped", { a = { 1, 2 } })
        schema.owner.exec "drop table lifetime_spec.shaped"
        schema.owner.exec "create table lifetime_spec.shaped (a int[])"
        pcall(one.insert, "lifetime_spec.shaped", { a = { 1, 2 } })
        one.insert("lifetime_spec.shaped", { a = { 1, 2 } })
        schema.owner.exec "drop table lifetime_spec.shaped"
      end)
    end)
  end)

  it("a statement of a closed database leaves nothing stored", function()
    with_one_connection(function(one)
      one.close()
      failure(one.exec, "insert into lifetime_spec.things (id) values (1)")
      assert.are.equal(0, things())
    end)
  end)

  describe("the process has the status", function()
    for value, status in pairs { ["256"] = 255, ["-1"] = 255, ["255"] = 255, ["3"] = 3, ["0"] = 0,
                                 ["nil"] = 0,
                                 ["1 << 32"] = 255 } do
      it(("%d of a script that returns %s"):format(status, value), function()
        local output, code = scratch.script("return " .. value)
        assert.are.equal(status, code, output)
      end)
    end
  end)
end)
