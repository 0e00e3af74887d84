-- Scripts that hide in coroutines, or yield where nobody can: each is { name, how it ends, code }.
local timeout = "SCRIPT_TIMEOUT"

return {
  { "a loop in a coroutine", timeout, [[coroutine.wrap(function() while true do end end)()]] },
  { "a loop in a coroutine, caught", timeout,
    [[while true do pcall(coroutine.wrap(function() while true do end end)) end]] },
  { "a loop by resume", timeout,
    [[while true do coroutine.resume(coroutine.create(function() while true do end end)) end]] },
  { "a loop ten coroutines deep", timeout, [[
      local function deep(n) if n == 0 then while true do end end
        return coroutine.wrap(deep)(n - 1) end deep(10)]] },
  { "pcalls and coroutines in turn", timeout, [[
      local function deep(n)
        if n == 0 then while true do end end
        while true do pcall(coroutine.wrap(function() pcall(deep, n - 1) end)) end
      end
      deep(8)]] },
  { "two that pass the ball", timeout, [[
      local a = coroutine.wrap(function() while true do coroutine.yield() end end)
      local b = coroutine.wrap(function() while true do a() coroutine.yield() end end)
      while true do b() end]] },
  { "a yield in a loop", timeout,
    [[local co = coroutine.wrap(function() while true do coroutine.yield() end end)
      while true do co() end]] },
  { "new coroutines for ever", timeout,
    [[while true do coroutine.wrap(function() coroutine.yield() end)() end]],
    also = "OUT_OF_MEMORY" },
  { "a coroutine whose <close> loops when it is closed", timeout, [[
      local co = coroutine.create(function()
        local _ <close> = setmetatable({}, { __close = function() while true do end end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      coroutine.close(co)]], also = "SCRIPT_ERROR|ok" },
  { "closing such a coroutine again and again", timeout, [[
      while true do
        local co = coroutine.create(function()
          local _ <close> = setmetatable({}, { __close = function() while true do end end })
          coroutine.yield()
        end)
        coroutine.resume(co)
        pcall(coroutine.close, co)
      end]] },
  { "<close> that closes another coroutine, and so on", "ok", [[
      local function make(n)
        local co = coroutine.create(function()
          local inner = n > 0 and make(n - 1)
          local _ <close> = setmetatable({}, { __close = function() if inner then
            coroutine.close(inner) end end })
          coroutine.yield()
        end)
        coroutine.resume(co)
        return co
      end
      coroutine.close(make(150))
      return true]], also = "SCRIPT_ERROR" },
  { "<close> that closes ten thousand deep", "ok", [[
      local inner
      for i = 1, 10000 do
        local last = inner
        inner = coroutine.create(function()
          local _ <close> = setmetatable({}, { __close = function() if last then
            coroutine.close(last) end end })
          coroutine.yield()
        end)
        coroutine.resume(inner)
      end
      return (pcall(coroutine.close, inner))]],
        also = "SCRIPT_ERROR|OUT_OF_MEMORY|SCRIPT_TIMEOUT" },
  { "resume of itself", "ok", [[
      local co co = coroutine.create(function() return coroutine.resume(co) end)
      local _, ok = coroutine.resume(co) return ok == false]] },
  { "resume of the one outside", "ok", [[
      local outer outer = coroutine.create(function()
        return coroutine.resume(coroutine.create(function() return coroutine.resume(outer) end))
      end)
      local _, _, ok = coroutine.resume(outer) return ok == false]] },
  { "wrap of wrap of wrap", "SCRIPT_ERROR",
    [[local function f() return coroutine.wrap(f)() end f()]], also = "OUT_OF_MEMORY" },
  { "wrap of wrap, caught", timeout,
    [[local function f() return coroutine.wrap(f)() end while true do pcall(f) end]],
    also = "OUT_OF_MEMORY" },
  { "resume of resume of resume", "ok", [[
      local function f() return coroutine.resume(coroutine.create(f)) end f() return true]],
        also = "OUT_OF_MEMORY" },
  { "a yield out of the script", "SCRIPT_ERROR", [[coroutine.yield()]] },
  { "a yield out of the script, caught", "ok", [[return not pcall(coroutine.yield)]] },
  { "a yield in sort", "ok", [[
      local co = coroutine.wrap(function()
        return pcall(table.sort, { 2, 1 }, function() coroutine.yield() end) end)
      return co() == false]] },
  { "a yield in gsub", "ok", [[
      local co = coroutine.wrap(function()
        return pcall(string.gsub, "x", "x", function() coroutine.yield() end) end)
      return co() == false]] },
  { "a yield in a message handler", "ok", [[
      local co = coroutine.wrap(function()
        return xpcall(error, function() coroutine.yield() end) end)
      return co() == false]] },
  { "a yield in __tostring", "ok", [[
      local t = setmetatable({}, { __tostring = function() coroutine.yield() return "" end })
      local co = coroutine.wrap(function() return pcall(tostring, t) end)
      return co() == false]] },
  { "a wait in sort", "ok", [[
      local moonpool = require "moonpool"
      return not pcall(table.sort, { 2, 1 }, function() moonpool.sleep(0) end)]] },
  { "a wait in a message handler", "ok", [[
      local moonpool = require "moonpool"
      return not xpcall(error, function() moonpool.sleep(0) end)]] },
  { "a wait in __tostring", "ok", [[
      local moonpool = require "moonpool"
      return not pcall(tostring,
        setmetatable({}, { __tostring = function() moonpool.sleep(0) return "" end }))]] },
  { "a wait in a coroutine in gsub", "ok", [[
      local moonpool = require "moonpool"
      return not pcall(string.gsub, "x", "x",
        function() coroutine.wrap(function() moonpool.sleep(0) end)() end)]] },
  { "a wait in <close> of a closed coroutine", "ok", [[
      local moonpool = require "moonpool"
      local co = coroutine.create(function()
        local _ <close> = setmetatable({}, { __close = function() moonpool.sleep(0) end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      return coroutine.close(co) == false]] },
  { "closing the task's own coroutine", "ok",
    [[return not pcall(coroutine.close, (coroutine.running()))]] },
  { "closing it from inside of another", "ok", [[
      local me = coroutine.running()
      return coroutine.wrap(function() return not pcall(coroutine.close, me) end)()]] },
  { "resuming the task's own coroutine", "ok", [[
      local me = coroutine.running()
      return coroutine.wrap(function() return coroutine.resume(me) == false end)()]] },
  { "closing another task's coroutine", "ok", [[
      local moonpool = require "moonpool"
      local theirs
      local handle = moonpool.spawn(function() theirs = coroutine.running() moonpool.sleep(0.005)
        return "done" end)
      while not theirs do moonpool.sleep(0) end
      return not pcall(coroutine.close, theirs) and handle:wait() == "done"]] },
  { "resuming another task's coroutine", "ok", [[
      local moonpool = require "moonpool"
      local theirs
      local handle = moonpool.spawn(function() theirs = coroutine.running() moonpool.sleep(0.005)
        return "done" end)
      while not theirs do moonpool.sleep(0) end
      return coroutine.resume(theirs) == false and handle:wait() == "done"]] },
  { "a coroutine that two tasks resume", "ok", [[
      local moonpool = require "moonpool"
      local co = coroutine.create(function() moonpool.sleep(0.002) return "done" end)
      local function try() return coroutine.resume(co) end
      local results = moonpool.all { try, try }
      return results[1] ~= results[2] ]] },
  { "a preempted coroutine that another task closes", "ok", [[
      local moonpool = require "moonpool"
      local co = coroutine.create(function() while true do end end)
      local handle = moonpool.spawn(function() return coroutine.resume(co) end)
      while coroutine.status(co) ~= "normal" do moonpool.sleep(0) end
      coroutine.close(co)
      return handle:wait() == false]] },
  { "a preempted generator keeps its values", "ok", [[
      local function long(n) local s = 0 for i = 1, n do s = s + i end return s end
      local co = coroutine.wrap(function(a)
        while true do long(2e5) a = coroutine.yield(a + 1) end end)
      for i = 1, 8 do assert(co(i) == i + 1) end
      return true]] },
  { "deep pcalls", "ok", [[local function f(n) return pcall(f, n + 1) end f(1) return true]],
    also = "SCRIPT_ERROR|OUT_OF_MEMORY" },
  { "deep metamethods", "SCRIPT_ERROR", [[
      local t = {} for i = 1, 300 do t = setmetatable({}, { __index = t }) end
      local x = setmetatable({}, {}) getmetatable(x).__index = function(_, k) return x[k] end
        return x.y]],
    also = "OUT_OF_MEMORY" },
  { "deep tostring", "SCRIPT_ERROR", [[
      local t t = setmetatable({}, { __tostring = function() return tostring(t) end })
        return tostring(t)]] },
  { "deep gsub", "SCRIPT_ERROR", [[local function f() return ("x"):gsub("x", f) end f()]] },
  { "deep sort", "SCRIPT_ERROR", [[local function f() table.sort({ 1, 2 }, f) end f()]] },
  { "deep <close>", "SCRIPT_ERROR", [[
      local function f() local _ <close> = setmetatable({}, { __close = f }) end f()]],
        also = "SCRIPT_TIMEOUT" },
}
