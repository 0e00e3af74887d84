-- moonpool.test: failures that a spec orders, draws that are the same in each run, operations on
-- another database.
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local inline     = require "spec.support.data.inline"
local moonpool   = require "moonpool"
local scratch    = require "spec.support.data.scratch"
local test       = require "moonpool.test"

local define = inline.define

describe("a failure on order", function()
  local schema

  setup(function()
    schema = scratch.schema("fault_order_spec",
                            { "create table fault_order_spec.things (id int primary key, attempt \z
                              int)" })
  end)
  teardown(function() schema.drop() end)
  before_each(function() schema.owner.exec "truncate fault_order_spec.things" end)
  after_each(test.calm)

  local function things()
    return
      schema.owner.value "select string_agg(id || ' ' || attempt, ',' order by id) from \z
        fault_order_spec.things"
  end

  -- Stores three things with a look behind the second.
  local function three(fields)
    return define(function(tx)
      tx:exec("insert into fault_order_spec.things values (1, $1)", tx.attempt)
      local row = tx:insert("fault_order_spec.things", { id = 2, attempt = tx.attempt })
      assert(row.id == 2)
      tx:exec("insert into fault_order_spec.things values (3, $1)", tx.attempt)
      return tx.attempt
    end, fields)
  end

  for _, at in ipairs { 1, 2, 3, "commit" } do
    for _, state in ipairs { "40001", "40P01", "57P01" } do
      it(("%s at %s is what the server says, and the work is done again"):format(state, at),
         function()
        test.fail_next { sqlstate = state, at = at }
        local result, info = moonpool.call_info(three(), {})
        assert.are.equal(2, result)
        assert.are.equal(2, info.attempts)
        assert.are.equal(1, test.failures())
        assert.are.equal("1 2,2 2,3 2", things())
        assert.are.equal(state == "40001" and 1 or 0, info.retries_serialization)
        assert.are.equal(state == "40P01" and 1 or 0, info.retries_deadlock)
        assert.are.equal(state == "57P01" and 1 or 0, info.retries_connection)
      end)
    end
  end

  it("that is none of those that pass is the statement's own", function()
    test.fail_next { sqlstate = "23514", at = 2 }
    local e = failure(moonpool.call, three(), {})
    assert.are.equal("23514", e.sqlstate)
    inline.contains(e.line, "fault_order_spec.lua")
    inline.contains(e.message, "injected")
    assert.are.equal(1, e.attempts)
    assert.is_nil(things())
  end)

  it("comes in the attempts that it was ordered for", function()
    test.fail_next { sqlstate = "40001", at = 3, attempt = 2, times = 2 }
    test.fail_next { sqlstate = "40001", at = 1, times = 3 }
    assert.are.equal(4, (moonpool.call(three(), {})))
    assert.are.equal(3, test.failures())
    schema.owner.exec "truncate fault_order_spec.things"
    test.fail_next { sqlstate = "40001", at = 3, attempt = 2 }
    assert.are.equal(1, (moonpool.call(three(), {})))
    assert.are.equal(0, test.failures())
  end)

  it("comes in the transaction that it was ordered for, db.transaction too", function()
    test.fail_next { sqlstate = "40001", at = 1, transaction = 2 }
    assert.are.equal(1, (moonpool.call(three(), {})))
    local attempts = db.transaction(function(tx)
      tx:value "select 1"
      return tx.attempt
    end)
    assert.are.equal(2, attempts)
  end)

  it("counts statements of the script only, whatever savepoints and descriptions travel", function()
    test.fail_next { sqlstate = "40001", at = 2 }
    local lines = {}
    moonpool.call(define(function(tx)
      tx:savepoint(function() tx:value("select jsonb_typeof($a)", { a = { 1 } }) end)
      lines[#lines + 1] = "first"
      tx:savepoint(function() tx:value "select 2" end)
      lines[#lines + 1] = "second"
    end), {})
    assert.are.same({ "first", "first", "second" }, lines)
  end)

  it("can be meant for one call of a group", function()
    local seen = {}
    local op = define(function(tx, input)
      seen[#seen + 1] = input.id .. "/" .. tx.attempt
      tx:exec("insert into fault_order_spec.things values ($1, $2)", input.id, tx.attempt)
    end, { lane = "faults", group = 4 })
    -- The first keeps the lane while the others come.
    test.fail_next { sqlstate = "40001", at = 1, transaction = 3 }
    moonpool.all {
      function()
        moonpool.call(define(function(tx)
          tx:value "select pg_sleep(0.05)"
        end, { lane = "faults" }), {})
      end,
      function() moonpool.call(op, { id = 1 }) end,
      function() moonpool.call(op, { id = 2 }) end,
    }
    assert.are.equal(1, test.failures())
    assert.are.equal("1 2,2 2", things())
    assert.is_truthy(table.concat(seen, " "):find("1/1 2/1", 1, true), table.concat(seen, " "))
  end)

  it("does not use up the budget for retries", function()
    for _ = 1, 20 do
      test.fail_next { sqlstate = "40001", at = 1 }
      moonpool.call(define(function(tx) tx:exec "select 1" end), {})
    end
  end)

  it("is over when it has happened: what fails afterwards has its own reason", function()
    for _ = 1, 5 do -- the second may have the memory of the first
      test.fail_next { sqlstate = "40001", at = "commit" }
      moonpool.call(three(), {})
      local e = failure(moonpool.call, define(function(tx)
        tx:exec "insert into fault_order_spec.things values (1, 1)"
      end), {})
      assert.are.equal("23505", e.sqlstate)
      schema.owner.exec "truncate fault_order_spec.things"
    end
  end)

  it("does not happen where something else has failed before", function()
    test.fail_next { sqlstate = "40001", at = 2 }
    local e = failure(moonpool.call, define(function(tx)
      tx:exec "select 1 / 0"
      tx:value "select 1"
    end), {})
    assert.are.same({ "22012", 1, 0 }, { e.sqlstate, e.attempts, test.failures() })
  end)

  it("is refused where it makes no sense", function()
    assert.has_error(function() test.fail_next { sqlstate = "00000", at = 1 } end)
    assert.has_error(function() test.fail_next { sqlstate = "'; --", at = 1 } end)
    assert.has_error(function() test.fail_next { sqlstate = "40001", at = 0 } end)
    assert.has_error(function() test.fail_next { at = 1 } end)
  end)
end)

describe("draws that are fixed", function()
  local function draw()
    return inline.call(function(tx) return { tx:uuid(), tx:random(), tx:now(), tx:uuid(4) } end)
  end

  it("are the same in each run, and differ between its calls", function()
    local runs = {}
    for i = 1, 2 do
      runs[i] = test.fixed({ seed = 7, now = 1893456000 }, function() return { draw(), draw() } end)
    end
    assert.are.same(runs[1], runs[2])
    assert.are_not.equal(runs[1][1][1], runs[1][2][1])
    assert.are.equal("2030-01-01T00:00:00.000000Z", runs[1][1][3])
    local other = test.fixed({ seed = 8, now = 1893456000 }, draw)
    assert.are_not.equal(runs[1][1][1], other[1])
  end)

  it("are free again afterwards, also after an error", function()
    assert.has_error(function() test.fixed({}, function() error "on purpose" end) end)
    assert.are_not.equal(draw()[1], draw()[1])
  end)
end)

describe("another database", function()
  it("gets the work of operations and of moonpool.db, and nothing else afterwards", function()
    local database = test.database()
    local input
    local deal = test.on(database, function(other)
      local theirs = dealership.new()
      input = theirs:deal_input { customer_data = { first_name = "Ann", last_name = "Other" } }
      local made = moonpool.call("create_deal", input).deal
      assert.are.equal(database.name, db.value "select current_database()")
      assert.are.equal(database.name, other.value "select current_database()")
      return made
    end)
    assert.is_truthy(deal.deal_number)
    assert.are_not.equal(database.name, db.value "select current_database()")
    assert.are.equal("RESOURCE_NOT_FOUND", failure(moonpool.call, "create_deal", input).code)
    database.drop()
  end)

  it("is left after an error as well", function()
    local database, own = test.database(), db.value "select current_database()"
    inline.contains(failure(test.on, database, function() error("on purpose", 0) end), "on purpose")
    assert.are.equal(own, db.value "select current_database()")
    database.drop()
  end)

  it("can be copied with what it holds", function()
    local base = test.database()
    local id = test.on(base, function() return dealership.new().id end)
    local copy = test.database { like = base }
    test.on(copy, function(other)
      assert.are.equal(1, other.transaction({ tenant = id }, function(tx)
        return tx:value "select count(*) from dealership_settings"
      end))
    end)
    copy.drop()
    base.drop()
  end)
end)
