-- What a call says about what happened: stored or not, refused or not, once or more than once.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local define, call, refusal, contains = inline.define, inline.call, inline.refusal, inline.contains

describe("the outcome of", function()
  local schema

  setup(function()
    schema = scratch.schema("outcome_spec", {
      "create table outcome_spec.things (id int, name text)",
      "create table outcome_spec.counters (id int primary key, n int not null)",
      [[create table outcome_spec.named ("prénom" text, b text)]],
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate outcome_spec.things, outcome_spec.counters, outcome_spec.named"
    schema.owner.exec "insert into outcome_spec.counters values (1, 0)"
  end)

  local function things()
    return schema.owner.value "select count(*) from outcome_spec.things"
  end

  -- Raises a serialization failure in tx (repeatable read): another session changes what its
  -- snapshot has seen.
  local function conflict(tx)
    tx:value "select n from outcome_spec.counters where id = 1"
    scratch.elsewhere(function()
      schema.owner.exec "update outcome_spec.counters set n = n + 1 where id = 1"
    end)
    tx:exec "update outcome_spec.counters set n = n + 100 where id = 1"
    tx:flush()
  end

  describe("a result beyond MOONPOOL_RESULT_LIMIT", function()
    local INSERT = [["insert into outcome_spec.things (name)
                      select repeat('x', 1000) from generate_series(1, 3000) returning name"]]

    local function script(text)
      local output, code = scratch.script('local db = require "moonpool.db"\nlocal INSERT = ' ..
        INSERT:gsub("%s+", " ") .. "\n" .. text, { MOONPOOL_RESULT_LIMIT = "1" })
      assert.are.equal(0, code, output)
      return output
    end

    it("that nobody looks at is no reason to call a commit failed", function()
      local output =
        script [[print(pcall(db.transaction, function(tx) tx:exec(INSERT) return "stored" end))]]
      contains(output, "true\tstored")
      assert.are.equal(3000, things())
    end)

    it("is counted", function()
      contains(script [[print(pcall(db.count, INSERT))]], "true\t3000")
      contains(script [[print(pcall(db.transaction, function(tx) return tx:count(INSERT) end))]],
               "true\t3000")
      assert.are.equal(6000, things())
    end)

    it("that is looked at fails the look, naming the limit, and the transaction with it", function()
      local output =
        script [[print(pcall(db.transaction, function(tx) return #tx:query(INSERT) end))]]
      contains(output, "false\t", "INVALID_ARGUMENT", "MOONPOOL_RESULT_LIMIT")
      assert.are.equal(0, things())
    end)
  end)

  describe("transaction control by hand", function()
    for _, sql in ipairs { "begin", "start transaction", "commit", "end", "rollback", "abort",
                           "SAVEPOINT x",
                           "savepoint s1", "release savepoint s1", "rollback to savepoint s1",
                           "commit and chain",
                           "prepare transaction 'x'", "/* hidden */ commit",
                           "set transaction read only; commit" } do
      it("is a refusal in db.transaction: " .. sql, function()
        local e = failure(db.transaction, function(tx)
          tx:exec "insert into outcome_spec.things (id) values (1)"
          tx:exec(sql)
          tx:exec "insert into outcome_spec.things (id) values (2)"
        end)
        assert.are.equal("INVALID_ARGUMENT", e.code, tostring(e))
        contains(e.message, "tx:exec")
        assert.are.equal(0, things())
      end)
    end

    it("is a refusal in every call of tx", function()
      for _, name in ipairs { "exec", "query", "first", "one", "value", "count" } do
        local e = failure(db.transaction, function(tx) tx[name](tx, "commit") end)
        assert.are.equal("INVALID_ARGUMENT", e.code, name)
        contains(e.message, "tx:" .. name)
      end
    end)

    it("cannot confuse the host's own savepoint", function()
      db.transaction(function(tx)
        tx:exec "insert into outcome_spec.things (id) values (1)"
        contains(failure(tx.savepoint, tx, function()
          tx:exec "insert into outcome_spec.things (id) values (10)"
          tx:flush()
          pcall(tx.exec, tx, "SAVEPOINT mine")
          error("undo me", 0)
        end), "undo me")
      end)
      assert.are.equal(
        "1", schema.owner.value "select string_agg(id::text, ',') from outcome_spec.things")
    end)
  end)

  describe("a text that is not one statement", function()
    for what, sql in pairs { ["nothing"] = "", ["blanks"] = " \n\t ", ["a comment"] = "-- nothing",
                             ["a block comment"] = "/* a /* b */ c */", ["a semicolon"] = ";",
                             ["two statements"] = "select 1; select 2",
                             ["a write after a read"] =
                               "select 1; insert into outcome_spec.things (id) values (1)" } do
      it("is INVALID_ARGUMENT: " .. what, function()
        local function check(e)
          assert.are.equal("INVALID_ARGUMENT", e.code, tostring(e))
          assert.is_falsy(e.outcome_unknown)
          assert.is_falsy(e.retryable)
          contains(e.line, "outcome_spec.lua:")
        end
        for _, name in ipairs { "query", "first", "one", "value", "count", "exec" } do
          check(failure(function() db[name](sql) end))
        end
        local attempts = 0
        check(failure(db.transaction, function(tx)
          attempts = attempts + 1
          tx:exec(sql)
        end))
        check(failure(db.lease, function(conn) conn.exec(sql) end))
        assert.are.equal(1, attempts)
        assert.are.equal(0, things())
      end)
    end
  end)

  describe("a tenant's operation that starts tasks", function()
    local fields = { tenant = "dealership_id", input = is.object { dealership_id = is.uuid } }
    local other = define(function(tx) return tx.tenant end, fields)
    local plain = define(function(tx)
      return tx:value "select current_setting('app.dealership_id', true)"
    end)

    local escapes = {
      ["db.query"]       = function() return db.query "select 1" end,
      ["db.value"]       = function() return db.value "select 1" end,
      ["db.insert"]      = function() return db.insert("outcome_spec.things", { id = 1 }) end,
      ["db.lease"]       = function()
        return db.lease(function(conn) return conn.value "select 1" end)
      end,
      ["db.transaction"] = function()
        return db.transaction({ tenant = { dealership_id = moonpool.uuid() } }, function(tx)
          return tx:value "select 1"
        end)
      end,
      ["moonpool.call"]  = function()
        return moonpool.call(other, { dealership_id = moonpool.uuid() })
      end,
      ["moonpool.call of one without tenant"] = function() return (moonpool.call(plain, {})) end,
    }
    local ways = {
      ["moonpool.all"]   = function(fn) return moonpool.all { fn }[1] end,
      ["moonpool.spawn"] = function(fn) return moonpool.spawn(fn):wait() end,
      ["a grandchild"]   = function(fn)
        return moonpool.all { function() return moonpool.spawn(fn):wait() end }[1]
      end,
      ["a coroutine in a task"] = function(fn)
        return moonpool.spawn(function() return coroutine.wrap(fn)() end):wait()
      end,
    }
    for call_name, escape in pairs(escapes) do
      for way, start in pairs(ways) do
        it(("keeps %s away from %s"):format(way, call_name), function()
          local e
          call(function()
            e = failure(start, escape)
          end, fields, { dealership_id = moonpool.uuid() })
          assert.are.equal("INVALID_ARGUMENT", e.code, tostring(e))
          contains(e.message, "tenant")
          assert.are.equal(0, things())
        end)
      end
    end

    it("lets them compute", function()
      assert.are.equal(3, call(function()
        return moonpool.all { function() return 1 + 2 end }[1]
      end, fields,
        { dealership_id = moonpool.uuid() }))
    end)
  end)

  it("an integer tenant that is not the caller's is MULTI_TENANT_VIOLATION", function()
    local ran = false
    local op = define(function(tx) ran = true return tx.tenant end,
      { tenant = "dealership_id", input = is.object { dealership_id = is.integer } })
    local e = failure(moonpool.call, op, { dealership_id = 5 }, { tenant = "7" })
    assert.are.same({ "MULTI_TENANT_VIOLATION", 403, false }, { e.code, e.status, ran })
    assert.are.equal("7", (moonpool.call(op, { dealership_id = 7 }, { tenant = "7" })))
  end)

  describe("a call in a comparator", function()
    for name, insert in pairs {
      count = function(tx) return tx:count "insert into outcome_spec.things (id) values (1)" end,
      query = function(tx)
        return tx:query "insert into outcome_spec.things (id) values (1) returning id"
      end,
      value = function(tx)
        return tx:value "insert into outcome_spec.things (id) values (1) returning true"
      end,
    } do
      it(("that raises has stored nothing: tx:%s"):format(name), function()
        db.transaction(function(tx)
          tx:flush()
          local e = failure(table.sort, { 2, 1 }, function() return insert(tx) end)
          contains(e.message, "tx:" .. name)
        end)
        assert.are.equal(0, things())
      end)
    end
  end)

  describe("hooks", function()
    it("of an undone savepoint is that they do not run", function()
      local ran = {}
      db.transaction(function(tx)
        tx:after_commit(function() ran[#ran + 1] = "first" end)
        failure(tx.savepoint, tx, function()
          tx:after_commit(function() ran[#ran + 1] = "undone" end)
          tx:savepoint(function()
            tx:after_commit(function() ran[#ran + 1] = "undone inside" end)
          end)
          error "x"
        end)
        tx:savepoint(function() tx:after_commit(function() ran[#ran + 1] = "kept" end) end)
        tx:after_commit(function() ran[#ran + 1] = "last" end)
      end)
      scratch.await("the hooks", function() return ran[#ran] == "last" end)
      assert.are.same({ "first", "kept", "last" }, ran)
    end)

    it("of an operation that was caught is the same", function()
      local ran = {}
      local inner = define(function(tx)
        tx:after_commit(function() ran[#ran + 1] = "undone" end)
        moonpool.fail("INNER", "inner failed")
      end)
      call(function(tx)
        failure(moonpool.call, inner, {})
        tx:after_commit(function() ran[#ran + 1] = "last" end)
      end)
      scratch.await("the hook", function() return ran[#ran] == "last" end)
      assert.are.same({ "last" }, ran)
    end)
  end)

  describe("each attempt", function()
    it("begins with a fresh input, with or without a schema", function()
      for what, input in pairs { none = false, any = is.object { list = is.any, deep = is.any } } do
        local seen = {}
        local sent = { list = { "a" }, deep = { inner = { n = 1 } } }
        call(function(tx, given)
          seen[tx.attempt] = ("%d %d"):format(#given.list, given.deep.inner.n)
          given.list[#given.list + 1] = "b"
          given.deep.inner.n = given.deep.inner.n + 1
          if tx.attempt < 3 then conflict(tx) end
        end, { isolation = "repeatable read", retries = 5, input = input or nil }, sent)
        assert.are.same({ "1 1", "1 1", "1 1" }, seen, what)
        assert.are.same({ list = { "a" }, deep = { inner = { n = 1 } } }, sent, what)
      end
    end)

    it("draws the same uuids, each of them once", function()
      local drawn, all = {}, {}
      local function draw(tx)
        local uuids = {}
        for i = 1, 40 do uuids[i] = i % 3 == 0 and tx:uuid() or tx:uuid(4) end
        drawn[#drawn + 1] = uuids
        if tx.attempt < 3 then conflict(tx) end
      end
      for _ = 1, 2 do call(draw, { isolation = "repeatable read", retries = 5 }) end
      assert.are.equal(6, #drawn)
      assert.are.same(drawn[1], drawn[2])
      assert.are.same(drawn[1], drawn[3])
      assert.are.same(drawn[4], drawn[6])
      local distinct = 0
      for _, uuids in ipairs { drawn[1], drawn[4] } do
        for _, uuid in ipairs(uuids) do
          if not all[uuid] then distinct = distinct + 1 end
          all[uuid] = true
        end
      end
      assert.are.equal(80, distinct)
    end)
  end)

  describe("parameters beside identifiers beyond ASCII", function()
    it("is that they are told apart", function()
      db.insert("outcome_spec.named", { b = "x" })
      local row = db.one([[select "prénom" as né, b as é$name, $name::text as "é$name2"
        from outcome_spec.named
                            where b = $b]], { name = "n", b = "x" })
      assert.are.same({ "x", "n" }, { row["é$name"], row["é$name2"] })
      call(function(tx)
        assert.are.equal(1, tx:value("select 1 as é$x where $y", { x = "unused", y = true }))
        assert.are.equal("v", tx:value([[select $x::text as "é"]], { x = "v" }))
      end)
    end)
  end)

  it("a text whose parameters the server counts otherwise is one failure, not a loop", function()
    -- With standard_conforming_strings off the server sees one long string where the host sees $1.
    local output, code = scratch.script [[
      local db       = require "moonpool.db"
      local moonpool = require "moonpool"
      local over = false
      moonpool.spawn(function()
        moonpool.sleep(5)
        if not over then os.exit(9) end
      end)
      local function show(name, ok, e) print(name, ok, type(e) == "table" and e.code, e) end
      db.lease(function(conn)
        conn.exec "set standard_conforming_strings = off"
        -- A table is sent by the type that the server tells: the text is described first.
        show("described", pcall(conn.query, [=[select 'a\', $1 --']=], { 1, 2 }))
        show("again", pcall(conn.query, [=[select 'a\', $1 --']=], { 1, 2 }))
        show("after", pcall(conn.value, "select 1"))
      end)
      over = true
      os.exit(0)
    ]]
    assert.are.equal(0, code, output)
    contains(output, "described\tfalse\tINVALID_ARGUMENT", "again\tfalse\tINVALID_ARGUMENT",
             "after\ttrue")
  end)

  it("a refused call is told by its code", function()
    assert.are.equal("INVALID_ARGUMENT", refusal(function(tx) tx:exec "SAVEPOINT x" end).code)
  end)
end)
