-- The next call of a lane goes on with the connection: it begins behind the COMMIT of the one
-- before, whose answer it does not wait for. Whatever becomes of that COMMIT, each call is done
-- once, or told why not.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local fault    = require "spec.support.workload.fault"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

-- Held by a spec, it holds up the COMMIT of whoever stores a thing that is slow.
local DOOR = 815

describe("the connection of a lane", function()
  local schema, door, seen, gate, serial

  setup(function()
    schema = scratch.schema("handover_spec", {
      "create table handover_spec.kinds (name text primary key)",
      "insert into handover_spec.kinds values ('known')",
      [[create table handover_spec.things (name text primary key,
        slow boolean not null default false,
          kind text not null default 'known' references handover_spec.kinds deferrable initially
            deferred)]],
      [[create function handover_spec.wait() returns trigger language plpgsql as
          $$ begin perform pg_advisory_xact_lock_shared(815); return null; end $$]],
      -- Its name comes before the foreign key's, and so does it.
      [[create constraint trigger "A_wait" after insert
        on handover_spec.things deferrable initially deferred
          for each row when (new.slow) execute function handover_spec.wait()]],
    })
    door = db.open { url = moonpool.host.admin_url, max = 1 }
    serial = 0
  end)
  teardown(function()
    door.close()
    schema.drop()
  end)
  before_each(function()
    schema.owner.exec "truncate handover_spec.things"
    seen, serial = {}, serial + 1
  end)
  after_each(function()
    test.calm()
    fault.assert_quiet()
  end)

  local function operation(run, fields)
    local definition = { lane = "handover_spec:" .. serial, run = run, timeout = 20 }
    for name, value in pairs(fields or {}) do definition[name] = value end
    return moonpool.operation(definition)
  end

  -- Each call stores two things: a1 and a2.
  local function add(tx, input, number)
    tx:exec(
      "insert into handover_spec.things (name, slow, kind) values ($name || $number, $slow, $kind)",
      { name = input.name, number = number, slow = input.slow or false,
        kind = input.kind or "known" })
  end

  -- One in front of its look, and one behind it.
  local function store(fields, more)
    return operation(function(tx, input)
      seen[#seen + 1] = input.name
      add(tx, input, "1")
      local backend = tx:value "select pg_backend_pid()"
      add(tx, input, "2")
      if more then more(tx, input) end
      return { backend = backend, attempt = tx.attempt }
    end, fields)
  end

  -- Starts the calls while another holds the lane, and lets them go when all of them wait.
  local function start(op, inputs)
    gate = false
    local holder = moonpool.spawn(moonpool.call,
      operation(function()
        while not gate do moonpool.host.sleep(0.001) end
      end, { isolation = op.isolation }), {})
    local tasks = {}
    for i, input in ipairs(inputs) do tasks[i] = moonpool.spawn(moonpool.call_info, op, input) end
    fault.eventually("all wait in the lane", function()
      return moonpool.host.lanes().waiting == #inputs
    end)
    gate = true
    holder:wait()
    return tasks
  end

  local function results(tasks)
    local answers = {}
    for i, task in ipairs(tasks) do
      local ok, result, info = pcall(task.wait, task)
      answers[i] = { ok = ok, result = result, info = info }
    end
    return answers
  end

  -- Whose things are stored; "a!": only one of them.
  local function things()
    return schema.owner.value [[
      select string_agg(name, ',' order by name)
        from (select left(name, 1) || case count(*) when 2 then '' else '!' end as name
                from handover_spec.things group by left(name, 1)) t]]
  end

  -- Runs fn while the door is shut, and opens it.
  local function behind_the_door(fn)
    return door.lease(function(conn)
      conn.value("select pg_advisory_lock($1) is null", DOOR)
      local function waiting()
        return conn.value(
          "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 \z
            and not granted", DOOR) > 0
      end
      fn(waiting, function() conn.value("select pg_advisory_unlock($1)", DOOR) end)
    end)
  end

  it("is the next one's before COMMIT is answered", function()
    for _, isolation in ipairs { "read committed", "serializable" } do
      local answers
      schema.owner.exec "truncate handover_spec.things"
      seen = {}
      behind_the_door(function(waiting, open)
        local tasks = start(store { isolation = isolation },
                            { { name = "a", slow = true }, { name = "b" }, { name = "c" } })
        fault.eventually("COMMIT waits", waiting)
        fault.eventually("the next has begun", function() return #seen == 2 end)
        open()
        answers = results(tasks)
      end)
      for i = 1, 3 do
        assert.is_true(answers[i].ok, tostring(answers[i].result))
        assert.are.equal(answers[1].result.backend, answers[i].result.backend)
        assert.are.equal(2, answers[i].info.round_trips)
        assert.are.equal(1, answers[i].info.attempts)
      end
      assert.are.same({ "a", "b", "c" }, seen)
      assert.are.equal("a,b,c", things())
    end
  end)

  it("is good for the next one although COMMIT failed", function()
    local answers = results(
      start(store(), { { name = "a", kind = "unknown" }, { name = "b" }, { name = "c" } }))
    assert.are.equal("23503", answers[1].result.sqlstate)
    for i = 2, 3 do assert.are.equal(1, answers[i].info.attempts) end
    assert.are.equal("b,c", things())
    assert.are.same({ "a", "b", "c" }, seen)
  end)

  it("is good for nothing where a statement in front of COMMIT failed: the next one starts again",
     function()
    local op = store({ isolation = "serializable" }, function(tx, input)
      if input.fails then tx:exec "select 1 / 0" end
    end)
    local answers = results(
      start(op, { { name = "a", fails = true }, { name = "b" }, { name = "c", fails = true },
                  { name = "d" } }))
    assert.are.equal("22012", answers[1].result.sqlstate)
    assert.are.equal("22012", answers[3].result.sqlstate)
    for _, i in ipairs { 2, 4 } do
      assert.is_true(answers[i].ok, tostring(answers[i].result))
      assert.are.equal(1, answers[i].info.attempts)
    end
    assert.are.equal("b,d", things())
  end)

  it("is left by one that has sent nothing when the one before fails", function()
    local op = operation(function(tx, input)
      seen[#seen + 1] = input.name
      if input.name == "b" and #seen == 2 then while true do moonpool.host.sleep(0.001) end end
      add(tx, input, "1")
      add(tx, input, "2")
    end)
    behind_the_door(function(waiting, open)
      local tasks = start(op, { { name = "a", slow = true, kind = "unknown" }, { name = "b" } })
      fault.eventually("COMMIT waits", waiting)
      fault.eventually("the next has begun", function() return #seen == 2 end)
      open()
      assert.are.equal("23503", failure(tasks[1].wait, tasks[1]).sqlstate)
      tasks[2]:wait()
    end)
    assert.are.same({ "a", "b", "b" }, seen)
    assert.are.equal("b", things())
  end)

  for _, at in ipairs { 1, "commit" } do
    for _, state in ipairs { "40001", "57P01" } do
      it(("when %s comes at %s: both are done, once"):format(state, at), function()
        for run = 1, 2 do -- whichever of the two it hits
          schema.owner.exec "truncate handover_spec.things"
          local op = store { isolation = "serializable", retries = 5 }
          local first = operation(function(tx, input)
            test.fail_next { sqlstate = state, at = at }
            add(tx, input, "1")
            if run == 1 then tx:value "select 1" end
            add(tx, input, "2")
          end, { isolation = "serializable", retries = 5 })
          gate = false
          local holder = moonpool.spawn(moonpool.call,
            operation(function()
              while not gate do moonpool.host.sleep(0.001) end
            end, { isolation = "serializable" }), {})
          local a = moonpool.spawn(moonpool.call, first, { name = "a" })
          fault.eventually("it waits", function() return moonpool.host.lanes().waiting == 1 end)
          local b, c = moonpool.spawn(moonpool.call, op, { name = "b" }),
            moonpool.spawn(moonpool.call, op, { name = "c" })
          fault.eventually("all wait", function() return moonpool.host.lanes().waiting == 3 end)
          gate = true
          for _, task in ipairs { holder, a, b, c } do task:wait() end
          assert.are.equal("a,b,c", things())
          test.calm()
        end
      end)
    end
  end

  it("is the next one's but one's if the next gives up, before or after it has sent something",
     function()
    for _, sends in ipairs { false, true } do
      schema.owner.exec "truncate handover_spec.things"
      seen = {}
      local op = operation(function(tx, input)
        seen[#seen + 1] = input.name
        if input.name == "b" and not sends then while true do moonpool.host.sleep(0.001) end end
        add(tx, input, "1")
        if input.name == "b" then tx:value "select 1" end
        add(tx, input, "2")
      end, { isolation = "serializable" })
      behind_the_door(function(waiting, open)
        local tasks = start(op, { { name = "a", slow = true }, { name = "b" }, { name = "c" } })
        fault.eventually("COMMIT waits", waiting)
        fault.eventually("the next has begun", function() return seen[2] end)
        tasks[2]:cancel()
        assert.are.equal("CANCELED", failure(tasks[2].wait, tasks[2]).code)
        open()
        tasks[1]:wait()
        tasks[3]:wait()
      end)
      assert.are.equal("a,c", things())
    end
  end)

  it("is not waited for longer than a call's timeout", function()
    local op = store()
    behind_the_door(function(waiting, open)
      gate = false
      local first = moonpool.spawn(moonpool.call, op, { name = "a", slow = true })
      fault.eventually("COMMIT waits", waiting)
      local late = failure(moonpool.call, op, { name = "b" }, { timeout = 0.1 })
      assert.are.equal("DEADLINE_EXCEEDED", late.code)
      open()
      first:wait()
    end)
    assert.are.equal("a", things())
  end)

  it("when its backend ends: who was at it is done, once", function()
    local op = store { isolation = "serializable" }
    behind_the_door(function(waiting, open)
      local tasks = start(op, { { name = "a", slow = true }, { name = "b" }, { name = "c" } })
      fault.eventually("COMMIT waits", waiting)
      fault.eventually("the next has begun", function() return #seen == 2 end)
      fault.kill(
        test.admin().value(
          "select pid from pg_locks where locktype = 'advisory' and objid = $1 and not granted",
          DOOR))
      open()
      for _, answer in ipairs(results(tasks)) do
        assert.is_true(answer.ok, tostring(answer.result))
      end
    end)
    assert.are.equal("a,b,c", things())
  end)

  it("is given up now and then, so that other hosts have their turn", function()
    local done, inputs = 0, {}
    for i = 1, 60 do inputs[i] = { name = "call " .. i } end
    local op = operation(function(tx, input)
      if input.name == "call 2" then -- we hold the lock: whoever stands behind us is another host
        seen.pid = tx:value "select pg_backend_pid()"
        while not seen.others_wait do moonpool.host.sleep(0.001) end
      end
      tx:value "select 1"
      tx:after_commit(function() done = done + 1 end)
    end, { isolation = "serializable" })
    local tasks = start(op, inputs)
    fault.eventually("the lock is known", function()
      seen.key = seen.pid and door.value([[
        select classid::bigint << 32 | objid::bigint from pg_locks
         where locktype = 'advisory' and pid = $1 and objid <> 815]], seen.pid)
      return seen.key
    end)
    local others_at
    local others = moonpool.spawn(function()
      door.lease(function(conn)
        conn.value("select pg_advisory_lock($1) is null", seen.key)
        others_at = done
        conn.value("select pg_advisory_unlock($1)", seen.key)
      end)
    end)
    fault.eventually("another host waits", function()
      return test.admin().value(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted") > 0
    end)
    seen.others_wait = true
    others:wait()
    for _, task in ipairs(tasks) do task:wait() end
    assert.truthy(others_at < 60, others_at)
  end)
end)
