-- A COMMIT that the server has carried out and does not answer, because it waits for a standby: the
-- backend is ended in it, or it lasts longer than the call may.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local caller     = require "spec.support.process.caller"
local cluster    = require "spec.support.process.cluster"
local dealership = require "spec.support.data.dealership"
local fault      = require "spec.support.workload.fault"
local freezer    = require "spec.support.process.freezer"

describe("a COMMIT that waits for a standby", function()
  local own, direct, probe, host, hasty, ours

  setup(function()
    own = cluster.start()
    direct = db.open { url = own.url, max = 2 }
    probe = db.open { url = own.admin_url, max = 1 }
    probe.exec "create table standby_probe (n int)"
    host = caller.start(own.url)
    hasty = caller.start(own.url, { MOONPOOL_COMMIT_TIMEOUT = "1000" })
  end)
  teardown(function()
    host:stop()
    hasty:stop()
    direct.close()
    probe.close()
    own:stop()
  end)
  before_each(function() ours = dealership.new { db = direct } end)

  local function waits()
    return own:ask "select max(pid) from pg_stat_activity where wait_event = 'SyncRep'"
  end

  -- The process that tells the others of a change has its time: a COMMIT of our own tells when it
  -- has.
  local function commits_wait()
    local over, pid
    local task = moonpool.spawn(function()
      probe.exec "insert into standby_probe values (1)"
      over = true
    end)
    repeat pid = waits() until pid or over
    if pid then own:ask("select pg_cancel_backend($1::int)", pid) end
    task:wait()
    return pid
  end

  local function standby(name)
    own:ask(("alter system set synchronous_standby_names = '%s'"):format(name))
    own:ask "select pg_reload_conf()"
    fault.eventually("the server knows of its standbys", function()
      return own:ask "show synchronous_standby_names" == name
    end)
    if name ~= "" then fault.eventually("COMMITs wait", commits_wait) end
  end

  local function create(options, by)
    standby "nobody"
    local input = ours:deal_input { customer_data = { first_name = "Stan", last_name = "By" } }
    ;(by or host):start_call("create_deal", input, options)
  end

  local function waiting()
    return fault.eventually("COMMIT waits", waits)
  end

  local function assert_stored_once()
    assert.are.equal(1, select(2, fault.assert_ledger(ours)))
  end

  it("and whose backend is ended (57P01) is resolved: it was stored", function()
    create()
    own:ask("select pg_terminate_backend($1::int)", waiting())
    standby ""
    local answer = host:answer()
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert.are.equal(1, answer.info.attempts)
    assert_stored_once()
  end)

  it("longer than its call may last is canceled, and the server tells that it is stored", function()
    create { timeout = 1 }
    local answer = host:answer()
    standby ""
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert_stored_once()
  end)

  it("longer than the host waits for COMMIT's answer is resolved: it was stored", function()
    create({ timeout = 20 }, hasty)
    local answer = hasty:answer()
    standby ""
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert_stored_once()
  end)

  it("and whose backend hangs, as does the one that is asked about it, is resolved", function()
    create({ timeout = 25 }, hasty)
    local first = freezer.one(waiting())
    standby ""
    local second = freezer.one(fault.eventually("the question", function()
      return own:ask [[select max(pid) from pg_stat_activity
        where wait_event_type = 'Lock' and query like 'insert into moonpool.witness%']]
    end))
    first:thaw()
    local answer = hasty:answer()
    second:thaw()
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert.are.equal(1, answer.info.attempts)
    assert_stored_once()
  end)

  describe("of db.transaction", function()
    local function customer(name)
      return { id = moonpool.uuid(), dealership_id = ours.id, first_name = "Stan",
               last_name = name }
    end

    it("and whose backend is ended is resolved, although the database is up all the time",
       function()
      standby "nobody"
      local row = customer "Ended"
      local task = moonpool.spawn(direct.transaction, { tenant = ours.id }, function(tx)
        tx:insert("customers", row)
        return tx.attempt
      end)
      own:ask("select pg_terminate_backend($1::int)", waiting())
      standby ""
      assert.are.equal(1, task:wait())
      assert.are.equal(1, ours:count("customers", { last_name = "Ended" }))
    end)

    it("and whose backend is ended is asked about before others of its pool get a connection",
       function()
      local one, order, tasks = db.open { url = own.url, max = 1 }, {}, {}
      standby "nobody"
      tasks[1] = moonpool.spawn(function()
        one.transaction({ tenant = ours.id }, function(tx)
          tx:insert("customers", customer "Asked")
        end)
        order[#order + 1] = "resolved"
      end)
      local backend, begun = waiting(), 0
      for i = 1, 3 do
        tasks[i + 1] = moonpool.spawn(function()
          begun = begun + 1
          one.exec "select 1"
          order[#order + 1] = "another"
        end)
      end
      fault.eventually("the others to wait", function() return begun == 3 end)
      own:ask("select pg_terminate_backend($1::int)", backend)
      standby ""
      for _, task in ipairs(tasks) do task:wait() end
      one.close()
      assert.are.same({ "resolved", "another", "another", "another" }, order)
    end)

    for _, witness in ipairs { true, false } do
      it("is not waited for longer than MOONPOOL_COMMIT_TIMEOUT, witness = " .. tostring(witness),
         function()
        standby "nobody"
        local answer = hasty:insert("customers", customer "Waits",
                                    { tenant = ours.id, timeout = 600, witness = witness })
        standby ""
        assert.is_true(answer.ok, moonpool.json.encode(answer))
        assert.are.equal(1, ours:count("customers", { last_name = "Waits" }))
      end)
    end
  end)

  it("of an operation without a witness is not waited for longer, either", function()
    standby "nobody"
    local answer = hasty:call("create_deal",
                              ours:deal_input { customer_data = { first_name = "Stan",
                                last_name = "By" } },
      { timeout = 600 }, { witness = false })
    standby ""
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert_stored_once()
  end)

  -- Both timers are due in one turn of the loop: the host was paused, or the call began so long
  -- before its COMMIT.
  it("while its host is paused, until COMMIT's own time and the call's are over, is resolved",
     function()
    create({ timeout = 2 }, hasty)
    waiting()
    hasty:signal "STOP"
    own:ask "select pg_sleep(3)"
    standby ""
    hasty:signal "CONT"
    local answer = hasty:answer()
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert_stored_once()
  end)
end)
