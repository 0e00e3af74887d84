-- Scripts that do not want to end: each is { name, how it ends, code }.
local timeout, memory = "SCRIPT_TIMEOUT", "OUT_OF_MEMORY"

return {
  { "an empty while loop", timeout, [[while true do end]] },
  { "an empty repeat loop", timeout, [[repeat until false]] },
  { "a goto", timeout, [[::again:: goto again]] },
  { "a goto out of and into blocks", timeout,
    [[do ::a:: do goto b end end ::b:: do goto c end ::c:: goto b]] },
  { "a long numeric for", timeout, [[for i = 1, math.maxinteger do end]] },
  { "a for over floats", timeout, [[for i = 1, math.huge do end]] },
  { "a for of step zero point something", timeout, [[for i = 0, 1, 1e-300 do end]] },
  { "a loop of arithmetic", timeout, [[local x = 1 while true do x = (x * 7 + 3) % 1000003 end]] },
  { "a loop of comparisons", timeout, [[local a, b = 1, 2 while a < b do end]] },
  { "a loop of C calls", timeout, [[while true do math.abs(1) end]] },
  { "a loop of method calls", timeout, [[local s = "x" while true do s:len() end]] },
  { "a loop of global reads", timeout, [[while true do local _ = math, string end]] },
  { "a loop of closures", timeout, [[while true do local _ = function() return _ end end]] },
  { "tail calls for ever", timeout, [[local function f() return f() end f()]] },
  { "tail calls by two", timeout,
    [[local f, g function f() return g() end function g() return f() end f()]] },
  { "tail calls with varargs", timeout, [[local function f(...) return f(...) end f(1, 2, 3)]] },
  { "a vararg loop", timeout,
    [[local function f(...) return select("#", ...) end while true do f(1, 2) end]] },
  { "pcall around a loop", timeout, [[pcall(function() while true do end end)]] },
  { "pcall in a loop", timeout, [[while true do pcall(function() while true do end end) end]] },
  { "pcall of pcall of pcall", timeout,
    [[while true do pcall(pcall, pcall, pcall, function() while true do end end) end]] },
  { "pcall that fails for ever", timeout, [[while true do pcall(error, "x") end]] },
  { "pcall that recurses when it failed", timeout, [[
      local function f() pcall(function() while true do end end) return f() end f()]] },
  { "a loop in a message handler", timeout,
    [[xpcall(error, function() while true do end end, "x")]] },
  { "message handlers in a loop", timeout,
    [[while true do xpcall(error, function() while true do end end) end]] },
  { "a message handler that fails", timeout,
    [[while true do xpcall(error, function() error "again" end) end]] },
  { "a message handler inside a message handler", timeout, [[
      local function h() xpcall(error, h) while true do end end xpcall(error, h)]] },
  { "a loop whose message handler loops", timeout, [[
      while true do xpcall(function() while true do end end, function() while true do end end) end]]
        },
  { "a loop in <close>", timeout, [[
      local _ <close> = setmetatable({}, { __close = function() while true do end end })]] },
  { "a loop in <close> after an error", timeout, [[
      local _ <close> = setmetatable({}, { __close = function() while true do end end })
        error "x"]] },
  { "a loop whose <close> loops", timeout, [[
      local _ <close> = setmetatable({}, { __close = function() while true do end end })
        while true do end]] },
  { "many <close> that loop", timeout, [[
      local function deep(n)
        local _ <close> = setmetatable({}, { __close = function() while true do pcall(function()
          while true do end end) end end })
        if n > 0 then deep(n - 1) end
        while true do end
      end
      deep(100)]] },
  { "a <close> that catches its end", timeout, [[
      local _ <close> = setmetatable({}, { __close = function() while true do
        pcall(string.rep, "x", 10) end end })
      while true do end]] },
  { "a <close> that raises for ever", timeout, [[
      while true do pcall(function() local _ <close> = setmetatable({}, { __close = function()
        error "x" end }) end) end]] },
  { "__index", timeout, [[local t = setmetatable({}, { __index = function(t, k)
    return t[k + 1] end }) return t[1] ]],
    also = "SCRIPT_ERROR" },
  { "__index that loops", timeout,
    [[return setmetatable({}, { __index = function() while true do end end }).x]] },
  { "__newindex that loops", timeout,
    [[setmetatable({}, { __newindex = function() while true do end end }).x = 1]] },
  { "__call that loops", timeout,
    [[setmetatable({}, { __call = function() while true do end end })()]] },
  { "__eq that loops", timeout, [[
      local mt = { __eq = function() while true do end end }
        return setmetatable({}, mt) == setmetatable({}, mt)]] },
  { "__lt that loops", timeout,
    [[local mt = { __lt = function() while true do end end } return setmetatable({}, mt) < 1]] },
  { "__le in a loop", timeout,
    [[local x = setmetatable({}, { __le = function() return true end }) while x <= x do end]] },
  { "__concat that loops", timeout,
    [[return setmetatable({}, { __concat = function() while true do end end }) .. "x"]] },
  { "__len that loops", timeout,
    [[return #setmetatable({}, { __len = function() while true do end end })]] },
  { "__unm, __bnot and __idiv", timeout, [[
      local mt = {} local x = setmetatable({}, mt) mt.__unm = function()
        return ~x end mt.__bnot = function() return x // 1 end
      mt.__idiv = function() return x end while true do x = -x end]] },
  { "__tostring that loops", timeout,
    [[tostring(setmetatable({}, { __tostring = function() while true do end end }))]],
    also = "SCRIPT_ERROR" },
  { "__tostring caught in a loop", timeout, [[
      while true do pcall(tostring,
        setmetatable({}, { __tostring = function() while true do end end })) end]] },
  { "__pairs that loops", timeout,
    [[for _ in pairs(setmetatable({}, { __pairs = function() while true do end end })) do end]] },
  { "__name and an error", "SCRIPT_ERROR",
    [[error(setmetatable({}, { __name = ("x"):rep(1000) }))]] },
  { "an error whose __tostring loops", "SCRIPT_TIMEOUT", [[
      error(setmetatable({}, { __tostring = function() while true do end end }))]],
        also = "SCRIPT_ERROR" },
  { "an error whose __tostring raises itself", "SCRIPT_ERROR", [[
      local e = setmetatable({}, {}) getmetatable(e).__tostring = function() error(e) end error(e)]]
        },
  { "an iterator without end", timeout, [[for _ in function() return 1 end do end]] },
  { "a generator without end", timeout,
    [[for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end]] },
  { "next that never ends", timeout, [[local t = { 1 } while true do next(t) end]] },
  { "a table that grows while it is walked", timeout, [[
      local t = { 1 } for i in ipairs(t) do t[i + 1] = i end]], also = memory },
  { "sort by a comparator that loops", timeout,
    [[table.sort({ 3, 2, 1 }, function() while true do end end)]], also = "SCRIPT_ERROR" },
  { "sort by a comparator that loops, caught", timeout, [[
      while true do pcall(table.sort, { 3, 2, 1 }, function() while true do end end) end]] },
  { "gsub by a function that loops", timeout, [[("x"):gsub("x", function() while true do end end)]],
    also = "SCRIPT_ERROR" },
  { "gsub by a function that loops, caught", timeout, [[
      while true do pcall(string.gsub, "x", "x", function() while true do end end) end]] },
  { "gsub in a coroutine in gsub", timeout, [[
      local function f() while true do pcall(coroutine.wrap(function() ("x"):gsub("x", f) end)) end
        end f()]] },
  { "load in a loop is not there", "ok", [[return load == nil]] },
  { "os.clock as a clock", timeout,
    [[local till = os.clock() + 1000 while os.clock() < till do end]] },
  { "os.date in a loop", timeout, [[while true do os.date("%c") end]] },
  { "math.random until it is one", timeout, [[while math.random() ~= 1 do end]] },
  { "tostring and tonumber", timeout, [[local x = 1 while true do x = tonumber(tostring(x)) end]] },
  { "collectgarbage count in a loop", timeout, [[while true do collectgarbage "count" end]] },
  { "require in a loop", timeout, [[while true do require "moonpool" end]] },
  { "a require that fails in a loop", timeout,
    [[while true do pcall(require, "lib.nothing") end]] },
  { "schemas in a loop", timeout,
    [[local is = require "moonpool.is" while true do is.string:optional():min(1):check "x" end]] },
  { "decimals in a loop", timeout,
    [[local d = require "moonpool.decimal" local x = d "1" while true do x = x + 1 end]] },
  { "json in a loop", timeout,
    [[local json = require "moonpool.json"
      while true do json.decode(json.encode { 1, 2, { a = 3 } }) end]] },
  { "sleeps of nothing", timeout, [[
      local moonpool = require "moonpool" while true do for i = 1,
        1e5 do end moonpool.sleep(0) end]] },
  { "children that share the work", timeout, [[
      local moonpool = require "moonpool"
      local function spin() while true do end end
      moonpool.all { spin, spin, spin, spin }]] },
  { "children of children", timeout, [[
      local moonpool = require "moonpool"
      local function spin(n) if n == 0 then
        while true do end end moonpool.all { function() spin(n - 1) end,
        function() spin(n - 1) end } end
      spin(4)]] },
  { "a parent that catches its children's end", timeout, [[
      local moonpool = require "moonpool"
      while true do pcall(moonpool.all, { function() while true do end end }) end]] },
  { "an endless row of children", timeout, [[
      local moonpool = require "moonpool"
      local function next_one() for i = 1, 1e5 do end return moonpool.spawn(next_one):wait() end
      next_one()]], also = memory },
}
