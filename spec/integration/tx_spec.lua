-- Transactions: lazy and strict rows, missing rows, failures, on a real server.
local failure  = require "spec.support.data.failure"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local elsewhere = scratch.elsewhere
local define, call, refusal, contains, here = inline.define, inline.call, inline.refusal,
  inline.contains, inline.here

describe("a transaction", function()
  local schema

  setup(function()
    schema = scratch.schema("tx_spec", {
      [[create table tx_spec.things (
          id int primary key, name text, other text, amount numeric(12,2),
            constraint things_name_key unique (name))]],
      [[create table tx_spec.late (
          id int primary key, value text constraint late_value_key unique deferrable initially
            deferred)]],
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate tx_spec.things, tx_spec.late"
  end)

  local function things()
    return schema.owner.value "select count(*) from tx_spec.things"
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

    it("a few thousand of them, more than the network holds at once", function()
      local rows, info = cost(function(tx)
        local rows = {}
        for i = 1, 3000 do
          rows[i] = tx:insert("tx_spec.things",
                              { id = i, name = ("%d "):format(i) .. ("x"):rep(2000) })
        end
        return rows
      end)
      assert.are.equal(1, info.round_trips)
      assert.are.equal(3000, things())
      assert.are.equal(3000, rows[3000].id)
      assert.are.equal("17 ", rows[17].name:sub(1, 3))
    end)

    it("also to a coroutine of the script's own", function()
      assert.are.same({ "a", 1, "b" }, call(function(tx)
        local names = {}
        local next_name = coroutine.wrap(function()
          local row = tx:insert("tx_spec.things", { id = 1, name = "a" })
          coroutine.yield(row.name)
          coroutine.yield(tx:value "select count(*) from tx_spec.things")
          tx:savepoint(function()
            coroutine.yield(tx:insert("tx_spec.things", { id = 2, name = "b" }).name)
          end)
        end)
        for _ = 1, 3 do names[#names + 1] = next_name() end
        next_name()
        return names
      end))
    end)

    it("nothing to send, no round trip", function()
      local result, info = cost(function() return "nothing" end)
      assert.are.equal("nothing", result)
      assert.are.equal(0, info.round_trips)
    end)

    for what, look in pairs {
      ["a field"] = function(row) return row.name end,
      ["pairs"]   = function(row)
        for name, value in pairs(row) do if name == "name" then return value end end
      end,
      ["#"]       = function(row) return #row == 4 and "a" end,
      ["tostring"] = function(row) return tostring(row):match "name = (%w+)" end,
    } do
      it("that " .. what .. " looks at", function()
        assert.are.equal("a", call(function(tx)
          return look(tx:insert("tx_spec.things", { id = 1, name = "a" }))
        end))
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
      assert.are.equal("a", call(function(tx)
        return tx:insert("tx_spec.things", { id = 1, name = "a" })
      end).name)
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
      assert.is_nil(failure(function()
        return row().xyzzyxyzzy
      end).message:find("did you mean", 1, true))
    end)

    it("NULL reads as nil", function()
      assert.is_nil(row().other)
    end)

    it("are read-only", function()
      local r = row()
      contains(failure(function()
        r.name = "b"
      end).message or failure(function() r.name = "b" end), "read-only")
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

    it(
      "query gives an array, first a row or nil, value the first column or nil, count the number \z
        of rows", function()
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
        rows = { 3, "a", "c" }, none = 0, first = "b", no_first = true, value = "c",
        no_value = true, count = 2,
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

    it("keeps a message readable, however long it and its values are", function()
      local function message_of(text, value)
        return refusal(function(tx)
          tx:one("select 1 from tx_spec.things where name = $name", { name = value }, text)
        end).message
      end
      assert.are.equal(("ä"):rep(100) .. " " .. ("ö"):rep(90),
        message_of(("ä"):rep(100) .. " $name", ("ö"):rep(90)))
      for n = 0, 1 do
        assert.is_truthy(utf8.len(message_of(("x"):rep(n) .. ("é"):rep(1000) .. " $name", "a")),
                         "a broken character")
        assert.is_truthy(utf8.len(message_of(("x"):rep(n) .. "$name", ("é"):rep(1000))),
                         "a broken character")
      end
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
    it("stays failed when pcall caught it: nothing is stored, the first error is the caller's",
       function()
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
      inline.everything_is_given_back(schema.owner)
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

    for name, protected in pairs {
      pcall = pcall, xpcall = function(fn) return xpcall(fn, function(e) return e end) end,
    } do
      it("queued inside of " .. name .. " does not fail outside of it", function()
        local ok, inner
        refusal(function(tx)
          ok, inner = protected(function()
            tx:exec "insert into tx_spec.things (id) values (1), (1)"
          end)
        end)
        assert.is_false(ok)
        assert.are.equal("23505", inner.sqlstate)
      end)
    end

    it("is found out by any wait, before it goes on", function()
      for _, wait in ipairs {
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

    for what, value in pairs {
      ["nil"] = false, ["a number"] = 42,
      ["a table"] = { code = "OWN", message = "own", status = 409 },
    } do
      it("by " .. what .. " that is raised stores nothing and gives an error object", function()
        local e = refusal(function(tx)
          local _ = tx:insert("tx_spec.things", { id = 1 }).id
          error(value or nil)
        end)
        assert.are.equal(type(value) == "table" and "OWN" or "SCRIPT_ERROR", e.code)
        assert.are.equal("string", type(e.message))
        assert.are.equal(0, things())
      end)
    end

    it("by moonpool.fail gives its code, status and further fields", function()
      local e = refusal(function(tx)
        tx:insert("tx_spec.things", { id = 1 })
        moonpool.fail("TEAPOT", "short and stout", { status = 418, spout = "here" })
      end)
      assert.are.same({ "TEAPOT", "short and stout", 418, "here" },
                      { e.code, e.message, e.status, e.spout })
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
      inline.everything_is_given_back(schema.owner)
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
      local e = refusal(function(tx)
        tx:exec "insert into tx_spec.late values (1, 'same'), (2, 'same')"
      end,
        { errors = errors })
      assert.are.same({ "VALUE_TAKEN", 409, "late_value_key" }, { e.code, e.status, e.constraint })
    end)
  end)
end)
