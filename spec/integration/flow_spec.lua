-- Flow control: lanes with a width, a rate, priorities and a limit; several lanes of one call.
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local await = scratch.await

local serial = 0

-- A key that no other spec uses.
local function fresh()
  serial = serial + 1
  return ("flow_spec:%d"):format(serial)
end

-- An operation that counts who is inside and stays there until it is opened.
local function gate(lane, fields)
  local self = { inside = 0, most = 0, entered = {}, open = false }
  self.op = inline.define(function(_, input)
    self.inside = self.inside + 1
    self.most = math.max(self.most, self.inside)
    self.entered[#self.entered + 1] = input.n
    await("the gate to open", function() return self.open end)
    self.inside = self.inside - 1
    return input.n
  end, { lane = lane, input = fields }, "gate")
  function self.start(input)
    return moonpool.spawn(moonpool.call, self.op, input)
  end
  return self
end

local input = is.object { n = is.integer, p = is.integer:optional(), tenant = is.string:optional(),
                          supplier = is.string:optional() }

local function waiting(held, inside, n)
  await(("%d inside and %d waiting"):format(inside, n), function()
    return held.inside == inside and host.lanes().waiting == n
  end)
end

local function wait_for(handles)
  for _, handle in ipairs(handles) do handle:wait() end
end

describe("a lane with a width", function()
  it("lets so many calls run at a time, and the others in their order", function()
    local held, calls = gate({ key = fresh(), width = 3 }, input), {}
    for n = 1, 9 do calls[n] = held.start { n = n } end
    waiting(held, 3, 6)
    held.open = true
    wait_for(calls)
    assert.are.equal(3, held.most)
    assert.are.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, held.entered)
  end)

  it("holds no connection for those who wait", function()
    inline.with_pool_of(3, function()
      local held, calls = gate({ key = fresh(), width = 2 }, input), {}
      for n = 1, 10 do calls[n] = held.start { n = n } end
      waiting(held, 2, 8)
      assert.are.equal(7, inline.call(function(tx) return tx:value "select 7" end))
      assert.are.equal(0, host.pool_stats().waiting_clients)
      held.open = true
      wait_for(calls)
    end)
  end)

  it("takes calls with the lower priority number first", function()
    local held = gate({ key = fresh(), priority = "$p" }, input)
    local calls = { held.start { n = 0 } }
    await("the first inside", function() return held.inside == 1 end)
    for n, p in ipairs { 0, 5, -5, 5, -5 } do calls[#calls + 1] = held.start { n = n, p = p } end
    waiting(held, 1, 5)
    held.open = true
    wait_for(calls)
    assert.are.same({ 0, 3, 5, 1, 2, 4 }, held.entered)
    local e = failure(moonpool.call, held.op, { n = 9, p = 1000 })
    assert.are.equal("VALIDATION_ERROR", e.code)
  end)

  it("with a limit answers BUSY at once, with the place in the queue and the wait", function()
    local key = fresh()
    local held, calls = gate({ key = key, width = 1, limit = 2 }, input), {}
    for n = 1, 3 do calls[n] = held.start { n = n } end
    waiting(held, 1, 2)
    local e = failure(moonpool.call, held.op, { n = 4 })
    held.open = true
    wait_for(calls)
    assert.are.equal("BUSY", e.code)
    assert.are.equal(503, e.status)
    inline.contains(e.message, "2 calls already wait in lane " .. key, "number 3", "about")
  end)

  it("tells who waits too long what he waits for", function()
    local key = fresh()
    local held = gate({ key = key, width = 1 }, input)
    local first = held.start { n = 1 }
    await("the first inside", function() return held.inside == 1 end)
    local late = inline.define(function() end, { lane = { key = key }, timeout = 0.05 })
    local e = failure(moonpool.call, late, {})
    held.open = true
    first:wait()
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
    inline.contains(e.message, "lane " .. key, "number 1", "1 of 1 places")
  end)
end)

describe("a lane with a rate", function()
  it("begins no more calls than it allows", function()
    local began = {}
    local op = inline.define(function() began[#began + 1] = host.clock() end,
      { lane = { key = fresh(), width = 100, rate = "50/s", burst = 5 } }, "rated")
    local calls = {}
    for n = 1, 25 do calls[n] = function() moonpool.call(op, {}) end end
    moonpool.all(calls)
    table.sort(began)
    for from = 1, #began do
      for to = from, #began do
        -- A clock of milliseconds, and scripts start some time after their turn: a call more.
        local most = 5 + (began[to] - began[from]) * 50 + 1
        assert.is_true(to - from + 1 <= most + 1, ("%d to %d"):format(from, to))
      end
    end
    assert.is_true(began[25] - began[1] >= 0.35, tostring(began[25] - began[1]))
  end)
end)

describe("a call of several lanes", function()
  local function tenant_and_supplier(tenants, suppliers)
    local key = fresh()
    return { { key = key .. ":tenant:$tenant", width = tenants },
             { key = key .. ":supplier:$supplier", width = suppliers } }
  end

  it("begins when it has a place in each", function()
    local held = gate(tenant_and_supplier(2, 3), input)
    local calls = {}
    for n = 1, 5 do calls[n] = held.start { n = n, tenant = "noisy", supplier = "s" } end
    waiting(held, 2, 3)
    for n = 6, 8 do calls[n] = held.start { n = n, tenant = "calm", supplier = "s" } end
    waiting(held, 3, 5)
    -- Two of the noisy tenant, and one of the calm, though it came last.
    assert.are.same({ 1, 2, 6 }, held.entered)
    held.open = true
    wait_for(calls)
    assert.are.equal(3, held.most)
  end)

  it("never deadlocks, in whatever order they are named", function()
    local key, done = fresh(), 0
    local function crossing(one, other)
      return inline.define(function(tx)
        tx:value "select 1"
        done = done + 1
      end, { lane = { { key = key .. one }, { key = key .. other } }, timeout = 30 }, "crossing")
    end
    local there, back = crossing("a", "b"), crossing("b", "a")
    local calls = {}
    for n = 1, 100 do
      calls[n] = function() moonpool.call(n % 2 == 0 and there or back, {}) end
    end
    moonpool.all(calls)
    assert.are.equal(100, done)
    await("the lanes to be left", function() return host.lanes().active == 0 end)
  end)
end)

describe("the field lane", function()
  for what, lane in pairs {
    ["width must be an integer"] = { key = "k", width = 0 },
    ["rate must be a text"] = { key = "k", rate = "100" },
    ["did you mean `width`"] = { key = "k", with = 3 },
    ["needs a `key`"] = { width = 3 },
    ["burst needs a `rate`"] = { key = "k", burst = 3 },
    ["priority must name an input field"] = { key = "k", priority = 3 },
    ["one `priority`"] = { { key = "a", priority = "$p" }, { key = "b", priority = "$p" } },
    ["4 is the most"] = { "a", "b", "c", "d", "e" },
  } do
    it("is refused: " .. what, function()
      local e = failure(moonpool.operation, { lane = lane, run = function() end })
      assert.are.equal("SCRIPT_ERROR", e.code)
      inline.contains(e.message, what)
    end)
  end
end)
