-- Calls that wait in a lane share a transaction: each stays atomic, with its own tenant, failure,
-- hooks and answer.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local fault      = require "spec.support.workload.fault"
local grouped    = require "spec.support.data.grouped"
local lane_queue = require "spec.support.workload.lane_queue"

local insert, operation = grouped.insert, grouped.operation

describe("a group", function()
  local ours, seen, hooks, own

  setup(function()
    own = db.open { url = moonpool.host.admin_url, max = 1 }
    own.exec [[create function group_spec_fail(state text) returns int language plpgsql as
               $$ begin raise exception 'on purpose' using errcode = state; end $$]]
    own.exec "create table group_spec_shape (a int)"
    own.exec "grant select on group_spec_shape to moonpool_app"
    own.exec [[create function group_spec_reshape() returns void
               language plpgsql security definer as
               $$ begin alter table group_spec_shape add b int; end $$]]
  end)
  teardown(function()
    own.exec "drop function group_spec_fail"
    own.exec "drop function group_spec_reshape"
    own.exec "drop table group_spec_shape"
    own.close()
  end)
  before_each(function()
    ours, seen, hooks = dealership.new(), {}, {}
  end)
  after_each(fault.assert_quiet)

  -- Calls it for each name; all of them wait in the lane first. -> results or errors, infos
  local function together(op, names, more, options)
    local holder_of = function(wait) return operation(wait, { group = 1 }) end
    local calls, answers, infos = {}, {}, {}
    for i, name in ipairs(names) do
      calls[i] = function()
        local tenant = more and more[i] or ours.id
        local field = options and options.border and "dealershipId" or "dealership_id"
        local _, result, info = pcall(moonpool.call_info, type(op) == "table" and op[i] or op,
          { [field] = tenant, name = name }, options)
        answers[i], infos[i] = result, info
      end
    end
    lane_queue.behind(function(wait)
      moonpool.call(holder_of(wait), { dealership_id = ours.id, name = "holder" })
    end, calls)
    return answers, infos
  end

  local function names_stored() return grouped.names(ours) end

  it("undoes the member whose answer cannot be written, and no other", function()
    local op = operation(function(tx, input)
      return { customer = insert(tx, input), ratio = input.name == "b" and 0 / 0 or 1 }
    end)
    local answers, infos = together(op, { "a", "b", "c" }, nil,
                                    { border = true, answer_text = true })
    assert.matches('"firstName":"a"', answers[1], 1, true)
    assert.equal("RESULT_UNWRITABLE", answers[2].code)
    assert.matches('"firstName":"c"', answers[3], 1, true)
    assert.equal(3, infos[1].group)
    assert.same({ "a", "c" }, names_stored())
  end)

  it("is one transaction, in order, and each gets its own answer", function()
    local op = operation(function(tx, input)
      seen[#seen + 1] = input.name
      tx:after_commit(function() hooks[#hooks + 1] = input.name end)
      local row = insert(tx, input)
      return { name = row.first_name, xid = tx:value "select pg_current_xact_id()::text" }
    end)
    local answers, infos = together({ op, op, op, op }, { "a", "b", "c", "d" })
    assert.are.same({ "a", "b", "c", "d" }, seen)
    for i, name in ipairs { "a", "b", "c", "d" } do
      assert.are.equal(name, answers[i].name)
      assert.are.equal(answers[1].xid, answers[i].xid)
      assert.are.equal(4, infos[i].group)
    end
    assert.are.same({ "a", "b", "c", "d" }, names_stored())
    table.sort(hooks)
    assert.are.same({ "a", "b", "c", "d" }, hooks)
  end)

  it("works with rows that nobody looked at, and with calls that send nothing", function()
    local lazy = operation(function(tx, input) return { row = insert(tx, input) } end)
    local idle = operation(function(_, input) return input.name end)
    local only = operation(function(tx, input) insert(tx, input) end)
    local answers = together({ lazy, idle, only, lazy, idle }, { "a", "b", "c", "d", "e" })
    assert.are.equal("a", answers[1].row.first_name)
    assert.are.equal("b", answers[2])
    assert.is_nil(answers[3])
    assert.are.equal("d", answers[4].row.first_name)
    assert.are.equal("e", answers[5])
    assert.are.same({ "a", "c", "d" }, names_stored())
  end)

  it("keeps its calls when its first attempt starts again for a stale prepared text", function()
    local op = operation(function(tx, input)
      seen[#seen + 1] = input.name
      tx:first "select * from group_spec_shape"
      if #seen == 1 then
        tx:first "select group_spec_reshape()"
        tx:first "select * from group_spec_shape"
      end
      insert(tx, input)
      return input.name
    end, { group = 2 })
    local answers, infos = together(op, { "a", "b" })
    assert.are.same({ "a", "a", "b" }, seen)
    assert.are.same({ "a", "b" }, answers)
    assert.are.same({ "a", "b" }, names_stored())
    assert.are.equal(1, infos[1].attempts)
  end)

  it("undoes the one whose script fails, before or after it has sent something", function()
    local undone = {}
    local op = operation(function(tx, input)
      tx:on_rollback(function(e) undone[input.name] = e.code end)
      insert(tx, input)
      if input.name == "b" then moonpool.fail("EARLY", "nothing of it was sent") end
      tx:flush()
      if input.name == "d" then moonpool.fail("LATER", "something was") end
      insert(tx, input, input.name .. "2")
      return input.name
    end)
    local answers = together(op, { "a", "b", "c", "d", "e" })
    assert.are.equal("a", answers[1])
    assert.are.equal("EARLY", answers[2].code)
    assert.are.equal("c", answers[3])
    assert.are.equal("LATER", answers[4].code)
    assert.are.equal("e", answers[5])
    assert.are.same({ "a", "a2", "c", "c2", "e", "e2" }, names_stored())
    fault.eventually("hooks ran", function() return undone.b and undone.d end)
    assert.are.same({ b = "EARLY", d = "LATER" }, undone)
  end)

  it("undoes the one whose statement fails, seen at once or with the next one's", function()
    local op = operation(function(tx, input)
      seen[#seen + 1] = input.name
      local row = insert(tx, input)
      if input.name == "b" then tx:exec "select 1 / 0" end -- travels with c's first statements
      if input.name == "d" then
        assert(row.first_name == "d")
        tx:value "select 1 / 0"
      end
      if input.name == "c" then assert(row.first_name == "c") end
      return input.name
    end)
    local answers = together(op, { "a", "b", "c", "d", "e" })
    assert.are.equal("a", answers[1])
    assert.are.equal("22012", answers[2].sqlstate)
    assert.are.equal("c", answers[3])
    assert.are.equal("22012", answers[4].sqlstate)
    assert.are.equal("e", answers[5])
    assert.are.same({ "a", "c", "e" }, names_stored())
    assert.are.same({ "a", "b", "c", "c", "d", "e" }, seen) -- c began anew behind b
  end)

  it("undoes the last one too when what it left unseen fails", function()
    local op = operation(function(tx, input)
      insert(tx, input)
      if input.name == "c" then tx:exec "select 1 / 0" end
      return input.name
    end)
    local answers = together(op, { "a", "b", "c" })
    assert.are.equal("22012", answers[3].sqlstate)
    assert.are.same({ "a", "b" }, names_stored())
  end)

  it("whose members all fail stores nothing", function()
    local op = operation(function(tx, input)
      insert(tx, input)
      moonpool.fail("NO_" .. input.name:upper(), "no")
    end)
    local answers = together(op, { "a", "b" })
    assert.are.equal("NO_A", answers[1].code)
    assert.are.equal("NO_B", answers[2].code)
    assert.are.same({}, names_stored())
  end)

  it("keeps promises of rows that nobody looked at", function()
    local op = operation(function(tx, input)
      insert(tx, input)
      if input.name == "b" then
        tx:one("select 1 from customers where first_name = $name", { name = "none" }, "None: $name")
      end
      return input.name
    end)
    local answers = together(op, { "a", "b", "c" })
    assert.are.equal("RESOURCE_NOT_FOUND", answers[2].code)
    assert.are.equal("None: none", answers[2].message)
    assert.are.same({ "a", "c" }, names_stored())
  end)

  it("starts anew as a whole after a serialization failure", function()
    local failed = false
    local op = operation(function(tx, input)
      seen[#seen + 1] = input.name
      insert(tx, input)
      if input.name == "b" and not failed then
        failed = true
        tx:value("select group_spec_fail('40001')")
      end
      return { name = input.name, attempt = tx.attempt }
    end)
    local answers, infos = together(op, { "a", "b", "c" })
    for i, name in ipairs { "a", "b" } do
      assert.are.same({ name = name, attempt = 2 }, answers[i])
      assert.are.equal(2, infos[i].group)
    end
    assert.are.same({ name = "c", attempt = 1 }, answers[3]) -- it had not come in yet
    assert.are.same({ "a", "b", "a", "b", "c" }, seen)
    assert.are.same({ "a", "b", "c" }, names_stored())
  end)

  it("that fails at COMMIT is done one by one", function()
    local op = operation(function(tx, input)
      insert(tx, input)
      if input.name == "b" then
        tx:insert("deals", { id = tx:uuid(), dealership_id = input.dealership_id,
                             deal_number = "2026-1123-0001",
                             -- checked at COMMIT
                             salesperson_id = ours.salesperson.id, active_scenario_id = tx:uuid() })
      end
      return input.name
    end)
    local answers, infos = together(op, { "a", "b", "c" })
    assert.are.equal("a", answers[1])
    assert.are.equal("c", answers[3])
    assert.are.equal(1, infos[3].group)
    assert.are.equal("23503", answers[2].sqlstate, tostring(answers[2]))
    assert.are.same({ "a", "c" }, names_stored())
  end)

  it("may use savepoints and calls inside", function()
    local op = operation(function(tx, input)
      pcall(tx.savepoint, tx, function()
        insert(tx, input, input.name .. "-undone")
        moonpool.fail("X", "x")
      end)
      tx:savepoint(function() insert(tx, input) end)
      return input.name
    end)
    assert.are.same({ "a", "b" }, (together(op, { "a", "b" })))
    assert.are.same({ "a", "b" }, names_stored())
  end)

  it("waits for nothing but the database", function()
    local op = operation(function() moonpool.sleep(0.001) end)
    local e = failure(function() moonpool.call(op, { dealership_id = ours.id, name = "a" }) end)
    assert.truthy(e.message:find("may wait for nothing but its statements", 1, true), e.message)
  end)

  it("goes on without the one whose deadline passes", function()
    local slow = operation(function(tx, input)
      insert(tx, input)
      tx:value "select pg_sleep(60)"
    end, { timeout = 0.5 })
    local quick = operation(function(tx, input)
      insert(tx, input)
      return input.name
    end)
    local answers = together({ quick, slow, quick }, { "a", "b", "c" })
    assert.are.equal("a", answers[1])
    assert.are.equal("DEADLINE_EXCEEDED", answers[2].code)
    assert.are.equal("c", answers[3])
    assert.are.same({ "a", "c" }, names_stored())
  end)

  it("tells the one that was undone of its deadline while the others' COMMIT waits", function()
    own.exec "create table group_spec_late (name text)"
    own.exec "grant insert, select on group_spec_late to moonpool_app"
    own.exec [[create function group_spec_wait() returns trigger language plpgsql as
               $$ begin perform pg_advisory_xact_lock(5120); return null; end $$]]
    own.exec [[create constraint trigger wait after insert on group_spec_late
               deferrable initially deferred for each row execute function group_spec_wait()]]
    local fails = operation(function() moonpool.fail("NO", "on purpose") end, { timeout = 1 })
    local waits = operation(function(tx, input)
      tx:insert("group_spec_late", { name = input.name })
      return input.name
    end)
    local e, answer
    own.lease(function(conn)
      local function call(op, name)
        return moonpool.call(op, { dealership_id = ours.id, name = name })
      end
      conn.exec "select pg_advisory_lock(5120)"
      lane_queue.behind(function(wait) call(operation(wait, { group = 1 }), "holder") end, {
        function()
          e = failure(function() call(fails, "a") end)
          conn.exec "select pg_advisory_unlock(5120)"
        end,
        function() answer = call(waits, "b") end,
      })
    end)
    own.exec "drop table group_spec_late"
    own.exec "drop function group_spec_wait"
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
    assert.are.equal("b", answer)
  end)

  it("goes on without the one whose caller goes away", function()
    local quick = operation(function(tx, input)
      insert(tx, input)
      return input.name
    end)
    local slow = operation(function(tx, input)
      insert(tx, input)
      hooks.begun = true
      tx:value "select pg_sleep(60)"
    end)
    local gate = false
    local holder = operation(function()
      while not gate do moonpool.host.sleep(0.001) end
    end, { group = 1 })
    local function start(op, name)
      return moonpool.spawn(function()
        return moonpool.call(op, { dealership_id = ours.id, name = name })
      end)
    end
    local held = start(holder, "holder")
    fault.eventually("the lane is held", function() return moonpool.host.lanes().active == 1 end)
    local a, b, c = start(quick, "a"), start(slow, "b"), start(quick, "c")
    fault.eventually("all wait in the lane", function()
      return moonpool.host.lanes().waiting == 3
    end)
    gate = true
    fault.eventually("it is at it", function() return hooks.begun end)
    b:cancel()
    assert.are.equal("a", a:wait())
    assert.are.equal("c", c:wait())
    held:wait()
    assert.are.same({ "a", "c" }, names_stored())
  end)

  it("needs a lane, or groups", function()
    local e = failure(function() moonpool.operation { group = 2, run = print } end)
    assert.truthy(tostring(e):find("`group` needs a `lane`", 1, true), tostring(e))
  end)
end)
