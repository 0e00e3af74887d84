-- What the host does about each SQLSTATE that may pass by itself, by where it comes from: a
-- statement, COMMIT, the end of the connection, the connecting. Retried: the work is done again and
-- stored once. Told: the caller gets the error, nothing is stored. Resolved: nobody knew, and the
-- witness told.
local moonpool   = require "moonpool"
local caller     = require "spec.support.process.caller"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local inline     = require "spec.support.data.inline"
local proxy      = require "spec.support.process.proxy"
local scratch    = require "spec.support.data.scratch"

--                 in a statement, at COMMIT: as an error        as the end of the connection
local codes = {
  ["40001"] = { statement = "retried", commit = "retried" }, -- serialization failure
  ["40P01"] = { statement = "retried", commit = "retried" }, -- deadlock
  -- too many connections
  ["53300"] = { statement = "retried", commit = "retried", fatal = true, connect = true },
  -- the server starts or stops
  ["57P03"] = { statement = "retried", commit = "retried", fatal = true, connect = true },
  -- A function may raise these for a connection of its own: nothing says that a second try would go
  -- better.
  -- connection exception
  ["08000"] = { statement = "told",    commit = "told",    fatal = true, connect = true },
  -- connection failure
  ["08006"] = { statement = "told",    commit = "told",    fatal = true, connect = true },
  -- ended by an administrator
  ["57P01"] = { statement = "told",    commit = "told",    fatal = true, connect = true },
  -- The server does not know whether COMMIT was done: ambiguous there and nowhere else.
  ["08007"] = { statement = "told",    commit = "resolved" },
  ["40003"] = { statement = "told",    commit = "resolved" },
}

local function each(field, fn)
  local names = {}
  for code, rule in pairs(codes) do
    if rule[field] then names[#names + 1] = code end
  end
  table.sort(names)
  for _, code in ipairs(names) do fn(code, codes[code][field]) end
end

describe("SQLSTATE", function()
  local schema, wire, ours

  setup(function()
    schema = scratch.schema("sqlstates", {
      "create table sqlstates.things (id uuid primary key, code text)",
      [[create function sqlstates.fail(code text) returns int language plpgsql as
        $$ begin raise exception 'injected' using errcode = code; end $$]],
      [[create function sqlstates.fail_late() returns trigger language plpgsql as
        $$ begin raise exception 'injected' using errcode = new.code; end $$]],
      [[create constraint trigger late after insert
        on sqlstates.things deferrable initially deferred
        for each row when (new.code is not null) execute function sqlstates.fail_late()]],
    })
    schema.owner.exec("grant execute on all functions in schema sqlstates to " .. fault.role())
    wire = proxy.start()
  end)
  teardown(function()
    schema.drop()
    wire:stop()
  end)
  before_each(function() ours = dealership.new() end)
  after_each(fault.assert_quiet)

  -- An operation that stores one thing and fails in its first attempt. Gives how it ended, and the
  -- times it is stored.
  local function run(fail, fields)
    local attempts = 0
    local id = moonpool.uuid()
    local ok, result, info = pcall(moonpool.call_info, inline.define(function(tx)
      attempts = tx.attempt
      tx:exec("insert into sqlstates.things (id, code) values ($1, $2)", id,
              fail.commit and attempts == 1 and fail.commit or nil)
      if fail.statement and attempts == 1 then
        tx:exec("select sqlstates.fail($1)", fail.statement)
      end
      tx:value "select 1"
      return {}
    end, fields), {})
    return { ok = ok, error = not ok and result or nil, info = info, attempts = attempts,
             stored = schema.owner.value("select count(*) from sqlstates.things where id = $1",
                                         id) }
  end

  local function assert_retried(it_ended)
    assert.is_true(it_ended.ok, tostring(it_ended.error))
    assert.are.equal(2, it_ended.attempts)
    assert.are.equal(1, it_ended.stored)
  end

  local expect = {
    retried  = assert_retried,
    resolved = assert_retried, -- the witness told that nothing was stored
    told = function(it_ended, code)
      assert.is_false(it_ended.ok)
      assert.are.equal(code, it_ended.error.sqlstate)
      assert.is_nil(rawget(it_ended.error, "outcome_unknown"))
      assert.are.equal(1, it_ended.attempts)
      assert.are.equal(0, it_ended.stored)
    end,
  }

  each("statement", function(code, rule)
    it(code .. " of a statement is " .. rule, function()
      expect[rule](run { statement = code }, code)
    end)
  end)
  each("commit", function(code, rule)
    it(code .. " of COMMIT is " .. rule, function() expect[rule](run { commit = code }, code) end)
    it(code .. " of COMMIT is " .. rule .. " in a lane, too, with its lock behind COMMIT",
       function()
      expect[rule](run({ commit = code }, { isolation = "serializable", lane = "sqlstates" }), code)
    end)
  end)

  it("08007 of COMMIT is told as unknown where there is no witness", function()
    local e = failure(function()
      inline.call(function(tx)
        tx:exec("insert into sqlstates.things (id, code) values ($1, '08007')", tx:uuid())
        return {}
      end, { witness = false })
    end)
    assert.are.equal("OUTCOME_UNKNOWN", e.code)
    assert.is_true(e.outcome_unknown)
    assert.are.equal(1, e.attempts)
  end)

  describe("that ends the connection,", function()
    local host

    setup(function()
      host = caller.start(wire:url(moonpool.host.app_url), { DB_POOL_MAX = "1" })
    end)
    teardown(function() host:stop() end)

    local function create(fault_at)
      wire:watch(fault_at)
      return host:call("create_deal",
                       ours:deal_input { customer_data = { first_name = "Fay",
                                                           last_name = "Tal" } })
    end

    -- Cut when the server had stored it, or had not: the caller gets his deal, once.
    local function assert_made(answer, attempts)
      assert.is_true(answer.ok, moonpool.json.encode(answer))
      if attempts then assert.are.equal(attempts, answer.info.attempts) end
      assert.are_not.equal("none", wire:order "told")
      local numbers, deals = fault.assert_ledger(ours)
      assert.are.equal(1, deals)
      assert.are.equal(answer.result.deal.number, numbers[answer.result.deal.id])
    end

    each("fatal", function(code)
      it(code .. " in place of a statement's answer, is retried", function()
        create()
        ours = dealership.new()
        assert_made(create("B insert fail FATAL " .. code), 2)
      end)
      it(code .. " in place of COMMIT's answer, is resolved: it was stored", function()
        assert_made(create("B commit fail FATAL " .. code), 1)
      end)
    end)
    each("connect", function(code)
      it(code .. " in place of a welcome, is waited out", function()
        create()
        ours = dealership.new()
        wire:order "drop"
        host:cold()
        assert_made(create("B 1 fail FATAL " .. code), 1)
      end)
    end)
    it("08007 in place of COMMIT's answer, is resolved: it was stored", function()
      assert_made(create "B commit fail ERROR 08007", 1)
    end)
  end)
end)
