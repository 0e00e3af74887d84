-- Scripts that want all the memory: each is { name, how it ends, code }.
local memory, timeout = "OUT_OF_MEMORY", "SCRIPT_TIMEOUT"

return {
  { "a table of tables", memory, [[local t = {} while true do t[#t + 1] = {} end]] },
  { "a table of strings", memory,
    [[local t = {} for i = 1, math.huge do t[i] = "string " .. i end]] },
  { "a table of numbers", memory, [[local t = {} for i = 1, math.huge do t[i] = i end]] },
  { "a sparse table", memory, [[local t = {} for i = 1, math.huge do t[i * 1000003] = true end]] },
  { "a table of closures", memory,
    [[local t = {} for i = 1, math.huge do t[i] = function() return i end end]] },
  { "a table of coroutines", memory,
    [[local t = {} for i = 1, math.huge do t[i] = coroutine.create(function() end) end]] },
  { "a table that is caught", memory,
    [[while true do pcall(function() local t = {} while true do t[#t + 1] = {} end end) end]] },
  { "a table that is kept", memory,
    [[local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end]] },
  { "a table in a message handler", memory, [[
      while true do xpcall(error, function() local t = {} while true do t[#t + 1] = {} end end)
        end]],
    also = timeout }, -- where 20 ms, the most for code that cannot yield, do not use up the memory
  { "a table in <close>", memory, [[
      while true do
        pcall(function()
          local _ <close> = setmetatable({}, { __close = function() local t = {}
            while true do t[#t + 1] = {} end end })
        end)
      end]] },
  { "a table in coroutines", memory, [[
      while true do pcall(coroutine.wrap(function() local t = {}
        while true do t[#t + 1] = {} end end)) end]] },
  { "a string that doubles", memory, [[local s = "x" while true do s = s .. s end]] },
  { "a string that doubles, caught", memory,
    [[while true do pcall(function() local s = "x" while true do s = s .. s end end) end]] },
  { "string.rep of a gigabyte", memory, [[return ("x"):rep(1 << 30)]] },
  { "string.rep of what no memory holds", "SCRIPT_ERROR", [[return ("x"):rep(math.maxinteger)]] },
  { "string.rep, caught", memory, [[while true do pcall(string.rep, "x", 1 << 30) end]] },
  { "string.rep with a separator", memory, [[return (""):rep(1 << 28, "xxxx")]] },
  { "string.format of a wide field", "SCRIPT_ERROR", [[return ("%99999d"):format(1)]] },
  { "string.format of many", memory,
    [[local s = ("x"):rep(1 << 20) return (("%s"):rep(100)):format(table.unpack((function()
      local t = {} for i = 1, 100 do t[i] = s end return t end)()))]] },
  { "string.format of %q", memory, [[local s = ("\0"):rep(3 << 20) return ("%q"):format(s)]] },
  { "string.pack of a wide field", memory, [[return string.pack("c1000000000", "")]] },
  { "string.pack of an alignment", "SCRIPT_ERROR", [[return string.pack("!1000000000 i", 1)]] },
  { "table.concat of a big table", memory,
    [[local t = {} for i = 1, 100 do t[i] = ("x"):rep(1 << 18) end return table.concat(t)]] },
  { "table.concat of one string many times", memory, [[
      local s = ("x"):rep(1 << 16)
        return table.concat(setmetatable({}, { __index = function() return s end, __len = function()
        return 1e9 end }))]] },
  { "gsub that multiplies", memory, [[return (("x"):rep(1 << 16)):gsub("x", ("y"):rep(1 << 16))]] },
  { "gsub by a function that multiplies", memory,
    [[local s = ("y"):rep(1 << 16) return (("x"):rep(1 << 16)):gsub("x", function()
      return s end)]] },
  { "utf8.char of many", memory,
    [[local t = {} while true do t[#t + 1] = utf8.char(0x7fffffff, 0x7fffffff) .. #t end]] },
  { "table.pack of many", memory,
    [[local t = {} while true do t = { t, table.pack(table.unpack({}, 1, 1e4)) } end]] },
  { "unpack of too many", "SCRIPT_ERROR", [[return table.unpack({}, 1, 1e9)]] },
  { "unpack of nearly too many", "SCRIPT_ERROR",
    [[return select("#", table.unpack({}, 1, 999990))]], also = "OUT_OF_MEMORY|ok" },
  { "unpack over the whole range", "SCRIPT_ERROR",
    [[return table.unpack({}, math.mininteger, math.maxinteger)]] },
  { "string.byte of too many", "SCRIPT_ERROR", [[return (("x"):rep(4 << 20)):byte(1, -1)]],
    also = "OUT_OF_MEMORY" },
  { "string.char in a loop", memory,
    [[local s = "" while true do s = s .. string.char(65, 66, 67):rep(#s + 1) end]] },
  { "varargs that grow", memory,
    [[local function f(...) return f(1, 2, 3, 4, 5, 6, 7, 8, ...) end f()]],
    also = "SCRIPT_ERROR|SCRIPT_TIMEOUT" },
  { "recursion without end", "SCRIPT_ERROR", [[local function f() return 1 + f() end f()]],
    also = memory },
  { "recursion without end, caught", "SCRIPT_TIMEOUT",
    [[local function f() return 1 + f() end while true do pcall(f) end]], also = memory },
  { "recursion with many locals", "SCRIPT_ERROR", [[
      local function f(a, b, c, d, e) local x, y, z = a, b, c
        return f(x, y, z, d, e) + 1 end f(1, 2, 3, 4, 5)]], also = memory },
  { "concat of many values", memory, [[
      local s = ("x"):rep(1 << 20) local t = {}
        while true do t[#t + 1] = s .. #t .. s .. s .. s end]] },
  { "keys that are long strings", memory,
    [[local t = {} while true do t[("x"):rep(1000) .. #t] = true t[#t + 1] = 1 end]] },
  { "weak tables", "SCRIPT_TIMEOUT",
    [[local t = setmetatable({}, { __mode = "k" }) while true do t[{}] = {} end]], also = memory },
  { "weak tables of what refers to itself", memory, [[
      local t = setmetatable({}, { __mode = "v" }) local keep = {} while true do
        local x = {} t[#t + 1] = x keep[#keep + 1] = x end]] },
  { "garbage only", "SCRIPT_TIMEOUT", [[while true do local t = { {}, {}, {} } end]] },
  { "garbage of strings", "SCRIPT_TIMEOUT",
    [[local i = 0 while true do i = i + 1 local s = ("x"):rep(10000) .. i end]] },
  { "big garbage", "SCRIPT_TIMEOUT", [[while true do local s = ("x"):rep(1 << 20) end]] },
  { "json that grows", memory, [[
      local json = require "moonpool.json" local t = json.array {}
        for i = 1, 16 do t[i] = ("x"):rep(1 << 19) end
      local kept = {} while true do kept[#kept + 1] = json.encode(t) end]], also = "SCRIPT_ERROR" },
  { "json that is deep", "SCRIPT_ERROR", [[
      local json = require "moonpool.json" local t = {} for i = 1, 1e5 do t = { t } end
        return json.encode(t)]], also = memory },
  { "json that contains itself", "SCRIPT_ERROR",
    [[local json = require "moonpool.json" local t = {} t[1] = t return json.encode(t)]] },
  { "json that is read deep", "SCRIPT_ERROR",
    [[return require("moonpool.json").decode(("["):rep(1e5))]] },
  { "decimals that grow", "SCRIPT_ERROR", [[
      local d = require "moonpool.decimal" local x = d "9.9" while true do x = x * x end]],
        also = "SCRIPT_TIMEOUT|OUT_OF_MEMORY" },
  { "decimals of a huge exponent", "SCRIPT_ERROR",
    [[return require "moonpool.decimal" "1e200000000" + 1]] },
  { "globals that grow", memory, [[for i = 1, math.huge do _ENV["global" .. i] = i end]] },
  { "a bomb in a child", memory, [[
      return require("moonpool").all { function() local t = {}
        while true do t[#t + 1] = {} end end }]] },
  { "bombs in many children", memory, [[
      local moonpool, fns = require "moonpool", {}
      local kept = {}
      for i = 1, 20 do fns[i] = function() local t = {} kept[i] = t
        while true do t[#t + 1] = {} moonpool.sleep(0) for j = 1,
        1000 do t[#t + 1] = {} end end end end
      moonpool.all(fns)]] },
  { "children without end", memory, [[
      local moonpool = require "moonpool" local kept = {}
        while true do kept[#kept + 1] = moonpool.spawn(function() moonpool.sleep(1000) end) end]] },
}
