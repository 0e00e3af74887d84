-- Transactions: misuse, parameters, operations that join, properties, SQL that an operation may not
-- send.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local elsewhere = scratch.elsewhere
local define, call, refusal = inline.define, inline.call, inline.refusal
local contains, here = inline.contains, inline.here

describe("a transaction", function()
  local schema

  setup(function()
    schema = scratch.schema("tx_rules_spec", {
      [[create table tx_rules_spec.things (
          id int primary key, name text, other text, amount numeric(12,2),
            constraint things_name_key unique (name))]],
      "create table tx_rules_spec.counters (id int primary key, n int not null)",
    })
  end)

  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec "truncate tx_rules_spec.things, tx_rules_spec.counters"
    schema.owner.exec "insert into tx_rules_spec.counters select i, 0 from generate_series(1, 3) i"
  end)

  local function things()
    return schema.owner.value "select count(*) from tx_rules_spec.things"
  end

  -- Raises a serialization failure in tx (repeatable read or serializable): another session changes
  -- counter 1 behind the snapshot's back, then tx does.
  local function conflict(tx)
    tx:value "select n from tx_rules_spec.counters where id = 1"
    elsewhere(function()
      schema.owner.exec "update tx_rules_spec.counters set n = n + 1 where id = 1"
    end)
    tx:exec "update tx_rules_spec.counters set n = n + 100 where id = 1"
    tx:value "select 1"
  end

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
        ["tx:insert"] = function()
          line = here() kept:insert("tx_rules_spec.things", { id = 1 })
        end,
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
        tx:exec "insert into tx_rules_spec.things (id) values (1)"
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
        tx:exec "insert into tx_rules_spec.things (id) values (1)"
      end)
      assert.are.equal(1, things())
    end)

    for what, case in pairs {
      ["too few values"]  = { "2 parameters", function(tx)
        tx:exec("select $1::int, $2::int", 1)
      end },
      ["too many values"] = { "1 parameter", function(tx) tx:exec("select $1::int", 1, 2) end },
      ["values for none"] = { "0 parameters", function(tx) tx:exec("select 1", 1) end },
      ["no table"]        = { "$id", function(tx) tx:exec("select $id::int", 1) end },
      ["a missing $name"] = { "$other", function(tx)
        tx:exec("select $id::int, $other::int", { id = 1 })
      end },
      ["$name and $1"]    = { "mixes", function(tx)
        tx:exec("select $id::int, $1::int", { id = 1 })
      end },
      ["no text"]         = { "SQL text", function(tx) tx:exec() end },
      ["a NUL in the text"] = { "NUL", function(tx) tx:exec "select 1\0" end },
      ["a function as value"] = { "function", function(tx) tx:exec("select $1::int", print) end },
    } do
      it(what, function()
        local e = refusal(function(tx) case[2](tx) end)
        assert_misuse(e, "tx:exec", "tx_rules_spec.lua:")
        contains(e.message, case[1])
      end)
    end

    it("methods called with a dot, unknown fields", function()
      assert_misuse(refusal(function(tx) tx.exec("select 1") end), "tx:exec", "tx_rules_spec.lua:")
      contains(refusal(function(tx) return tx.qurey end).message, "qurey")
    end)

    it("insert without table, without values, with odd names", function()
      for _, arguments in ipairs { {}, { "tx_rules_spec.things" },
                                   { "tx_rules_spec.things", { 1, 2 } },
                                   { "tx_rules_spec.things; drop table x", { id = 1 } },
                                   { "tx_rules_spec.things", { ["id\") --"] = 1 } } } do
        assert_misuse(refusal(function(tx)
          tx:insert(table.unpack(arguments))
        end), "tx:insert", "tx_rules_spec.lua:")
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
        assert_misuse(e, name, "tx_rules_spec.lua:")
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
      assert.is_true(call(function(tx, input)
        return tx:value("select $note::text is null", input)
      end,
        { input = is.object { name = is.string, note = is.string:optional() } }, { name = "x" }))
    end)

    it("the same $name twice, and what only looks like one", function()
      local row = call(function(tx)
        return tx:one([[select $name::text as a, $name || '$name' as b, $$ $name $$ as c,
          /* $nobody */ $x$ $1 $x$ as d,
                        E'\'$name' as e -- $nobody
                      ]], { name = "n" })
      end)
      assert.are.same({ "n", "n$name", " $name ", " $1 ", "'$name" },
                      { row.a, row.b, row.c, row.d, row.e })
    end)

    it("insert writes defaults for what is not named, NULL for null", function()
      local row = call(function(tx)
        return tx:insert("tx_rules_spec.things", { id = 1, name = moonpool.null, amount = "12.50" })
      end)
      assert.are.equal("1 nil 12.50", ("%d %s %s"):format(row.id, row.name, row.amount))
    end)
  end)

  describe("joined by moonpool.call", function()
    local insert = define(function(tx, input)
      tx:exec("insert into tx_rules_spec.things (id) values ($id)", input)
      if input.fail then moonpool.fail("INNER", "inner failed") end
      return { xid = tx:value "select pg_current_xact_id()::text",
               pid = tx:value "select pg_backend_pid()" }
    end)

    it("is the same transaction on the same connection", function()
      local same = call(function(tx)
        local inner = moonpool.call(insert, { id = 1 })
        return inner.xid == tx:value "select pg_current_xact_id()::text"
          and inner.pid == tx:value "select pg_backend_pid()"
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
        tx:exec "insert into tx_rules_spec.things (id) values (3)"
      end)
      assert.are.equal(
        "1,3",
        schema.owner.value "select string_agg(id::text, ',' order by id) from tx_rules_spec.things")
    end)

    it("needs no second connection", function()
      inline.with_pool_of(1, function()
        call(function() moonpool.call(insert, { id = 1 }) end, { timeout = 5 })
        assert.are.equal(1, things())
      end)
    end)

    it("keeps its own error names", function()
      local inner = define(function(tx)
        tx:exec "insert into tx_rules_spec.things (id) values (1), (1)"
      end,
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
      local inner = define(function(tx)
        if tx.attempt == 1 then conflict(tx) end
      end, { isolation = "repeatable read" })
      local _, info = moonpool.call_info(define(function() pcall(moonpool.call, inner, {}) end,
        { isolation = "repeatable read" }), {})
      assert.are.equal(2, info.attempts)
    end)
  end)

  describe("has the properties it was asked for:", function()
    for _, level in ipairs { "read committed", "repeatable read", "serializable" } do
      it(level, function()
        local function shown(tx)
          return tx:value "select current_setting('transaction_isolation')"
        end
        assert.are.equal(level, call(shown, { isolation = level }))
        assert.are.equal(level, db.transaction({ isolation = level }, shown))
      end)
    end

    it("read_only refuses writes", function()
      for _, look in ipairs { true, false } do
        local e = refusal(function(tx)
          tx:exec "insert into tx_rules_spec.things (id) values (1)"
          return look and tx:value "select 1" or nil
        end, { read_only = true })
        assert.are.equal("25006", e.sqlstate)
        assert.are.equal(0, things())
      end
      assert.are.equal(0, call(function(tx)
        return tx:value "select count(*) from tx_rules_spec.things"
      end,
        { read_only = true, isolation = "serializable", deferrable = true }))
    end)

    it("an unknown isolation is refused", function()
      contains(failure(db.transaction, { isolation = "chaos" }, function() end).message, "chaos")
      contains(failure(moonpool.operation, { isolation = "chaos", run = print }), "isolation")
    end)

    it("options of db.transaction that make no sense are refused by name", function()
      for name, values in pairs { timeout = { -1, 0, 0 / 0, math.huge, "soon" },
                                  retries = { -1, 1.5, 1000, "many" },
                                  tenant = { 7, {} } } do
        for _, value in ipairs(values) do
          local ran = false
          local e = failure(db.transaction, { [name] = value }, function() ran = true end)
          assert.is_false(ran, name .. " = " .. tostring(value))
          contains(e, name)
        end
      end
    end)

    it("the tenant, whatever its text", function()
      for _, tenant in ipairs { "plain", "it's", "a\\b", "'; reset all; --", ("x"):rep(1000) } do
        local ok, shown = pcall(db.transaction, { tenant = { dealership_id = tenant } },
                                function(tx)
          return tx:value "select current_setting('app.dealership_id')"
        end)
        -- Too long may be refused, but never be another tenant.
        if ok or #tenant < 100 then assert.are.equal(tenant, shown) end
      end
      assert.is_truthy(failure(db.transaction, { tenant = { ["a.b; --"] = "x" } }, function() end))
    end)

    it("the tenant is gone with the transaction", function()
      inline.with_pool_of(1, function()
        db.transaction({ tenant = { dealership_id = "x" } }, function(tx) tx:value "select 1" end)
        pcall(db.transaction, { tenant = { dealership_id = "x" } }, function(tx)
          tx:value "select 1 / 0"
        end)
        assert.are.equal(
          "", db.value "select coalesce(current_setting('app.dealership_id', true), '')")
      end)
    end)

    it("tx tells its attempt, isolation, tenant and caller", function()
      local id, user = moonpool.uuid(), moonpool.uuid()
      local op = define(function(tx)
        return { tx.attempt, tx.isolation, tx.tenant, tx.caller.user_id }
      end,
        { isolation = "serializable", tenant = "dealership_id",
          input = is.object { dealership_id = is.uuid } })
      assert.are.same({ 1, "serializable", id, user },
        (moonpool.call(op, { dealership_id = id }, { tenant = id, as = user })))
    end)

    it("the tenant of the caller is not the input's to change", function()
      local ran = false
      local op = define(function() ran = true end,
        { tenant = "dealership_id", input = is.object { dealership_id = is.uuid } })
      local e = failure(moonpool.call, op, { dealership_id = moonpool.uuid() },
                        { tenant = moonpool.uuid() })
      assert.are.same({ "MULTI_TENANT_VIOLATION", 403, false }, { e.code, e.status, ran })
    end)

    it("an operation of another tenant does not join", function()
      local fields = { tenant = "dealership_id", input = is.object { dealership_id = is.uuid } }
      local ran = false
      local inner = define(function() ran = true end, fields)
      local e = refusal(function()
        moonpool.call(inner, { dealership_id = moonpool.uuid() })
      end, fields,
        { dealership_id = moonpool.uuid() })
      assert.are.same({ "MULTI_TENANT_VIOLATION", 403, false }, { e.code, e.status, ran })
      -- Nor does one with a tenant join a transaction without: its statements would run as
      -- nobody's.
      e = refusal(function() moonpool.call(inner, { dealership_id = moonpool.uuid() }) end)
      assert.is_false(ran, "it ran without its tenant")
      assert.is_truthy(e.code)
    end)

    it("an unknown option of db.transaction is refused", function()
      contains(failure(db.transaction, { isolaton = "serializable" }, function() end), "isolaton")
    end)
  end)

  describe("of an operation may not send", function()
    for _, sql in ipairs {
      "set application_name = 'x'", "set local app.dealership_id = 'x'", "reset all", "show all",
      "discard all",
      "select set_config('a.b', 'c', true)", "select pg_catalog.set_config('a.b', 'c', true)",
      [[select "set_config"('a.b', 'c', true)]],
      "with x as (select set_config('a.b', 'c', true)) select * from x",
      "insert into tx_rules_spec.things (id) select length(set_config('a.b', 'c', true))",
      "begin", "start transaction", "commit", "rollback", "end", "savepoint x", "release x",
      "rollback to x",
      "prepare transaction 'x'", "do $$ begin end $$", "call x()", "listen x", "notify x",
      "unlisten *",
      "prepare x as select 1", "execute x", "deallocate all", "declare x cursor for select 1",
      "create table tx_rules_spec.more (id int)", "create temp table more (id int)",
      "drop table tx_rules_spec.things",
      "alter table tx_rules_spec.things add x int", "truncate tx_rules_spec.things",
      "grant all on tx_rules_spec.things to public",
      "copy tx_rules_spec.things to stdout", "vacuum", "checkpoint", "load 'x'",
      "select 1; select 2", "select 1; commit", "", " ", "-- nothing", "selec 1",
    } do
      it(sql == "" and "an empty text" or sql, function()
        local e = refusal(function(tx)
          tx:exec(sql)
          return tx:value "select 1"
        end)
        assert.are.equal("INVALID_ARGUMENT", e.code)
        contains(e.message, "tx:exec")
        contains(e.line, "tx_rules_spec.lua:")
      end)
    end

    -- Ways around the parser: the role has no right either.
    for what, sql in pairs {
      ["an update of pg_settings"] = [[
        update pg_settings set setting = '00000000-0000-0000-0000-000000000000'
          where name = 'app.dealership_id']],
      ["SQL inside of a function"] = [[
        select query_to_xml('select set_config(''app.dealership_id'', '
                            '''00000000-0000-0000-0000-000000000000'', true)', true, true, '')]],
      ["SQL inside of ts_stat"] = [[
        select * from ts_stat(
          'select set_config(''app.dealership_id'', '
          '''00000000-0000-0000-0000-000000000000'', true)::tsvector')]],
    } do
      it("its tenant's change by " .. what, function()
        local id = moonpool.uuid()
        local after
        pcall(call, function(tx)
          pcall(function() tx:savepoint(function() tx:query(sql) end) end)
          after = tx:value "select current_setting('app.dealership_id')"
        end, { tenant = "dealership_id", input = is.object { dealership_id = is.uuid } },
        { dealership_id = id })
        assert.are.equal(id, after)
      end)
    end

    it("SELECT INTO, which makes a table", function()
      refusal(function(tx) tx:exec "select 1 as x into temp made" end)
      refusal(function(tx) tx:exec "select 1 as x into tx_rules_spec.made" end)
    end)
  end)
end)
