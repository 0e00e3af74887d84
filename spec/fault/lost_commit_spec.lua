-- The connection is cut at each message of a transaction, by a proxy: before COMMIT was sent the
-- work is done again and stored once; after that it is found out. Where there is no witness, the
-- caller hears that nobody knows, and it is never tried again.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local test       = require "moonpool.test"
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local fault      = require "spec.support.workload.fault"
local proxy      = require "spec.support.process.proxy"

describe("a connection that is cut", function()
  local wire, via, ours

  setup(function() wire = proxy.start() end)
  teardown(function() wire:stop() end)
  before_each(function()
    ours = dealership.new()
    via = db.open { url = wire:url(moonpool.host.app_url), max = 1 }
  end)
  after_each(function()
    wire:order "cut never"
    via.close()
    fault.assert_quiet()
  end)

  -- Two segments: BEGIN, the tenant, an insert and a query; then a query with COMMIT.
  local function work(name, isolation, witness)
    local runs, hooks = 0, { committed = 0, rolled_back = 0 }
    local options = { tenant = ours.id, isolation = isolation, witness = witness or false }
    local ok, result = pcall(via.transaction, options, function(tx)
      runs = runs + 1
      tx:after_commit(function() hooks.committed = hooks.committed + 1 end)
      tx:on_rollback(function() hooks.rolled_back = hooks.rolled_back + 1 end)
      tx:insert("customers", { id = tx:uuid(), dealership_id = ours.id, first_name = "Cut",
                               last_name = name })
      tx:value "select 1"
      tx:exec "select 2"
      return tx.attempt
    end)
    return ok, result, runs, hooks
  end

  local function stored(name) return ours:count("customers", { last_name = name }) end

  -- The server has seen the end of the connection and has done, or undone, what it was at.
  local function settled()
    fault.eventually("the cut connection's backend is gone", function()
      return test.admin().value([[
        select count(*) = 0 from pg_stat_activity where usename = $1 and xact_start is not null]],
          fault.role())
    end)
  end

  local function assert_unknown(e, runs)
    assert.are.equal("OUTCOME_UNKNOWN", e.code)
    assert.is_true(e.outcome_unknown)
    assert.are.equal(1, e.attempts)
    assert.are.equal(1, runs)
    assert.is_nil(rawget(e, "retryable"))
    assert.truthy(e.message:find("may or may not", 1, true), e.message)
  end

  for _, isolation in ipairs { "read committed", "serializable" } do
    it("in front of COMMIT's execution leaves the outcome open, " .. isolation, function()
      work("warm", isolation)
      wire:order "cut commit before"
      local ok, e, runs = work("lost", isolation)
      assert.is_false(ok)
      assert_unknown(e, runs)
      assert.truthy(wire:order "told":find("commit", 1, true))
      settled()
      assert.are.equal(0, stored "lost")
    end)

    it("behind COMMIT's execution leaves the outcome open, " .. isolation, function()
      work("warm", isolation)
      wire:order "cut commit after"
      local ok, e, runs, hooks = work("kept", isolation)
      assert.is_false(ok)
      assert_unknown(e, runs)
      assert.truthy(wire:order "told":find("answer", 1, true))
      assert.are.equal(1, stored "kept")
      assert.are.same({ committed = 0, rolled_back = 0 }, hooks)
    end)
  end

  it("in front of COMMIT's execution, with a witness: found out and done again", function()
    work("warm", nil, true)
    wire:order "cut commit before"
    local ok, attempt, runs, hooks = work("again", nil, true)
    assert.are.same({ true, 2, 2 }, { ok, attempt, runs }, tostring(attempt))
    assert.are.equal(1, stored "again")
    moonpool.sleep(0)
    assert.are.same({ committed = 1, rolled_back = 0 }, hooks)
  end)

  it("behind COMMIT's execution, with a witness: found out, and stored once", function()
    work("warm", nil, true)
    wire:order "cut commit after"
    local ok, attempt, runs = work("kept", nil, true)
    assert.are.same({ true, 1, 1 }, { ok, attempt, runs }, tostring(attempt))
    assert.are.equal(1, stored "kept")
  end)

  it("behind the COMMIT of a transaction that a hook makes: found out, too", function()
    local other = db.open { url = wire:url(moonpool.host.app_url), max = 1 }
    local told = moonpool.host.signal()
    local ok, attempt
    other.transaction({ tenant = ours.id }, function(tx)
      tx:after_commit(function()
        wire:order "cut commit after"
        ok, attempt = work("hooked", nil, true)
        told:set()
      end)
      tx:exec "select 1"
    end)
    told:wait(30)
    other.close()
    assert.are.same({ true, 1 }, { ok, attempt }, tostring(attempt))
    assert.are.equal(1, stored "hooked")
  end)

  it("is replaced by the pool afterwards", function()
    wire:order "cut commit after"
    work "kept"
    local ok, attempt = work "next"
    assert.is_true(ok, tostring(attempt))
    assert.are.equal(1, attempt)
    assert.are.equal(1, stored "next")
  end)

  it("at any message: retried and stored once before COMMIT was sent, else open and not stored",
     function()
    local retried, open, n = 0, 0, 0
    while true do
      n = n + 1
      assert.is_true((work("warm" .. n)))
      wire:order("cut message " .. n)
      local name = "cut" .. n
      local ok, result, runs = work(name)
      local told = wire:order "told"
      if told == "none" then
        assert.is_true(ok)
        break
      end
      local what = ("cut in front of message %d (%s): %s"):format(n, told, tostring(result))
      settled()
      if ok then
        assert.are.equal(2, result, what)
        assert.are.equal(2, runs, what)
        assert.are.equal(1, stored(name), what)
        assert.are.equal(0, open, what) -- before COMMIT was sent, never after
        retried = retried + 1
      else
        assert.truthy(told:find("BEGIN,SET,INSERT,SELECT", 1, true), what)
        assert_unknown(result, runs)
        assert.are.equal(told:find("COMMIT", 1, true) and 1 or 0, stored(name), what)
        open = open + 1
      end
      assert.truthy(n < 100)
    end
    assert.truthy(retried >= 8, retried)
    assert.truthy(open >= 3, open)
  end)

  describe("under create_deal", function()
    local function create()
      local input = moonpool.json.encode { dealershipId = ours.id,
                                           salespersonId = ours.salesperson.id,
                                           customerData = { firstName = "Walt",
                                                            lastName = "Inman" } }
      local folder = command.folder { ["input.json"] = input }
      local output, code = command.run("--app '" .. moonpool.app_dir
                                       .. "' call --json create_deal @input.json", {
        dir = folder.path, env = { DATABASE_URL = wire:url(moonpool.host.app_url),
                                   MOONPOOL_LOG = "text" } })
      folder.remove()
      return output, code
    end

    -- An operation leaves a witness, by which the host finds out.
    it("behind COMMIT: found out, the deal is there once and the answer is whole", function()
      wire:order "cut commit after"
      local output, code = create()
      assert.are.equal(0, code, output)
      local result = moonpool.json.decode(output:match('{"customer.*}'))
      assert.truthy(result.deal.dealNumber:find("-0001", 1, true), output)
      assert.are.equal(60, result.scenario.term) -- a default of the table's: the row was read again
      local _, deals = fault.assert_ledger(ours)
      assert.are.equal(1, deals)
    end)

    it("in front of COMMIT: found out and done again, the deal is there once", function()
      wire:order "cut commit before"
      local output, code = create()
      assert.are.equal(0, code, output)
      assert.truthy(output:find("-0001", 1, true), output)
      local _, deals = fault.assert_ledger(ours)
      assert.are.equal(1, deals)
    end)

    it("in the first messages: nobody notices", function()
      for n = 1, 9, 4 do
        wire:order("cut message " .. n)
        local output, code = create()
        assert.are.equal(0, code, output)
        assert.are_not.equal("none", wire:order "told")
      end
      local _, deals = fault.assert_ledger(ours)
      assert.are.equal(3, deals)
    end)
  end)
end)
