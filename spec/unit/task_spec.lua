-- Tasks: waits pass through everything that Lua can yield through, and scripts' coroutines stay as
-- in plain Lua.
local moonpool = require "moonpool"

local sleep, spawn, all = moonpool.sleep, moonpool.spawn, moonpool.all

-- Waits for one turn of the loop, then gives its arguments.
local function later(...)
  sleep(0)
  return ...
end

local function closing(fn)
  return setmetatable({}, { __close = fn })
end

describe("a wait", function()
  it("passes through pcall and xpcall", function()
    assert.are.same({ true, 1, nil, 3 }, { pcall(later, 1, nil, 3) })
    assert.are.same({ true, "a" }, { xpcall(later, debug.traceback, "a") })
    local ok, message = pcall(function() later() error("boom", 0) end)
    assert.is_false(ok)
    assert.are.equal("boom", message)
  end)

  it("passes through metamethods", function()
    local mt = {
      __index = function(_, k) return later(k) end,
      __newindex = function(t, k, v) rawset(t, k, later(v)) end,
      __add = function() return later("add") end,
      __concat = function() return later("concat") end,
      __eq = function() return later(true) end,
      __lt = function() return later(true) end,
      __le = function() return later(false) end,
      __len = function() return later(7) end,
      __unm = function() return later("unm") end,
      __call = function(_, x) return later(x) end,
      __pairs = function(t) return later(next, t, nil) end,
    }
    local a, b = setmetatable({}, mt), setmetatable({}, mt)
    assert.are.equal("field", a.field)
    a.x = 5
    assert.are.equal(5, rawget(a, "x"))
    assert.are.equal("add", a + 1)
    assert.are.equal("concat", a .. "x")
    assert.are.equal("concat", "x" .. a)
    assert.is_true(a == b)
    assert.is_true(a < b)
    assert.is_false(a <= b)
    assert.are.equal(7, #a)
    assert.are.equal("unm", -a)
    assert.are.equal("called", a("called"))
    local seen = {}
    for k, v in pairs(a) do seen[k] = v end
    assert.are.same({ x = 5 }, seen)
  end)

  it("passes through iterators", function()
    local out = {}
    for i in function(_, i) i = later((i or 0) + 1) return i <= 3 and i or nil end do
      out[#out + 1] = i
    end
    assert.are.same({ 1, 2, 3 }, out)
  end)

  it("passes through <close>, also on the way of an error", function()
    local order = {}
    do
      local _ <close> = closing(function() later() order[#order + 1] = "normal" end)
    end
    local ok, message = pcall(function()
      local _ <close> = closing(function(_, e) later() order[#order + 1] = e end)
      error("failed", 0)
    end)
    assert.is_false(ok)
    assert.are.equal("failed", message)
    assert.are.same({ "normal", "failed" }, order)
  end)

  it("passes through <close> of a task that fails", function()
    local closed
    local handle = spawn(function()
      local _ <close> = closing(function() later() closed = true end)
      error("failed", 0)
    end)
    assert.is_false((pcall(handle.wait, handle)))
    assert.is_true(closed)
  end)

  it("is refused with a clear error where it is impossible", function()
    local function refused(pattern, fn, ...)
      local ok, e = pcall(fn, ...)
      assert.is_false(ok)
      e = tostring(e)
      assert.is_truthy(e:find("moonpool.sleep: cannot wait", 1, true), e)
      assert.is_truthy(e:find(pattern, 1, true), e)
      assert.is_truthy(e:find("task_spec.lua:%d+"), e)
    end
    refused("inside table.sort", table.sort, { 2, 1 }, function() sleep(0) end)
    refused("inside string.gsub", string.gsub, "x", "x", function() sleep(0) end)
    refused("inside tostring", tostring, setmetatable({}, { __tostring = function() sleep(0) end }))
    refused("this coroutine is resumed from a place that cannot wait", table.sort, { 2, 1 },
      coroutine.wrap(function() sleep(0) end))
    refused("this coroutine is resumed from a place that cannot wait", string.gsub, "x", "x",
            function()
      return coroutine.wrap(function() return coroutine.wrap(function() sleep(0) end)() end)()
    end)
  end)

  it("is refused inside __gc", function()
    local message
    setmetatable({}, { __gc = function() message = select(2, pcall(sleep, 0)) end })
    collectgarbage()
    collectgarbage()
    assert.is_truthy(tostring(message):find("cannot wait inside a __gc metamethod", 1, true),
                     tostring(message))
  end)

  it("refuses bad durations", function()
    for _, bad in ipairs { -1, 0 / 0, math.huge, "soon", {} } do
      local ok, e = pcall(sleep, bad)
      assert.is_false(ok)
      assert.are.equal("INVALID_ARGUMENT", e.code)
    end
    assert.is_false((pcall(sleep)))
  end)

  it("lasts as long as was asked", function()
    local start = require "system".monotime()
    sleep(0.03)
    assert.is_true(require "system".monotime() - start >= 0.029)
  end)
end)

describe("a script's coroutine", function()
  it("waits inside a generator of a for loop", function()
    local out = {}
    for i, text in coroutine.wrap(function()
      for i = 1, 3 do
        later()
        coroutine.yield(i, later("v" .. i))
        later()
      end
    end) do
      out[#out + 1] = i .. text
      later()
    end
    assert.are.same({ "1v1", "2v2", "3v3" }, out)
  end)

  it("waits when nested, with values passed in and out", function()
    local function level(n)
      return coroutine.wrap(function(x)
        while true do
          local inner = n > 0 and level(n - 1)(later(x)) or later(x)
          x = coroutine.yield(inner + 1)
        end
      end)
    end
    local co = level(5)
    assert.are.equal(16, co(10))
    assert.are.equal(26, co(20))
  end)

  it("sees nothing of the host in what resume gives", function()
    local co = coroutine.create(function(...)
      later()
      local got = table.pack(coroutine.yield(...))
      later()
      return table.unpack(got, 1, got.n)
    end)
    assert.are.same({ n = 4, true, 1, nil, nil }, table.pack(coroutine.resume(co, 1, nil, nil)))
    assert.are.same({ n = 1, true }, table.pack(coroutine.resume(co)))
    assert.are.equal("dead", coroutine.status(co))
    assert.are.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
  end)

  it("gives its errors as plain Lua does, after a wait too", function()
    for _, wait in ipairs { function() end, later } do
      local co = coroutine.create(function() wait() error({ 1 }) end)
      local ok, e = coroutine.resume(co)
      assert.is_false(ok)
      assert.are.same({ 1 }, e)
      local closed
      local f = coroutine.wrap(function()
        local _ <close> = closing(function() closed = true end)
        wait()
        error("boom", 0)
      end)
      ok, e = pcall(function() f() end)
      assert.is_false(ok)
      assert.is_truthy(e:find("task_spec%.lua:%d+: boom$"), e)
      assert.is_true(closed)
      assert.is_truthy(select(2, pcall(f)):find("cannot resume dead coroutine", 1, true))
    end
  end)

  it("has the status that plain Lua gives", function()
    local co, other
    co = coroutine.create(function()
      assert.are.equal("running", coroutine.status(co))
      other = coroutine.create(function() return coroutine.status(co) end)
      assert.are.same({ true, "normal" }, { coroutine.resume(other) })
      later()
      assert.is_true(coroutine.isyieldable())
      local me, main = coroutine.running()
      assert.are.equal(co, me)
      assert.is_false(main)
      coroutine.yield()
    end)
    assert.are.equal("suspended", coroutine.status(co))
    assert(coroutine.resume(co))
    assert.are.equal("suspended", coroutine.status(co))
    assert.is_true(coroutine.close(co))
    assert.are.equal("dead", coroutine.status(co))
    assert.has_error(function() coroutine.resume(1) end)
    assert.has_error(function() coroutine.create(1) end)
    assert.has_error(function() coroutine.close(coroutine.running()) end)
  end)

  it("runs <close> when it is closed, and gives the error of one", function()
    local closed
    local co = coroutine.create(function()
      local _ <close> = closing(function() closed = true error("in close", 0) end)
      coroutine.yield()
    end)
    coroutine.resume(co)
    assert.are.same({ false, "in close" }, { coroutine.close(co) })
    assert.is_true(closed)
  end)

  it("cannot be resumed while it waits, and may be closed", function()
    local co = coroutine.create(function() sleep(1000) end)
    local handle = spawn(function() return coroutine.resume(co) end)
    later()
    assert.are.equal("normal", coroutine.status(co))
    assert.are.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(co) })
    assert.is_true(coroutine.close(co))
    assert.are.same({ false, "the coroutine was closed while it waited" }, { handle:wait() })
  end)

  it("runs without waiting inside table.sort and gsub", function()
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b)
      return coroutine.wrap(function() coroutine.yield(a < b) end)()
    end)
    assert.are.same({ 1, 2, 3 }, list)
  end)

  it("survives a wait after a place that could not wait", function()
    local co = coroutine.wrap(function()
      local ok = pcall(sleep, 0)
      coroutine.yield(ok)
      sleep(0)
      return "waited"
    end)
    local refused
    string.gsub("x", "x", function() refused = co() end)
    assert.is_false(refused)
    assert.are.equal("waited", co())
  end)

  it("may move from task to task", function()
    local co = coroutine.wrap(function() for i = 1, 3 do later() coroutine.yield(i) end end)
    assert.are.equal(1, spawn(co):wait())
    assert.are.equal(2, spawn(co):wait())
    assert.are.equal(3, co())
  end)

  it("is what coroutine.yield needs", function()
    local ok, e = pcall(coroutine.yield, 1)
    assert.is_false(ok)
    assert.is_truthy(e:find("coroutine.yield outside of a coroutine of the script", 1, true))
    assert.is_false(coroutine.isyieldable())
    assert.is_true(select(2, coroutine.running()))
  end)
end)

describe("moonpool.all", function()
  it("runs its functions at the same time and gives their first results", function()
    local order = {}
    local results = all {
      function() later() later() order[#order + 1] = 1 return "a", "b" end,
      function() order[#order + 1] = 2 return false end,
      name = function() later() order[#order + 1] = 3 return 3 end,
      none = function() end,
    }
    assert.are.same({ "a", false, name = 3 }, results)
    assert.are.same({ 2, 3, 1 }, order)
    assert.are.same({}, all {})
  end)

  it("raises the first failure when all have ended", function()
    local ended
    local ok, e = pcall(all, {
      function() later() error("second") end,
      function() error("first") end,
      function() later() later() ended = true end,
    })
    assert.is_false(ok)
    assert.are.equal("SCRIPT_ERROR", e.code)
    assert.are.equal("first", e.message)
    assert.is_truthy(e.line:find("task_spec.lua:%d+$"))
    assert.is_truthy(e.traceback:find("task_spec.lua"))
    assert.is_true(ended)
  end)

  it("starts nothing when an entry is no function", function()
    local started = false
    local ok, e = pcall(all, { function() started = true end, 5 })
    assert.is_false(ok)
    assert.are.equal("INVALID_ARGUMENT", e.code)
    later()
    assert.is_false(started)
    assert.is_false((pcall(all, nil)))
  end)

  it("nests and holds many", function()
    local fns = {}
    for i = 1, 200 do
      fns[i] = function()
        return all { function() return later(i) end, function() return i end }[1]
      end
    end
    local sum = 0
    for _, v in ipairs(all(fns)) do sum = sum + v end
    assert.are.equal(20100, sum)
  end)
end)

describe("moonpool.spawn", function()
  it("passes arguments and gives all results, as often as asked", function()
    local handle = spawn(function(...) later() return ... end, 1, nil, 3, nil)
    assert.are.same({ n = 4, 1, nil, 3, nil }, table.pack(handle:wait()))
    assert.are.same({ n = 4, 1, nil, 3, nil }, table.pack(handle:wait()))
  end)

  it("lets several tasks wait for one", function()
    local handle = spawn(function() later() later() return "x" end)
    local function wait() return handle:wait() end
    assert.are.same({ "x", "x", "x" }, all { wait, wait, wait })
  end)

  it("starts on a later turn, in order", function()
    local order = {}
    local a = spawn(function() order[#order + 1] = "a" end)
    local b = spawn(function() order[#order + 1] = "b" end)
    order[1] = "parent"
    a:wait()
    b:wait()
    assert.are.same({ "parent", "a", "b" }, order)
  end)

  it("raises the task's error in wait", function()
    local handle = spawn(function() later() error({ code = "MINE", message = "text" }) end)
    local ok, e = pcall(handle.wait, handle)
    assert.is_false(ok)
    assert.are.equal("MINE", e.code)
    assert.are.equal("text", e.message)
  end)

  it("refuses what is no function", function()
    assert.is_false((pcall(spawn)))
    assert.is_false((pcall(spawn, 5)))
    assert.are.equal(6, spawn(setmetatable({}, { __call = function(_, x)
      return x + 1
    end }), 5):wait())
  end)

  it("refuses a task that waits for itself", function()
    local handle
    handle = spawn(function() return pcall(handle.wait, handle) end)
    local ok, e = handle:wait()
    assert.is_false(ok)
    assert.are.equal("INVALID_ARGUMENT", e.code)
  end)
end)

describe("a wait that could never end", function()
  local function message(fn) return tostring(select(2, pcall(fn))) end

  it("is refused, with the names of those who wait for each other", function()
    local a, b
    a = spawn(function() later() return b:wait() end)
    b = spawn(function() return a:wait() end)
    local text = message(function() return a:wait() end)
    assert.truthy(
      text:find(
        "would never end, because each waits for the next: spawn .- %-> spawn .- %-> spawn"), text)
  end)

  it("is refused in a child of moonpool.all that waits for its parent", function()
    local parent
    parent = spawn(function() return all { function() return parent:wait() end } end)
    local text = message(function() return parent:wait() end)
    assert.truthy(text:find("would never end", 1, true), text)
  end)
end)
