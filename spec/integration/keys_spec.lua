-- Idempotency keys: the same key gives the same answer, whatever happened in between; and what
-- witnesses leave.
local moonpool   = require "moonpool"
local is         = require "moonpool.is"
local db         = require "moonpool.db"
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"

describe("an idempotency key", function()
  local ours, runs
  before_each(function()
    ours, runs = dealership.new(), 0
  end)
  after_each(fault.assert_quiet)

  local add = moonpool.operation {
    input = is.object { dealership_id = is.uuid, name = is.string, pause = is.boolean:optional() },
    tenant = "dealership_id",
    isolation = "serializable",
    run = function(tx, input)
      runs = runs + 1
      if input.name == "Bad" then moonpool.fail("BAD_NAME", "no") end
      local row = tx:insert("customers", { id = tx:uuid(), dealership_id = input.dealership_id,
                                           first_name = input.name,
                                           last_name = "Key" })
      return { customer = row, price = moonpool.decimal "12.50", at = tx:now() }
    end,
  }
  require("moonpool.operation.definition").of(add).name = "add_customer"

  local function call(name, key, more)
    local options = { key = key }
    for field, value in pairs(more or {}) do options[field] = value end
    return moonpool.call(add, { dealership_id = ours.id, name = name }, options)
  end

  it("gives the same answer twice, and the work is done once", function()
    local first = call("Ann", "k1")
    local second = call("Ann", "k1")
    assert.are.same(first, second)
    assert.are.equal(moonpool.decimal "12.5", second.price)
    assert.are.equal("Ann", second.customer.first_name)
    assert.are.equal(1, runs)
    assert.are.equal(1, ours:count("customers"))
  end)

  it("is refused for another input", function()
    call("Ann", "k1")
    local e = failure(function() call("Bob", "k1") end)
    assert.are.equal("IDEMPOTENCY_KEY_REUSED", e.code)
    assert.are.equal(422, e.status)
    assert.are.equal(1, ours:count("customers"))
  end)

  it("is its tenant's own", function()
    local other = dealership.new()
    call("Ann", "k1")
    moonpool.call(add, { dealership_id = other.id, name = "Eve" }, { key = "k1" })
    assert.are.equal(1, ours:count("customers"))
    assert.are.equal(1, other:count("customers"))
  end)

  it("is its user's own, in a tenant and without one", function()
    local whose = moonpool.operation {
      input = is.object { dealership_id = is.uuid:optional() },
      run = function(tx)
        return { user = tx.caller.user_id, tenant = tx.caller.tenant, at = tx:uuid() }
      end,
    }
    local a, b = moonpool.uuid(), moonpool.uuid()
    local function as(user, tenant)
      return moonpool.call(whose, {}, { key = "k1", as = user, tenant = tenant })
    end
    local callers = { { a, a }, { b, a }, { a, b }, { nil, a }, { a, nil }, { nil, nil } }
    local answers = {}
    for i = 1, 6 do answers[i] = as(callers[i][1], callers[i][2]) end
    for i = 1, 6 do
      assert.are.same(answers[i], as(callers[i][1], callers[i][2]))
      assert.are.equal(callers[i][1], answers[i].user)
      assert.are.equal(callers[i][2], answers[i].tenant)
    end
    call("Ann", "k2", { as = a })
    call("Ann", "k2", { as = b })
    assert.are.equal(2, ours:count("customers"))
  end)

  it("is its user's own while the calls run at the same time", function()
    local users = { moonpool.uuid(), moonpool.uuid() }
    local calls = {}
    for i = 1, 6 do
      calls[i] = function() return call("Ann", "k1", { as = users[i % 2 + 1] }) end
    end
    local answers = moonpool.all(calls)
    assert.are.equal(2, ours:count("customers"))
    assert.are.same(answers[1], answers[3])
    assert.are.same(answers[2], answers[4])
  end)

  it("is its operation's own", function()
    local other = moonpool.operation { input = is.object { dealership_id = is.uuid,
                                                           name = is.string },
                                       tenant = "dealership_id", run = function()
                                         return { other = true }
                                       end }
    require("moonpool.operation.definition").of(other).name = "another_one"
    call("Ann", "k1")
    assert.are.same({ other = true },
                    moonpool.call(other, { dealership_id = ours.id, name = "Ann" }, { key = "k1" }))
    assert.are.equal(1, ours:count("customers"))
  end)

  it("of a call that failed can be used again", function()
    failure(function() call("Bad", "k1") end)
    failure(function() call("Bad", "k1") end)
    assert.are.equal(2, runs)
    assert.are.equal("Ann", call("Ann", "k1").customer.first_name)
  end)

  it("makes calls at the same time wait: one does the work, all get the answer", function()
    local answers = moonpool.all {
      function() return call("Ann", "k1") end, function() return call("Ann", "k1") end,
      function() return call("Ann", "k1") end, function() return call("Ann", "k1") end,
    }
    for i = 2, 4 do assert.are.same(answers[1], answers[i]) end
    assert.are.equal(1, ours:count("customers"))
  end)

  it("must be a text", function()
    assert.are.equal("VALIDATION_ERROR", failure(function() call("Ann", "") end).code)
    assert.are.equal("VALIDATION_ERROR", failure(function() call("Ann", 7) end).code)
    assert.are.equal("VALIDATION_ERROR", failure(function() call("Ann", ("x"):rep(256)) end).code)
  end)

  it("whose result cannot be kept undoes the work", function()
    local odd = moonpool.operation { input = is.object { dealership_id = is.uuid },
                                     tenant = "dealership_id",
      run = function(tx, input)
        tx:insert("customers", { id = tx:uuid(), dealership_id = input.dealership_id,
                                 first_name = "A", last_name = "B" })
        return { f = print }
      end }
    local e = failure(function() moonpool.call(odd, { dealership_id = ours.id }, { key = "k" }) end)
    assert.are.equal("RESULT_UNWRITABLE", e.code)
    assert.matches("was undone: its result cannot be written as JSON", e.message, 1, true)
    assert.matches("$.f: a function cannot be JSON", e.message, 1, true)
    assert.are.equal(0, ours:count("customers"))
  end)

  it("whose result cannot be read back is told as that, and a long one can be read", function()
    local function give(sql)
      return moonpool.operation { input = is.object { dealership_id = is.uuid },
                                  tenant = "dealership_id",
        run = function(tx) return tx:one(sql) end }
    end
    local deep = give [[select (repeat('[', 140) || repeat(']', 140))::jsonb as deep]]
    for _ = 1, 2 do
      local e = failure(function()
        moonpool.call(deep, { dealership_id = ours.id }, { key = "deep" })
      end)
      assert.are.equal("RESULT_UNWRITABLE", e.code)
      assert.is_nil(e.outcome_unknown)
      assert.matches("nested deeper than 128 levels", e.message, 1, true)
    end
    local long = give "select repeat('x', 17 * 1024 * 1024) as text"
    for _ = 1, 2 do
      assert.are.equal(17 << 20,
                       #moonpool.call(long, { dealership_id = ours.id }, { key = "long" }).text)
    end
  end)

  it("works from the command line", function()
    local input = moonpool.json.encode { dealershipId = ours.id,
                                         salespersonId = ours.salesperson.id,
                                         customerData = { firstName = "Walt", lastName = "Inman" } }
    local folder = command.folder { ["input.json"] = input }
    local function create(more)
      return command.run(("--app '%s' call --json --key one %s create_deal @input.json")
        :format(moonpool.app_dir, more or ""),
        { dir = folder.path, env = { DATABASE_URL = moonpool.host.app_url } })
    end
    local first, code = create()
    assert.are.equal(0, code, first)
    local second = create()
    assert.are.equal(first, second)
    assert.truthy(first:find('"dealNumber":"', 1, true), first)
    local _, deals = fault.assert_ledger(ours)
    assert.are.equal(1, deals)
    folder.remove()
  end)

  describe("and the witness that each write leaves", function()
    local own
    setup(function() own = db.open { url = moonpool.host.admin_url, max = 1 } end)
    teardown(function() own.close() end)

    local function witnesses()
      return own.value([[
        select count(*) from moonpool.witness
         where tenant = $1 and not void and operation <> 'db.transaction']],
           ours.id) -- not what the spec does
    end

    it("is one row", function()
      call "Ann"
      assert.are.equal(1, witnesses())
    end)

    it("is not left by what only reads, fails, or opts out", function()
      local function run(fn, more)
        local definition = { input = is.object { dealership_id = is.uuid },
                             tenant = "dealership_id", run = fn }
        for name, value in pairs(more or {}) do definition[name] = value end
        return moonpool.call(moonpool.operation(definition), { dealership_id = ours.id })
      end
      run(function(tx) return tx:value "select 1" end)
      run(function(tx) return tx:value "select 1" end, { read_only = true })
      run(function(tx, input)
        tx:insert("customers", { id = tx:uuid(), dealership_id = input.dealership_id,
                                 first_name = "A", last_name = "B" })
      end, { witness = false })
      failure(function() call "Bad" end)
      assert.are.equal(0, witnesses())
    end)

    it("can be seen by no operation", function()
      call "Ann"
      local peek = moonpool.operation { input = is.object {}, run = function(tx)
        return tx:value "select count(*) from moonpool.witness"
      end }
      assert.truthy(failure(function()
        moonpool.call(peek, {})
      end).message:find("names the schema moonpool", 1, true))
      assert.are.equal(0, db.value "select count(*) from moonpool.witness")
    end)
  end)
end)
