-- Who waits for whom: the recorder names who holds the lane, and who has the lock in the database
-- that a call waits for.
local calls    = require "moonpool.calls"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local locks    = require "moonpool.serve.lock_waits"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

describe("a call that waits for", function()
  local schema, owner

  setup(function()
    schema = scratch.schema("lock_waits", {
      "create table lock_waits.rows (id int primary key, n int not null default 0)",
      "insert into lock_waits.rows values (1)",
    })
    owner = schema.owner
  end)

  teardown(function() schema.drop() end)

  -- The call of the operation that is under way.
  local function running(operation)
    local found
    scratch.await("a call of " .. operation, function()
      for _, call in ipairs(calls.recent { limit = 50 }) do
        if call.operation == operation and call.outcome == "running" then found = call.id end
      end
      return found
    end)
    return found
  end

  local function note_of(id, kind)
    for _, note in ipairs(calls.find(id).notes) do
      if note.kind == kind then return note end
    end
  end

  local function await_blocked(id)
    scratch.await("the wait to be seen", function()
      locks.look(0)
      return note_of(id, "blocked")
    end)
  end

  -- Starts an operation that holds row 1 until it is let go; gives its call's id, and what lets it
  -- go.
  local function hold(fields)
    local over = false
    local operation = inline.define(function(tx)
      tx:value "update lock_waits.rows set n = n + 1 where id = 1 returning n"
      while not over do moonpool.sleep(0.001) end
    end, fields)
    local handle = moonpool.spawn(moonpool.call, operation, {})
    local function let_go()
      over = true
      handle:wait()
    end
    finally(let_go)
    local id = running "operation"
    scratch.await("the row to be held", function() return note_of(id, "answered") end)
    return id, let_go
  end

  local function update(tx) tx:exec "update lock_waits.rows set n = n + 1 where id = 1" end

  -- Starts one that wants the row, too.
  local function second(fields)
    local before = {}
    for _, call in ipairs(calls.recent { limit = 200 }) do before[call.id] = true end
    local handle = moonpool.spawn(moonpool.call, inline.define(update, fields), {})
    local id
    scratch.await("the second call", function()
      for _, call in ipairs(calls.recent { limit = 50 }) do
        if not before[call.id] then id = call.id end
      end
      return id
    end)
    return id, handle
  end

  it("a row says which call has it, and where that one is", function()
    local holder, let_go = hold()
    local id, handle = second()
    await_blocked(id)
    locks.look(0)
    local note, count = note_of(id, "blocked"), 0
    inline.contains(note.text, "operation at ", "lock_waits_spec.lua:", "call " .. holder)
    assert.equal(note_of(holder, "connected").n, note.n)
    for _, each in ipairs(calls.find(id).notes) do
      count = count + (each.kind == "blocked" and 1 or 0)
    end
    assert.equal(1, count) -- once in a round trip
    inline.contains(calls.timeline(id), "waits for a lock, held by: operation at ")
    let_go()
    handle:wait()
    assert.is_nil(note_of(holder, "blocked"))
  end)

  it("a row is seen although nobody in the pool is left to look", function()
    inline.with_pool_of(2, function()
      local holder, let_go = hold()
      local id, handle = second()
      await_blocked(id)
      assert.equal(2, host.pool_stats().active_connections)
      inline.contains(note_of(id, "blocked").text, "call " .. holder)
      let_go()
      handle:wait()
    end)
  end)

  it("a row that somebody else has says so", function()
    local over, held = false, false
    finally(function() over = true end)
    local other = moonpool.spawn(function()
      owner.lease(function(conn)
        conn.exec "begin"
        conn.exec "update lock_waits.rows set n = n + 1 where id = 1"
        held = true
        while not over do moonpool.sleep(0.001) end
        conn.exec "rollback"
      end)
    end)
    scratch.await("the row to be held", function() return held end)
    local id, handle = second()
    await_blocked(id)
    inline.contains(note_of(id, "blocked").text, "no call of this host")
    over = true
    other:wait()
    handle:wait()
  end)

  it("its lane says who is in it", function()
    local holder, let_go = hold { lane = "lock_waits" }
    local id, handle = second { lane = "lock_waits" }
    inline.contains(note_of(id, "queued").text, "operation at ", "call " .. holder)
    inline.contains(calls.timeline(id), "waits in its lane, behind operation")
    let_go()
    handle:wait()
  end)

  it("a lane with a long name has whole characters in its name", function()
    inline.call(function() return true end, { lane = "ж" .. ("車"):rep(60) })
    local lane = calls.recent({ limit = 1 })[1].lane
    assert.truthy(utf8.len(lane))
    assert.equal("ж" .. ("車"):rep(25), lane)
    inline.call(function() return true end, { lane = "a\xff\xe8\xbbb" })
    assert.equal("a???b", calls.recent({ limit = 1 })[1].lane)
  end)

  it("nothing asks the database nothing", function()
    local before = host.pool_stats().total_queries
    locks.look()
    assert.equal(before, host.pool_stats().total_queries)
  end)
end)
