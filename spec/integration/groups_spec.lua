-- Calls of many lanes that share transactions: `groups` of an operation.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local grouped    = require "spec.support.data.grouped"
local is         = require "moonpool.is"
local scratch    = require "spec.support.data.scratch"

local insert, operation = grouped.insert, grouped.operation

describe("groups of many lanes", function()
  local blocker, ours, schema, seen

  setup(function() schema = scratch.schema("groups_spec", { scratch.powers "groups_spec" }) end)
  teardown(function() schema.drop() end)
  before_each(function()
    ours, seen = dealership.new(), {}
    blocker = db.open { url = moonpool.host.admin_url, max = 1 }
  end)
  after_each(function()
    blocker.close()
    fault.assert_quiet()
  end)

  -- `groups` at a time; a call named "holder" waits in the database.
  local function across(run, more)
    local definition = { lane = "across:$name", groups = 1 }
    for name, value in pairs(more or {}) do definition[name] = value end
    return operation(function(tx, input)
      if input.name:find "^holder" then return tx:value "select groups_spec.hold_shared(4711)" end
      return run(tx, input)
    end, definition)
  end

  -- Holders take all places; when everybody else waits they are let go. -> results or errors,
  -- infos
  local function behind_holders(op, names, more)
    local answers, infos, tasks = {}, {}, {}
    blocker.lease(function(conn)
      conn.value "select pg_advisory_lock(4711) is null"
      for i = 1, op.groups do
        tasks[i] = moonpool.spawn(moonpool.call, op,
                                  { dealership_id = ours.id, name = "holder" .. i })
      end
      fault.eventually("all places are taken", function()
        return
          conn.value "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            == op.groups
      end)
      for i, name in ipairs(names) do
        tasks[#tasks + 1] = moonpool.spawn(function()
          local ok, result, info = pcall(moonpool.call_info, op,
            { dealership_id = more and more[i] or ours.id, name = name })
          answers[i], infos[i] = result, ok and info
        end)
      end
      fault.eventually("all others wait", function()
        return moonpool.host.lanes().waiting == #names
      end)
      conn.value "select pg_advisory_unlock(4711)"
    end)
    for _, task in ipairs(tasks) do task:wait() end
    return answers, infos
  end

  local function letters(n)
    local names = {}
    for i = 1, n do names[i] = string.char(96 + i) end
    return names
  end

  it("share a transaction, in one order of the lanes; who is below waits for the next", function()
    local names = letters(12)
    local op = across(function(tx, input)
      local row = insert(tx, input)
      seen[#seen + 1] = input.name
      return { xid = tx:value "select pg_current_xact_id()::text", name = row.first_name }
    end)
    local answers = behind_holders(op, names)
    for i, name in ipairs(names) do
      assert.are.equal(name, answers[i].name, tostring(answers[i]))
    end
    assert.are.same(names, grouped.names(ours))
    -- Two rounds at the most: those above the holder's lane, then the others; the same order in
    -- both rounds.
    local xids, first = {}, seen
    for i in ipairs(names) do xids[answers[i].xid] = true end
    local count = 0
    for _ in pairs(xids) do count = count + 1 end
    assert.truthy(count <= 2, count .. " transactions")
    seen = {}
    behind_holders(op, names)
    assert.are.same(first, seen)
  end)

  it("are as many as the operation says", function()
    local op = across(function(tx, input) return insert(tx, input).first_name end, { groups = 3 })
    local names = letters(9)
    local answers = behind_holders(op, names)
    assert.are.same(names, answers)
    assert.are.same(names, grouped.names(ours))
  end)

  it("keep each call's tenant", function()
    local other = dealership.new()
    local op = across(function(tx, input)
      insert(tx, input)
      return tx:value "select count(*) from customers" -- what row level security shows
    end)
    local answers = behind_holders(op, { "a", "b", "c" }, { [2] = other.id })
    assert.are.equal(1, answers[2])
    table.remove(answers, 2)
    table.sort(answers)
    assert.are.same({ 1, 2 }, answers)
    assert.are.equal(1, other:count("customers"))
  end)

  it("undo the one that fails", function()
    local op = across(function(tx, input)
      insert(tx, input)
      tx:flush()
      if input.name == "b" then moonpool.fail("NOT_B", "never") end
      return input.name
    end)
    local answers = behind_holders(op, { "a", "b", "c" })
    assert.are.equal("a", answers[1])
    assert.are.equal("NOT_B", answers[2].code)
    assert.are.equal("c", answers[3])
    assert.are.same({ "a", "c" }, grouped.names(ours))
  end)

  it("that come to nothing are done one by one, and the places are free again", function()
    local op = across(function(tx, input)
      insert(tx, input)
      if input.name == "b" then
        tx:insert("deals", { id = tx:uuid(), dealership_id = input.dealership_id,
                             deal_number = "2026-1123-0001",
                             salesperson_id = ours.salesperson.id,
                             active_scenario_id = tx:uuid() }) -- checked at COMMIT
      end
      return input.name
    end)
    local answers = behind_holders(op, { "a", "b", "c" })
    assert.are.equal("a", answers[1])
    assert.are.equal("23503", answers[2].sqlstate, tostring(answers[2]))
    assert.are.equal("c", answers[3])
    assert.are.equal("d", moonpool.call(op, { dealership_id = ours.id, name = "d" }))
  end)

  it("take along who waits behind in a lane of theirs", function()
    local op = across(function(tx, input)
      insert(tx, input)
      return tx:value "select pg_current_xact_id()::text"
    end, { lane = "across:$dealership_id" })
    local answers, infos = behind_holders(op, { "a", "b" })
    assert.are.equal(answers[1], answers[2])
    assert.are.equal(2, infos[1].group) -- the holder began when nobody waited
  end)

  it("need no lane", function()
    local without = moonpool.operation {
      input = is.object { dealership_id = is.uuid, name = is.string }, tenant = "dealership_id",
      group = 8, groups = 1,
      run = function(tx, input)
        if input.name:find "^holder" then
          return tx:value "select groups_spec.hold_shared(4711)"
        end
        insert(tx, input)
        seen[#seen + 1] = input.name
        return tx:value "select pg_current_xact_id()::text"
      end,
    }
    local answers = behind_holders(without, { "a", "b", "c" })
    assert.are.same({ answers[1], answers[1], answers[1] }, answers)
    assert.are.same({ "a", "b", "c" }, seen)
  end)

  it("let go who waits no longer", function()
    local op = across(function(tx, input)
      return insert(tx, input).first_name
    end, { timeout = 5 })
    blocker.lease(function(conn)
      conn.value "select pg_advisory_lock(4711) is null"
      local holder = moonpool.spawn(moonpool.call, op,
                                    { dealership_id = ours.id, name = "holder" })
      fault.eventually("the place is taken", function()
        return
          conn.value "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            == 1
      end)
      local late = failure(moonpool.call, op, { dealership_id = ours.id, name = "a" },
                           { timeout = 0.05 })
      assert.are.equal("DEADLINE_EXCEEDED", late.code)
      assert.truthy(late.message:find("waited for its turn", 1, true), late.message)
      local gone = moonpool.spawn(moonpool.call, op, { dealership_id = ours.id, name = "b" })
      fault.eventually("it waits", function() return moonpool.host.lanes().waiting == 1 end)
      gone:cancel()
      fault.eventually("it is gone", function() return moonpool.host.lanes().waiting == 0 end)
      conn.value "select pg_advisory_unlock(4711)"
      holder:wait()
    end)
    assert.are.same({}, grouped.names(ours))
    assert.are.equal("c", moonpool.call(op, { dealership_id = ours.id, name = "c" }))
  end)

  it("need `group` and read committed", function()
    local e = failure(function() moonpool.operation { groups = 2, run = print } end)
    assert.truthy(tostring(e):find("`groups` needs `group`", 1, true), tostring(e))
    e = failure(function()
      moonpool.operation { group = 2, groups = 2, isolation = "serializable", run = print }
    end)
    assert.truthy(tostring(e):find("`groups` needs read committed", 1, true), tostring(e))
  end)
end)
