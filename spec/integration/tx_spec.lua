-- Transactions: lazy rows, failures, savepoints, retries, deadlines, hooks and misuse, on a real server.
local db       = require "moonpool.db"
local failure  = require "spec.support.failure"
local host     = require "moonpool.host"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local pool     = require "moonpool.pool"
local scratch  = require "spec.support.scratch"

local await, elsewhere = scratch.await, scratch.elsewhere

local function define(run, fields)
  local definition = { run = run }
  for name, value in pairs(fields or {}) do definition[name] = value end
  return moonpool.operation(definition)
end

local function call(run, fields, input)
  return (moonpool.call(define(run, fields), input or {}))
end

-- The error of a call, which must fail.
local function refusal(run, fields, input)
  return failure(call, run, fields, input)
end

local function contains(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q is not in: %s"):format(part, tostring(text)))
end

-- The line of this file that calls it, as errors show it.
local function here()
  return "tx_spec.lua:" .. debug.getinfo(2, "l").currentline
end

describe("a transaction", function()
  local schema

  setup(function()
    schema = scratch.schema("tx_spec", {
      [[create table tx_spec.things (
          id int primary key, name text, other text, amount numeric(12,2), constraint things_name_key unique (name))]],
      [[create table tx_spec.late (
          id int primary key, value text constraint late_value_key unique deferrable initially deferred)]],
      "create table tx_spec.counters (id int primary key, n int not null)",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate tx_spec.things, tx_spec.late, tx_spec.counters"
    schema.owner.exec "insert into tx_spec.counters select i, 0 from generate_series(1, 3) i"
  end)

  local function things()
    return schema.owner.value "select count(*) from tx_spec.things"
  end

  local function counter(id)
    return schema.owner.value("select n from tx_spec.counters where id = $1", id or 1)
  end

  -- No connection is out and no backend is inside a transaction.
  local function everything_is_given_back()
    await("the connections to come back", function() return host.pool_stats().active_connections == 0 end)
    await("the server to be idle", function()
      return schema.owner.value [[
        select count(*) = 0 from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
           and state <> 'idle']]
    end)
  end

  -- Raises a serialization failure in tx (repeatable read or serializable): another session changes counter 1 behind
  -- the snapshot's back, then tx does.
  local function conflict(tx)
    tx:value "select n from tx_spec.counters where id = 1"
    elsewhere(function() schema.owner.exec "update tx_spec.counters set n = n + 1 where id = 1" end)
    tx:exec "update tx_spec.counters set n = n + 100 where id = 1"
    tx:value "select 1"
  end

  -- The pool has one connection while fn runs.
  local function with_pool_of_one(fn)
    local stats = host.pool_stats()
    pool.resize(0, 1)
    local ok, e = pcall(function()
      await("the pool to shrink", function() return host.pool_stats().total_connections <= 1 end)
      fn()
    end)
    pool.resize(stats.min, stats.max)
    if not ok then error(e, 0) end
  end

  describe("gives lazy rows", function()
    -- What a call costs once the types of its parameters are known.
    local function cost(run, fields)
      local op = define(run, fields)
      moonpool.call(op, {})
      schema.owner.exec "truncate tx_spec.things"
      return moonpool.call_info(op, {})
    end

    it("that arrive with COMMIT when nobody looks", function()
      local rows, info = cost(function(tx)
        return {
          tx:insert("tx_spec.things", { id = 1, name = "a" }),
          tx:insert("tx_spec.things", { id = 2, name = "b" }),
          tx:insert("tx_spec.things", { id = 3, name = "c" }),
        }
      end)
      assert.are.equal(1, info.round_trips)
      assert.are.equal(3, info.statements)
      assert.are.equal("b", rows[2].name)
      assert.are.equal(3, things())
    end)

    it("that all come with the first look", function()
      local result, info = cost(function(tx)
        local a = tx:insert("tx_spec.things", { id = 1, name = "a" })
        local b = tx:insert("tx_spec.things", { id = 2, name = "b" })
        local n = tx:one "select count(*) as n from tx_spec.things"
        return { a.name, b.name, n.n }
      end)
      assert.are.same({ "a", "b", 2 }, result)
      assert.are.equal(2, info.round_trips)
    end)

    it("one round trip for each look at something new", function()
      local _, info = cost(function(tx)
        local a = tx:insert("tx_spec.things", { id = 1, name = "a" })
        local _ = a.name
        local b = tx:insert("tx_spec.things", { id = 2, name = a.name .. "b" })
        local _ = b.name
        local _ = a.id
      end)
      assert.are.equal(3, info.round_trips)
    end)

    it("nothing to send, no round trip", function()
      local result, info = cost(function() return "nothing" end)
      assert.are.equal("nothing", result)
      assert.are.equal(0, info.round_trips)
    end)

    for what, look in pairs {
      ["a field"] = function(row) return row.name end,
      ["pairs"]   = function(row) for name, value in pairs(row) do if name == "name" then return value end end end,
      ["#"]       = function(row) return #row == 4 and "a" end,
      ["tostring"] = function(row) return tostring(row):match "name = (%w+)" end,
    } do
      it("that " .. what .. " looks at", function()
        assert.are.equal("a", call(function(tx) return look(tx:insert("tx_spec.things", { id = 1, name = "a" })) end))
      end)
    end

    it("whose failure at COMMIT names the line that queued it", function()
      local line
      local e = refusal(function(tx)
        tx:insert("tx_spec.things", { id = 1, name = "a" })
        line = here() tx:insert("tx_spec.things", { id = 1, name = "b" })
        return "never looked at"
      end)
      assert.are.equal("UNIQUE_VIOLATION", e.code)
      assert.are.equal(409, e.status)
      assert.are.equal("23505", e.sqlstate)
      assert.are.equal("things_pkey", e.constraint)
      assert.are.equal("things", e.table)
      contains(e.query, "insert into")
      contains(e.line, line)
      assert.are.equal(0, things())
    end)

    it("whose failure at a look names the line that queued it", function()
      local line
      local e = refusal(function(tx)
        line = here() tx:exec "insert into tx_spec.things (id) values (1), (1)"
        return tx:value "select 1"
      end)
      assert.are.equal("23505", e.sqlstate)
      contains(e.line, line)
    end)

    it("that can be looked at after the commit, but not after a rollback", function()
      local kept
      assert.are.equal("a", call(function(tx) return tx:insert("tx_spec.things", { id = 1, name = "a" }) end).name)
      refusal(function(tx)
        kept = tx:insert("tx_spec.things", { id = 2, name = "b" })
        moonpool.fail("NO", "no")
      end)
      contains(failure(function() return kept.name end).message, "transaction is over")
    end)
  end)

  describe("gives strict rows", function()
    before_each(function()
      schema.owner.exec "insert into tx_spec.things (id, name) values (1, 'a')"
    end)

    local function row()
      return call(function(tx) return tx:one "select * from tx_spec.things where id = 1" end)
    end

    it("an unknown column names the nearest, and the line", function()
      local e = failure(function() return row().nmae end)
      contains(e.message, "nmae")
      contains(e.message, "did you mean `name`?")
      contains(e.line, "tx_spec.lua")
    end)

    it("a column that is like none names none", function()
      assert.is_nil(failure(function() return row().xyzzyxyzzy end).message:find("did you mean", 1, true))
    end)

    it("NULL reads as nil", function()
      assert.is_nil(row().other)
    end)

    it("are read-only", function()
      local r = row()
      contains(failure(function() r.name = "b" end).message or failure(function() r.name = "b" end), "read-only")
      assert.are.equal("a", r.name)
      assert.is_false((pcall(rawset, r, "name", "b")))
    end)

    it("pairs gives every column in order, # their number", function()
      local r, names = row(), {}
      for name in pairs(r) do names[#names + 1] = name end
      assert.are.same({ "id", "name", "other", "amount" }, names)
      assert.are.equal(4, #r)
    end)

    it("tostring shows the values", function()
      assert.are.equal("row { id = 1, name = a, other = NULL, amount = NULL }", tostring(row()))
    end)

    it("query gives an array, first a row or nil, value the first column or nil, count the number of rows", function()
      local result = call(function(tx)
        tx:exec "insert into tx_spec.things (id, name) values (2, 'b'), (3, 'c')"
        local rows = tx:query "select * from tx_spec.things order by id"
        return {
          rows = { #rows, rows[1].name, rows[3].name },
          none = #tx:query "select * from tx_spec.things where false",
          first = tx:first("select * from tx_spec.things where id = $1", 2).name,
          no_first = tx:first "select * from tx_spec.things where false" == nil,
          value = tx:value "select name from tx_spec.things where id = 3",
          no_value = tx:value "select name from tx_spec.things where false" == nil,
          count = tx:count "update tx_spec.things set other = 'x' where id > 1",
          no_count = tx:count "delete from tx_spec.things where false",
          exec = select("#", tx:exec "delete from tx_spec.things where id = 3"),
        }
      end)
      assert.are.same({
        rows = { 3, "a", "c" }, none = 0, first = "b", no_first = true, value = "c", no_value = true, count = 2,
        no_count = 0, exec = 0,
      }, result)
    end)
  end)

  describe("one()", function()
    it("without a row is a 404 with the message's $names filled in", function()
      local e = refusal(function(tx, input)
        return tx:one("select 1 from tx_spec.things where id = $id and name = $name", input,
                      "Thing not found: $id of $name, $nobody").id
      end, nil, { id = 7, name = "x" })
      assert.are.equal("RESOURCE_NOT_FOUND", e.code)
      assert.are.equal(404, e.status)
      assert.are.equal("Thing not found: 7 of x, $nobody", e.message)
    end)

    it("without a row and without a message is a 404 too, naming its line", function()
      local line
      local e = refusal(function(tx)
        line = here() local row = tx:one("select 1 as id from tx_spec.things where id = $1", 7)
        return row.id
      end)
      assert.are.equal("RESOURCE_NOT_FOUND", e.code)
      assert.are.equal(404, e.status)
      contains(e.line, line)
    end)

    it("with two rows is an error", function()
      local e = refusal(function(tx) return tx:one("select generate_series(1, 2) as i").i end)
      assert.are.equal("TOO_MANY_ROWS", e.code)
      assert.are.equal(500, e.status)
    end)

    it("that nobody looked at is verified before COMMIT", function()
      local e = refusal(function(tx)
        tx:insert("tx_spec.things", { id = 1, name = "a" })
        tx:one("select 1 from tx_spec.things where id = $id", { id = 7 }, "Thing not found: $id")
        tx:insert("tx_spec.things", { id = 2, name = "b" })
        return "fine"
      end)
      assert.are.equal("Thing not found: 7", e.message)
      assert.are.equal(0, things())
    end)

    it("that is missing dooms the transaction, though pcall caught it", function()
      local e = refusal(function(tx)
        tx:insert("tx_spec.things", { id = 1, name = "a" })
        pcall(function() return tx:one("select 1 as x where false", nil, "Missing").x end)
        return "fine"
      end)
      assert.are.equal("Missing", e.message)
      assert.are.equal(0, things())
    end)

    it("the first failure in the script's order decides", function()
      local e = refusal(function(tx)
        tx:one("select 1 where false", nil, "First")
        tx:exec "insert into tx_spec.things (id) values (1), (1)"
        tx:one("select 1 where false", nil, "Third")
      end)
      assert.are.equal("First", e.message)
    end)
  end)

  describe("that failed", function()
    it("stays failed when pcall caught it: nothing is stored, the first error is the caller's", function()
      local inside, afterwards
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.things (id) values (1)"
        local _
        _, inside = pcall(function() return tx:value "select 1 / 0" end)
        _, afterwards = pcall(function() return tx:value "select 2" end)
        pcall(function() tx:exec "insert into tx_spec.things (id) values (2)" end)
        return "fine"
      end)
      assert.are.equal("22012", inside.sqlstate)
      assert.are.equal("22012", afterwards.sqlstate)
      assert.are.equal("22012", e.sqlstate)
      assert.are.equal(0, things())
      everything_is_given_back()
    end)

    it("queued outside of a pcall does not fail inside it", function()
      local caught
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.things (id) values (1), (1)"
        caught = not pcall(function() return tx:value "select 1" end)
      end)
      assert.are.equal("23505", e.sqlstate)
      assert.is_nil(caught)
    end)

    it("queued inside a pcall does not fail outside it", function()
      local ok, inner
      refusal(function(tx)
        ok, inner = pcall(function() tx:exec "insert into tx_spec.things (id) values (1), (1)" end)
      end)
      assert.is_false(ok)
      assert.are.equal("23505", inner.sqlstate)
    end)

    it("is found out by any wait, before it goes on", function()
      for _, wait in pairs {
        function() moonpool.sleep(0) end,
        function() elsewhere(function() end) end,
        function() moonpool.all { function() end } end,
      } do
        local passed = false
        local e = refusal(function(tx)
          tx:exec "insert into tx_spec.things (id) values (1), (1)"
          wait()
          passed = true
        end)
        assert.are.equal("23505", e.sqlstate)
        assert.is_false(passed)
      end
    end)

    it("by a script's error stores nothing and raises it with its place", function()
      local line
      local e = refusal(function(tx)
        assert(tx:insert("tx_spec.things", { id = 1 }).id == 1)
        line = here() error "out of ideas"
      end)
      assert.are.equal("SCRIPT_ERROR", e.code)
      assert.are.equal("out of ideas", e.message)
      contains(e.line, line)
      contains(e.traceback, line)
      assert.are.equal(1, e.attempts)
      assert.are.equal(0, things())
    end)

    it("by moonpool.fail gives its code, status and further fields", function()
      local e = refusal(function(tx)
        tx:insert("tx_spec.things", { id = 1 })
        moonpool.fail("TEAPOT", "short and stout", { status = 418, spout = "here" })
      end)
      assert.are.same({ "TEAPOT", "short and stout", 418, "here" }, { e.code, e.message, e.status, e.spout })
      assert.are.equal(0, things())
    end)

    it("at COMMIT is a failure with the constraint's name", function()
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.late values (1, 'same'), (2, 'same')"
        return tx:value "select count(*) from tx_spec.late"
      end)
      assert.are.equal("23505", e.sqlstate)
      assert.are.equal("UNIQUE_VIOLATION", e.code)
      assert.are.equal(409, e.status)
      assert.are.equal("late_value_key", e.constraint)
      assert.are.equal(0, schema.owner.value "select count(*) from tx_spec.late")
      everything_is_given_back()
    end)

    local errors = {
      things_name_key = { "NAME_TAKEN", 409, "That name is taken" },
      things_pkey     = { "ID_TAKEN", 422 },
      late_value_key  = { "VALUE_TAKEN", 409 },
    }

    for what, look in pairs { ["at a look"] = true, ["at COMMIT, unlooked"] = false } do
      it("by a constraint of `errors` " .. what .. " has the operation's own code", function()
        local e = refusal(function(tx)
          tx:insert("tx_spec.things", { id = 1, name = "a" })
          local row = tx:insert("tx_spec.things", { id = 2, name = "a" })
          return look and row.id or nil
        end, { errors = errors })
        assert.are.same({ "NAME_TAKEN", 409, "That name is taken", "things_name_key" },
          { e.code, e.status, e.message, e.constraint })
        e = refusal(function(tx)
          local row = tx:query "insert into tx_spec.things (id) values (1), (1)"
          return look and #row or nil
        end, { errors = errors })
        assert.are.same({ "ID_TAKEN", 422, "things_pkey" }, { e.code, e.status, e.constraint })
      end)
    end

    it("by a deferred constraint of `errors` has the operation's own code", function()
      local e = refusal(function(tx) tx:exec "insert into tx_spec.late values (1, 'same'), (2, 'same')" end,
        { errors = errors })
      assert.are.same({ "VALUE_TAKEN", 409, "late_value_key" }, { e.code, e.status, e.constraint })
    end)
  end)

  describe("savepoint()", function()
    it("gives what its function gives", function()
      assert.are.same({ 1, nil, "three", n = 3 }, call(function(tx)
        return table.pack(tx:savepoint(function(inner)
          inner:exec "insert into tx_spec.things (id) values (1)"
          return 1, nil, "three"
        end))
      end))
      assert.are.equal(1, things())
    end)

    it("undoes only what is inside, raises the error, and the rest commits", function()
      local caught
      call(function(tx)
        tx:exec "insert into tx_spec.things (id) values (1)"
        local ok, e = pcall(function()
          tx:savepoint(function()
            tx:exec "insert into tx_spec.things (id) values (2)"
            return tx:value "select 1 / 0"
          end)
        end)
        caught = not ok and e
        tx:exec "insert into tx_spec.things (id) values (3)"
      end)
      assert.are.equal("22012", caught.sqlstate)
      assert.are.equal("1,3", schema.owner.value "select string_agg(id::text, ',' order by id) from tx_spec.things")
    end)

    it("undoes on a script's error too", function()
      call(function(tx)
        local ok, e = pcall(function()
          tx:savepoint(function()
            tx:exec "insert into tx_spec.things (id) values (2)"
            moonpool.fail("NO", "no")
          end)
        end)
        assert.are.same({ false, "NO" }, { ok, e.code })
        tx:exec "insert into tx_spec.things (id) values (3)"
      end)
      assert.are.equal("3", schema.owner.value "select string_agg(id::text, ',' order by id) from tx_spec.things")
    end)

    it("that nobody catches fails the transaction", function()
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.things (id) values (1)"
        tx:savepoint(function() return tx:value "select 1 / 0" end)
      end)
      assert.are.equal("22012", e.sqlstate)
      assert.are.equal(0, things())
    end)

    it("nests", function()
      call(function(tx)
        tx:savepoint(function()
          tx:exec "insert into tx_spec.things (id) values (1)"
          pcall(function()
            tx:savepoint(function()
              tx:exec "insert into tx_spec.things (id) values (2)"
              tx:savepoint(function() tx:exec "insert into tx_spec.things (id) values (3)" end)
              return tx:value "select 1 / 0"
            end)
          end)
          tx:savepoint(function() tx:exec "insert into tx_spec.things (id) values (4)" end)
        end)
      end)
      assert.are.equal("1,4", schema.owner.value "select string_agg(id::text, ',' order by id) from tx_spec.things")
    end)

    it("fails with what was queued in it, at the latest when it is released", function()
      local caught
      call(function(tx)
        local ok, e = pcall(function()
          tx:savepoint(function() tx:exec "insert into tx_spec.things (id) values (1), (1)" end)
        end)
        caught = not ok and e
        tx:exec "insert into tx_spec.things (id) values (2)"
      end)
      assert.are.equal("23505", caught.sqlstate)
      assert.are.equal("2", schema.owner.value "select string_agg(id::text, ',' order by id) from tx_spec.things")
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
        tx:exec "insert into tx_spec.things (id) values (1), (1)"
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
        local row = tx:savepoint(function() return tx:insert("tx_spec.things", { id = 1, name = "a" }) end)
        return row.name
      end))
    end)

    it("undone, its rows raise what became of them", function()
      call(function(tx)
        local row
        pcall(function()
          tx:savepoint(function()
            row = tx:insert("tx_spec.things", { id = 1, name = "a" })
            moonpool.fail("NO", "no")
          end)
        end)
        assert.is_false((pcall(function() return row.name end)))
        assert.are.equal(0, tx:value "select count(*) from tx_spec.things")
      end)
    end)

    it("many one after another, and a hundred deep", function()
      local function deeper(tx, n)
        if n == 0 then return tx:exec "insert into tx_spec.things (id) values (1)" end
        tx:savepoint(function() deeper(tx, n - 1) end)
      end
      call(function(tx)
        deeper(tx, 100)
        for i = 2, 51 do tx:savepoint(function() tx:exec("insert into tx_spec.things (id) values ($1)", i) end) end
      end)
      assert.are.equal(51, things())
    end)
  end)

  describe("is restarted from the top", function()
    it("after a serialization failure, which pcall cannot see", function()
      local attempts, seen_by_pcall = {}, 0
      local result, info = moonpool.call_info(define(function(tx)
        attempts[#attempts + 1] = tx.attempt
        tx:exec("insert into tx_spec.things (id) values ($1)", tx.attempt)
        local ok = pcall(function() if tx.attempt < 3 then conflict(tx) end end)
        if not ok then seen_by_pcall = seen_by_pcall + 1 end
        return "attempt " .. tx.attempt
      end, { isolation = "repeatable read" }), {})
      assert.are.equal("attempt 3", result)
      assert.are.same({ 1, 2, 3 }, attempts)
      assert.are.equal(0, seen_by_pcall)
      assert.are.same({ 3, 2, 0 }, { info.attempts, info.retries_serialization, info.retries_deadlock })
      assert.are.equal("3", schema.owner.value "select string_agg(id::text, ',') from tx_spec.things")
      assert.are.equal(2, counter())
    end)

    it("from any depth of savepoints", function()
      local _, info = moonpool.call_info(define(function(tx)
        tx:savepoint(function()
          pcall(function()
            tx:savepoint(function() if tx.attempt == 1 then conflict(tx) end end)
          end)
        end)
        tx:exec("insert into tx_spec.things (id) values ($1)", tx.attempt)
      end, { isolation = "repeatable read" }), {})
      assert.are.equal(2, info.attempts)
      assert.are.equal("2", schema.owner.value "select string_agg(id::text, ',') from tx_spec.things")
    end)

    it("when two serializable transactions write what the other read, found at COMMIT or before", function()
      -- Write skew: both see the sum 0 and add 1 to a counter of their own; one of the two orders must be kept.
      local inside = 0
      local function add(own)
        return define(function(tx)
          local sum = tx:value "select sum(n) from tx_spec.counters where id < 3"
          if tx.attempt == 1 then
            inside = inside + 1
            await("the other transaction", function() return inside == 2 end)
          end
          tx:exec("update tx_spec.counters set n = n + $2 + 1 where id = $1", own, sum)
        end, { isolation = "serializable" })
      end
      local infos = moonpool.all {
        function() return (select(2, moonpool.call_info(add(1), {}))) end,
        function() return (select(2, moonpool.call_info(add(2), {}))) end,
      }
      assert.are.equal(3, infos[1].attempts + infos[2].attempts)
      assert.are.equal(3, counter(1) + counter(2))
    end)

    it("after a deadlock", function()
      local inside = 0
      local function lock(first, second)
        return define(function(tx)
          tx:value("update tx_spec.counters set n = n + 1 where id = $1 returning n", first)
          if tx.attempt == 1 then
            inside = inside + 1
            await("the other transaction", function() return inside == 2 end)
          end
          tx:value("update tx_spec.counters set n = n + 1 where id = $1 returning n", second)
        end)
      end
      local before = host.transaction_stats().deadlock_retries
      local infos = moonpool.all {
        function() return (select(2, moonpool.call_info(lock(1, 2), {}))) end,
        function() return (select(2, moonpool.call_info(lock(2, 1), {}))) end,
      }
      assert.are.equal(3, infos[1].attempts + infos[2].attempts)
      assert.are.equal(1, infos[1].retries_deadlock + infos[2].retries_deadlock)
      assert.are.equal(before + 1, host.transaction_stats().deadlock_retries)
      assert.are.same({ 2, 2 }, { counter(1), counter(2) })
    end)

    it("with fresh input, though the script changed it", function()
      local seen = {}
      call(function(tx, input)
        seen[#seen + 1] = ("%s %d %s"):format(input.name, #input.list, tostring(input.extra))
        input.name, input.list[2], input.extra = "changed", "more", "new"
        if tx.attempt == 1 then conflict(tx) end
      end, { isolation = "repeatable read", input = is.object { name = is.string, list = is.array(is.string) } },
        { name = "given", list = { "one" } })
      assert.are.same({ "given 1 nil", "given 1 nil" }, seen)
    end)

    it("with the same uuids, time and random numbers", function()
      local drawn = {}
      call(function(tx)
        drawn[#drawn + 1] = { tx:uuid(), tx:now(), tx:random(), tx:uuid(), tx:random(1000000), tx:now() }
        if tx.attempt < 3 then conflict(tx) end
      end, { isolation = "repeatable read" })
      assert.are.equal(3, #drawn)
      assert.are.same(drawn[1], drawn[2])
      assert.are.same(drawn[1], drawn[3])
      assert.are_not.equal(drawn[1][1], drawn[1][4])
      assert.is_truthy(drawn[1][1]:match "^%x+%-%x+%-7%x+%-[89ab]%x+%-%x+$")
      assert.is_truthy(drawn[1][2]:match "^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d+Z$")
      assert.is_true(drawn[1][3] >= 0 and drawn[1][3] < 1)
      assert.is_true(drawn[1][5] >= 1 and drawn[1][5] <= 1000000)
    end)

    it("other calls draw other ones", function()
      local function draw() return call(function(tx) return tx:uuid() .. tx:random() end) end
      assert.are_not.equal(draw(), draw())
    end)

    it("as often as `retries` says, then the failure is the caller's", function()
      local runs = 0
      local e = refusal(function(tx)
        runs = runs + 1
        tx:exec("insert into tx_spec.things (id) values ($1)", runs)
        conflict(tx)
      end, { isolation = "repeatable read", retries = 2 })
      assert.are.equal(3, runs)
      assert.are.equal(3, e.attempts)
      assert.are.equal("SERIALIZATION_FAILURE", e.code)
      assert.are.equal("40001", e.sqlstate)
      assert.are.equal(503, e.status)
      assert.is_true(e.retryable)
      assert.are.equal(0, things())
      everything_is_given_back()
    end)

    it("never with retries = 0", function()
      local runs = 0
      local e = refusal(function(tx)
        runs = runs + 1
        conflict(tx)
      end, { isolation = "repeatable read", retries = 0 })
      assert.are.same({ 1, 1 }, { runs, e.attempts })
    end)

    it("not after an ordinary failure", function()
      local runs = 0
      refusal(function(tx)
        runs = runs + 1
        tx:exec "insert into tx_spec.things (id) values (1), (1)"
      end)
      assert.are.equal(1, runs)
    end)

    it("not for an error that a script dressed up as a serialization failure", function()
      local runs = 0
      local e = refusal(function()
        runs = runs + 1
        moonpool.fail("SERIALIZATION_FAILURE", "pretended", { sqlstate = "40001", retryable = true })
      end)
      assert.are.same({ 1, "pretended" }, { runs, e.message })
    end)

    it("when its connection is cut before COMMIT", function()
      local _, info = moonpool.call_info(define(function(tx)
        tx:exec("insert into tx_spec.things (id) values ($1)", tx.attempt)
        local pid = tx:value "select pg_backend_pid()"
        if tx.attempt == 1 then
          elsewhere(function() require "moonpool.test".admin().value("select pg_terminate_backend($1)", pid) end)
          pcall(function() return tx:value "select pg_sleep(10)" end)
        end
      end), {})
      assert.are.same({ 2, 1 }, { info.attempts, info.retries_connection })
      assert.are.equal("2", schema.owner.value "select string_agg(id::text, ',') from tx_spec.things")
    end)

    it("db.transaction as well", function()
      local runs = 0
      db.transaction({ isolation = "repeatable read" }, function(tx)
        runs = runs + 1
        if tx.attempt == 1 then conflict(tx) end
      end)
      assert.are.equal(2, runs)
    end)
  end)

  describe("keeps its deadline", function()
    local function assert_late(e, began)
      assert.are.equal("DEADLINE_EXCEEDED", e.code)
      assert.are.equal(504, e.status)
      assert.is_true(host.clock() - began < 5, "it took too long")
      everything_is_given_back()
      assert.are.equal(0, things())
    end

    it("while a statement runs", function()
      local began = host.clock()
      local seen_by_pcall = false
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.things (id) values (1)"
        seen_by_pcall = not pcall(function() return tx:value "select pg_sleep(30)" end)
      end, { timeout = 0.2 })
      assert_late(e, began)
      assert.is_false(seen_by_pcall)
    end)

    it("while the script waits for something else", function()
      local began = host.clock()
      local e = refusal(function(tx)
        tx:insert("tx_spec.things", { id = 1 })
        moonpool.sleep(30)
      end, { timeout = 0.2 })
      assert_late(e, began)
    end)

    it("while it waits for a row lock", function()
      local held, release = false, false
      local holder = moonpool.spawn(function()
        return db.transaction(function(tx)
          tx:value "select n from tx_spec.counters where id = 1 for update"
          held = true
          await("the release", function() return release end)
        end)
      end)
      await("the lock", function() return held end)
      local began = host.clock()
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.things (id) values (1)"
        tx:value "select n from tx_spec.counters where id = 1 for update"
      end, { timeout = 0.2 })
      release = true
      holder:wait()
      assert_late(e, began)
    end)

    it("while it waits for a connection", function()
      with_pool_of_one(function()
        local held, release = false, false
        local holder = moonpool.spawn(function()
          db.lease(function(conn)
            conn.value "select 1"
            held = true
            await("the release", function() return release end)
          end)
        end)
        await("the lease", function() return held end)
        local began, runs = host.clock(), 0
        local e = refusal(function() runs = runs + 1 end, { timeout = 0.2 })
        local waiting = host.pool_stats().waiting_clients
        release = true
        holder:wait()
        assert.are.equal(0, runs)
        assert.are.equal(0, waiting)
        assert_late(e, began)
      end)
    end)

    it("between attempts", function()
      local began = host.clock()
      local e = refusal(function(tx)
        tx:exec("insert into tx_spec.things (id) values ($1)", tx.attempt)
        conflict(tx)
      end, { isolation = "repeatable read", timeout = 0.5, retries = 100 })
      -- It gives up when the next attempt would start too late, with the failure that would have been retried.
      assert.is_truthy(e.code == "DEADLINE_EXCEEDED" or e.code == "SERIALIZATION_FAILURE", e.code)
      assert.is_true(e.attempts > 1)
      assert.is_true(host.clock() - began < 3)
      everything_is_given_back()
      assert.are.equal(0, things())
    end)

    it("over all attempts together", function()
      local runs, began = 0, host.clock()
      local e = refusal(function(tx)
        runs = runs + 1
        if tx.attempt == 1 then conflict(tx) end
        tx:value "select pg_sleep(30)"
      end, { isolation = "repeatable read", timeout = 0.7 })
      assert.are.equal(2, runs)
      assert.are.equal(2, e.attempts)
      assert_late(e, began)
    end)

    it("of db.transaction", function()
      local began = host.clock()
      local e = failure(db.transaction, { timeout = 0.2 }, function(tx)
        tx:exec "insert into tx_spec.things (id) values (1)"
        tx:value "select pg_sleep(30)"
      end)
      assert_late(e, began)
    end)
  end)

  describe("runs hooks:", function()
    it("after_commit once each, when the work is visible", function()
      local runs, visible, early = 0, nil, nil
      call(function(tx)
        tx:on_rollback(function() runs = runs + 100 end)
        tx:after_commit(function()
          visible = db.value "select count(*) from tx_spec.things"
          runs = runs + 1
        end)
        tx:exec "insert into tx_spec.things (id) values (1)"
        tx:after_commit(function() runs = runs + 10 end)
        tx:value "select 1"
        early = runs
      end)
      await("the hooks", function() return runs >= 11 end)
      db.value "select 1"
      assert.are.same({ 0, 11, 1 }, { early, runs, visible })
    end)

    it("after_commit of the attempt that committed only", function()
      local seen = {}
      call(function(tx)
        local attempt = tx.attempt
        tx:after_commit(function() seen[#seen + 1] = attempt end)
        tx:on_rollback(function() seen[#seen + 1] = "rollback" end)
        if attempt < 3 then conflict(tx) end
      end, { isolation = "repeatable read" })
      await("the hook", function() return #seen > 0 end)
      assert.are.same({ 3 }, seen)
    end)

    it("on_rollback gets the reason, after_commit does not run", function()
      local seen, committed = nil, false
      refusal(function(tx)
        tx:after_commit(function() committed = true end)
        tx:on_rollback(function(e) seen = e end)
        tx:exec "insert into tx_spec.things (id) values (1), (1)"
      end)
      await("the hook", function() return seen end)
      assert.are.equal("23505", seen.sqlstate)
      assert.is_false(committed)
    end)

    it("on_rollback once, after the last attempt", function()
      local seen = {}
      refusal(function(tx)
        tx:on_rollback(function(e) seen[#seen + 1] = e end)
        conflict(tx)
      end, { isolation = "repeatable read", retries = 1 })
      await("the hook", function() return #seen > 0 end)
      assert.are.equal(1, #seen)
      assert.are.equal("40001", seen[1].sqlstate)
      assert.are.equal(2, seen[1].attempts)
    end)

    it("on_rollback of a deadline", function()
      local seen
      refusal(function(tx)
        tx:on_rollback(function(e) seen = e end)
        tx:value "select pg_sleep(30)"
      end, { timeout = 0.2 })
      await("the hook", function() return seen end)
      assert.are.equal("DEADLINE_EXCEEDED", seen.code)
    end)

    it("on_rollback of a COMMIT that failed", function()
      local seen, committed = nil, false
      refusal(function(tx)
        tx:after_commit(function() committed = true end)
        tx:on_rollback(function(e) seen = e end)
        tx:exec "insert into tx_spec.late values (1, 'same'), (2, 'same')"
      end)
      await("the hook", function() return seen end)
      assert.are.equal("23505", seen.sqlstate)
      assert.is_false(committed)
    end)

    it("an error in one is counted and changes nothing", function()
      local before, other = host.transaction_stats().hook_errors, false
      assert.are.equal("fine", call(function(tx)
        tx:after_commit(function() error "a hook that fails on purpose" end)
        tx:after_commit(function() other = true end)
        tx:exec "insert into tx_spec.things (id) values (1)"
        return "fine"
      end))
      await("the hooks", function() return other and host.transaction_stats().hook_errors == before + 1 end)
      assert.are.equal(1, things())
    end)
  end)

  describe("refuses misuse, naming call and line:", function()
    local function assert_misuse(e, call_name, line)
      assert.are.equal("INVALID_ARGUMENT", e.code)
      contains(e.message, call_name)
      contains(e.line, line)
    end

    it("tx after the end", function()
      local kept, line
      call(function(tx) kept = tx end)
      for name, use in pairs {
        ["tx:value"] = function() line = here() return kept:value "select 1", nil end,
        ["tx:exec"] = function() line = here() kept:exec "select 1" end,
        ["tx:one"] = function() line = here() kept:one "select 1" end,
        ["tx:insert"] = function() line = here() kept:insert("tx_spec.things", { id = 1 }) end,
        ["tx:savepoint"] = function() line = here() kept:savepoint(function() end) end,
        ["tx:after_commit"] = function() line = here() kept:after_commit(function() end) end,
        ["tx:uuid"] = function() line = here() kept:uuid() end,
      } do
        local e = failure(use)
        assert_misuse(e, name, line)
        contains(e.message, "over")
      end
    end)

    it("tx of an attempt that was given up", function()
      local first, second
      call(function(tx)
        if tx.attempt == 1 then
          first = tx
          conflict(tx)
        end
        second = failure(function() return first:value "select 1" end)
      end, { isolation = "repeatable read" })
      contains(second.message, "over")
    end)

    it("tx from another task", function()
      local e, line
      call(function(tx)
        e = failure(function()
          moonpool.spawn(function()
            line = here() local value = tx:value "select 1"
            return value
          end):wait()
        end)
        tx:exec "insert into tx_spec.things (id) values (1)"
      end)
      assert_misuse(e, "tx:value", line)
      contains(e.message, "another task")
      assert.are.equal(1, things())
    end)

    it("a wait where Lua cannot yield", function()
      local line
      local e = refusal(function(tx)
        table.sort({ 3, 1, 2 }, function(a, b)
          line = here() local less = tx:value("select $1 < $2", a, b)
          return less
        end)
      end)
      assert_misuse(e, "tx:value", line)
      e = refusal(function(tx)
        local row = tx:one "select 1 as x"
        return (("x"):gsub("x", function()
          line = here() local x = row.x
          return x
        end))
      end)
      assert_misuse(e, "row", line)
    end)

    it("a wait in a comparator leaves the transaction usable when it is caught", function()
      call(function(tx)
        pcall(table.sort, { 2, 1 }, function() return tx:value "select true" end)
        tx:exec "insert into tx_spec.things (id) values (1)"
      end)
      assert.are.equal(1, things())
    end)

    for what, case in pairs {
      ["too few values"]  = { "2 parameters", function(tx) tx:exec("select $1::int, $2::int", 1) end },
      ["too many values"] = { "1 parameter", function(tx) tx:exec("select $1::int", 1, 2) end },
      ["values for none"] = { "0 parameters", function(tx) tx:exec("select 1", 1) end },
      ["no table"]        = { "$id", function(tx) tx:exec("select $id::int", 1) end },
      ["a missing $name"] = { "$other", function(tx) tx:exec("select $id::int, $other::int", { id = 1 }) end },
      ["$name and $1"]    = { "mixes", function(tx) tx:exec("select $id::int, $1::int", { id = 1 }) end },
      ["no text"]         = { "SQL text", function(tx) tx:exec() end },
      ["a NUL in the text"] = { "NUL", function(tx) tx:exec "select 1\0" end },
      ["a function as value"] = { "function", function(tx) tx:exec("select $1::int", print) end },
    } do
      it(what, function()
        local e = refusal(function(tx) case[2](tx) end)
        assert_misuse(e, "tx:exec", "tx_spec.lua:")
        contains(e.message, case[1])
      end)
    end

    it("methods called with a dot, unknown fields", function()
      assert_misuse(refusal(function(tx) tx.exec("select 1") end), "tx:exec", "tx_spec.lua:")
      contains(refusal(function(tx) return tx.qurey end).message, "qurey")
    end)

    it("insert without table, without values, with odd names", function()
      for _, arguments in ipairs { {}, { "tx_spec.things" }, { "tx_spec.things", { 1, 2 } },
                                   { "tx_spec.things; drop table x", { id = 1 } },
                                   { "tx_spec.things", { ["id\") --"] = 1 } } } do
        assert_misuse(refusal(function(tx) tx:insert(table.unpack(arguments)) end), "tx:insert", "tx_spec.lua:")
      end
    end)

    it("db.* inside of an operation", function()
      for name, use in pairs {
        ["db.query"] = function() db.query "select 1" end,
        ["db.value"] = function() db.value "select 1" end,
        ["db.transaction"] = function() db.transaction(function() end) end,
        ["db.lease"] = function() db.lease(function() end) end,
      } do
        local e = refusal(function() use() end)
        assert_misuse(e, name, "tx_spec.lua:")
        contains(e.message, "tx")
      end
    end)
  end)

  describe("takes parameters:", function()
    it("nil and moonpool.null are NULL", function()
      assert.are.same({ true, true, true, 2 }, call(function(tx)
        return {
          tx:value("select $1::int is null", nil),
          tx:value("select $1::text is null", moonpool.null),
          tx:value("select $a::text is null and $b::text = 'b'", { a = moonpool.null, b = "b" }),
          tx:value("select coalesce($1::int, $2::int)", nil, 2),
        }
      end))
    end)

    it("an optional field that a schema knows may be absent", function()
      assert.is_true(call(function(tx, input) return tx:value("select $note::text is null", input) end,
        { input = is.object { name = is.string, note = is.string:optional() } }, { name = "x" }))
    end)

    it("the same $name twice, and what only looks like one", function()
      local row = call(function(tx)
        return tx:one([[select $name::text as a, $name || '$name' as b, $$ $name $$ as c, /* $nobody */ $x$ $1 $x$ as d,
                        E'\'$name' as e -- $nobody
                      ]], { name = "n" })
      end)
      assert.are.same({ "n", "n$name", " $name ", " $1 ", "'$name" }, { row.a, row.b, row.c, row.d, row.e })
    end)

    it("insert writes defaults for what is not named, NULL for null", function()
      local row = call(function(tx)
        return tx:insert("tx_spec.things", { id = 1, name = moonpool.null, amount = "12.50" })
      end)
      assert.are.equal("1 nil 12.50", ("%d %s %s"):format(row.id, row.name, row.amount))
    end)
  end)

  describe("joined by moonpool.call", function()
    local insert = define(function(tx, input)
      tx:exec("insert into tx_spec.things (id) values ($id)", input)
      if input.fail then moonpool.fail("INNER", "inner failed") end
      return { xid = tx:value "select pg_current_xact_id()::text", pid = tx:value "select pg_backend_pid()" }
    end)

    it("is the same transaction on the same connection", function()
      local same = call(function(tx)
        local inner = moonpool.call(insert, { id = 1 })
        return inner.xid == tx:value "select pg_current_xact_id()::text" and inner.pid == tx:value "select pg_backend_pid()"
      end)
      assert.is_true(same)
      assert.are.equal(1, things())
    end)

    it("rolls back with the caller", function()
      refusal(function()
        moonpool.call(insert, { id = 1 })
        moonpool.fail("OUTER", "outer failed")
      end)
      assert.are.equal(0, things())
    end)

    it("is a savepoint: its failure can be caught", function()
      call(function(tx)
        moonpool.call(insert, { id = 1 })
        assert.are.equal("INNER", failure(moonpool.call, insert, { id = 2, fail = true }).code)
        tx:exec "insert into tx_spec.things (id) values (3)"
      end)
      assert.are.equal("1,3", schema.owner.value "select string_agg(id::text, ',' order by id) from tx_spec.things")
    end)

    it("needs no second connection", function()
      with_pool_of_one(function()
        call(function() moonpool.call(insert, { id = 1 }) end, { timeout = 5 })
        assert.are.equal(1, things())
      end)
    end)

    it("keeps its own error names", function()
      local inner = define(function(tx) tx:exec "insert into tx_spec.things (id) values (1), (1)" end,
        { errors = { things_pkey = { "INNER_TAKEN", 409 } } })
      assert.are.equal("INNER_TAKEN", refusal(function() moonpool.call(inner, {}) end).code)
    end)

    it("is refused for a higher isolation", function()
      local strict = define(function() end, { isolation = "serializable" })
      local e = refusal(function() moonpool.call(strict, {}) end)
      assert.are.equal("INVALID_ARGUMENT", e.code)
      contains(e.message, "serializable")
    end)

    it("restarts the caller from the top", function()
      local inner = define(function(tx) if tx.attempt == 1 then conflict(tx) end end, { isolation = "repeatable read" })
      local _, info = moonpool.call_info(define(function() pcall(moonpool.call, inner, {}) end,
        { isolation = "repeatable read" }), {})
      assert.are.equal(2, info.attempts)
    end)
  end)

  describe("has the properties it was asked for:", function()
    for _, level in ipairs { "read committed", "repeatable read", "serializable" } do
      it(level, function()
        local function shown(tx) return tx:value "select current_setting('transaction_isolation')" end
        assert.are.equal(level, call(shown, { isolation = level }))
        assert.are.equal(level, db.transaction({ isolation = level }, shown))
      end)
    end

    it("read_only refuses writes", function()
      for _, look in ipairs { true, false } do
        local e = refusal(function(tx)
          tx:exec "insert into tx_spec.things (id) values (1)"
          return look and tx:value "select 1" or nil
        end, { read_only = true })
        assert.are.equal("25006", e.sqlstate)
        assert.are.equal(0, things())
      end
      assert.are.equal(0, call(function(tx) return tx:value "select count(*) from tx_spec.things" end,
        { read_only = true, isolation = "serializable", deferrable = true }))
    end)

    it("an unknown isolation is refused", function()
      contains(failure(db.transaction, { isolation = "chaos" }, function() end).message, "chaos")
      contains(failure(moonpool.operation, { isolation = "chaos", run = print }), "isolation")
    end)

    it("an unknown option of db.transaction is refused", function()
      contains(failure(db.transaction, { isolaton = "serializable" }, function() end), "isolaton")
    end)
  end)

  describe("of an operation may not send", function()
    for _, sql in ipairs {
      "set application_name = 'x'", "set local app.dealership_id = 'x'", "reset all", "show all", "discard all",
      "select set_config('a.b', 'c', true)", "select pg_catalog.set_config('a.b', 'c', true)",
      [[select "set_config"('a.b', 'c', true)]], "with x as (select set_config('a.b', 'c', true)) select * from x",
      "insert into tx_spec.things (id, name) values (1, set_config('a.b', 'c', true))",
      "begin", "start transaction", "commit", "rollback", "end", "savepoint x", "release x", "rollback to x",
      "prepare transaction 'x'", "do $$ begin end $$", "call x()", "listen x", "notify x", "unlisten *",
      "prepare x as select 1", "execute x", "deallocate all", "declare x cursor for select 1",
      "create table tx_spec.more (id int)", "create temp table more (id int)", "drop table tx_spec.things",
      "alter table tx_spec.things add x int", "truncate tx_spec.things", "grant all on tx_spec.things to public",
      "copy tx_spec.things to stdout", "vacuum", "checkpoint", "load 'x'",
      "select 1; select 2", "select 1; commit", "", " ", "-- nothing", "selec 1",
    } do
      it(sql == "" and "an empty text" or sql, function()
        local e = refusal(function(tx)
          tx:exec(sql)
          return tx:value "select 1"
        end)
        assert.are.equal("INVALID_ARGUMENT", e.code)
        contains(e.message, "tx:exec")
        contains(e.line, "tx_spec.lua:")
      end)
    end

    -- Ways around the parser: the role has no right either.
    for what, sql in pairs {
      ["an update of pg_settings"] = [[
        update pg_settings set setting = '00000000-0000-0000-0000-000000000000' where name = 'app.dealership_id']],
      ["SQL inside of a function"] = [[
        select query_to_xml('select set_config(''app.dealership_id'', ''00000000-0000-0000-0000-000000000000'', true)',
                            true, true, '')]],
      ["SQL inside of ts_stat"] = [[
        select * from ts_stat('select set_config(''app.dealership_id'', ''00000000-0000-0000-0000-000000000000'', true)::tsvector')]],
    } do
      it("its tenant's change by " .. what, function()
        local id = moonpool.uuid()
        local after
        pcall(call, function(tx)
          pcall(function() tx:savepoint(function() tx:query(sql) end) end)
          after = tx:value "select current_setting('app.dealership_id')"
        end, { tenant = "dealership_id", input = is.object { dealership_id = is.uuid } }, { dealership_id = id })
        assert.are.equal(id, after)
      end)
    end

    it("SELECT INTO, which makes a table", function()
      refusal(function(tx) tx:exec "select 1 as x into temp made" end)
      refusal(function(tx) tx:exec "select 1 as x into tx_spec.made" end)
    end)
  end)
end)
