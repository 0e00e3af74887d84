-- Tasks: what ends them before they are done.
local moonpool = require "moonpool"

local sleep, spawn = moonpool.sleep, moonpool.spawn

-- Waits for one turn of the loop, then gives its arguments.
local function later(...)
  sleep(0)
  return ...
end

local function closing(fn)
  return setmetatable({}, { __close = fn })
end

describe("cancel", function()
  it("ends a task that waits: its <close> variables run, and who waits for it is told", function()
    local closed
    local handle = spawn(function()
      local _ <close> = closing(function() closed = true end)
      sleep(1000)
    end)
    later()
    local waiter = spawn(function() return pcall(handle.wait, handle) end)
    later()
    assert.is_true(handle:cancel())
    assert.is_true(closed)
    local ok, e = waiter:wait()
    assert.is_false(ok)
    assert.are.equal("CANCELED", e.code)
    assert.is_false(handle:cancel())
  end)

  it("ends a task that has not begun, and one that computes", function()
    local begun = false
    local handle = spawn(function() begun = true end)
    assert.is_true(handle:cancel())
    later()
    assert.is_false(begun)
    handle = spawn(function() while true do pcall(function() while true do end end) end end)
    sleep(0.001)
    assert.is_true(handle:cancel())
    assert.are.equal("CANCELED", select(2, pcall(handle.wait, handle)).code)
  end)

  it("is not for the task itself, nor for one that has ended", function()
    local handle
    handle = spawn(function() return pcall(handle.cancel, handle) end)
    local ok, e = handle:wait()
    assert.is_false(ok)
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.is_false(handle:cancel())
  end)
end)

describe("moonpool.timeout", function()
  it("gives what the function gives, or raises what it raises", function()
    assert.are.same({ n = 3, 1, nil, 3 }, table.pack(moonpool.timeout(1000, function(...)
      later() return ...
    end, 1, nil, 3)))
    local ok, e = pcall(moonpool.timeout, 1000, function() error { code = "MINE" } end)
    assert.is_false(ok)
    assert.are.equal("MINE", e.code)
  end)

  it("ends what takes longer", function()
    local closed
    local ok, e = pcall(moonpool.timeout, 0.001, function()
      local _ <close> = closing(function() closed = true end)
      sleep(1000)
    end)
    assert.is_false(ok)
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
    assert.is_true(closed)
    assert.are.equal("DEADLINE_EXCEEDED", select(2, pcall(moonpool.timeout, 0.001, function()
      while true do end
    end)).code)
  end)

  it("leaves nothing behind when its own task is canceled", function()
    local closed
    local handle = spawn(function()
      moonpool.timeout(1000, function()
        local _ <close> = closing(function() closed = true end)
        sleep(1000)
      end)
    end)
    later() later()
    handle:cancel()
    assert.is_true(closed)
  end)
end)

describe("a task that ends with those that it shares its limits with", function()
  -- A child of a task that uses up its limits, as one outside of them has it.
  local function orphan(child)
    local host = require "moonpool.host"
    local handle
    local founder = host.spawn_limited({ cpu_ms = 5 }, function()
      handle = spawn(child)
      later()
      while true do end
    end)
    return function() return handle end, founder
  end

  it("is told to who waits for it", function()
    local handle, founder = orphan(function() sleep(1000) end)
    while not handle() do later() end
    local ok, e = pcall(handle().wait, handle())
    assert.is_false(ok)
    assert.are.equal("CANCELED", e.code)
    assert.are.equal("SCRIPT_TIMEOUT", select(2, pcall(founder.wait, founder)).code)
    assert.is_false(handle():cancel())
    assert.are.equal("CANCELED", select(2, pcall(handle().wait, handle())).code)
  end)

  it("may ask for its own end, and for that of the others", function()
    local handle, founder
    handle, founder = orphan(function()
      local _ <close> = closing(function() handle():cancel() founder:cancel() end)
      sleep(1000)
    end)
    assert.are.equal("SCRIPT_TIMEOUT", select(2, pcall(founder.wait, founder)).code)
    assert.is_false(handle():cancel())
  end)
end)

describe("a task with limits", function()
  local host = moonpool.host

  it("ends when its CPU time is used up, and nothing of it catches that", function()
    local caught = false
    local handle = host.spawn_limited({ cpu_ms = 20 }, function()
      while true do
        pcall(function() while true do end end)
        caught = true
      end
    end)
    local ok, e = pcall(handle.wait, handle)
    assert.is_false(ok)
    assert.is_false(caught)
    assert.are.equal("SCRIPT_TIMEOUT", e.code)
    assert.truthy(e.traceback:find("task_end_spec.lua", 1, true))
    assert.truthy(e.line:find("task_end_spec.lua:%d+"))
  end)

  it("has its memory, and a second chance but no third", function()
    local chances = 0
    local handle = host.spawn_limited({ memory = 1 << 20 }, function()
      while true do
        assert(not pcall(function() local s = "x" while true do s = s .. s end end))
        chances = chances + 1
      end
    end)
    local _, e = pcall(handle.wait, handle)
    assert.are.equal("OUT_OF_MEMORY", e.code)
    assert.are.equal(1, chances)
    assert.are.equal(1 << 21, #("x"):rep(1 << 21)) -- others have theirs
  end)

  it("shares its limits with those that it starts", function()
    local handle = host.spawn_limited({ memory = 1 << 20 }, function()
      return spawn(function() return ("x"):rep(1 << 21) end):wait()
    end)
    assert.are.equal("OUT_OF_MEMORY", select(2, pcall(handle.wait, handle)).code)
  end)

  it("keeps the memory of what it leaves out of the others' accounts", function()
    local kept
    host.spawn_limited({ memory = 1 << 20 }, function() kept = ("x"):rep(1 << 18) end):wait()
    local handle = host.spawn_limited({ memory = 1 << 20 }, function()
      return #kept + #("y"):rep(3 << 17)
    end)
    assert.are.equal(5 << 17, handle:wait())
  end)
end)
