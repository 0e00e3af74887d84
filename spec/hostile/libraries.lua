-- Library functions that would not come back: each is { name, how it ends, code }.
local timeout, slow = "SCRIPT_TIMEOUT", "SCRIPT_ERROR"

-- A pattern that tries for ever, `how` being the call around it.
local function bomb(call)
  return ('local s = ("a"):rep(60) local p = ("a-"):rep(30) .. "b" %s'):format(call)
end

return {
  { "find", timeout, bomb "return s:find(p)", also = slow },
  { "match", timeout, bomb "return s:match(p)", also = slow },
  { "gmatch", timeout, bomb "for _ in s:gmatch(p) do end", also = slow },
  { "gsub", timeout, bomb "return s:gsub(p, '')", also = slow },
  { "find, caught", timeout, bomb "while true do pcall(string.find, s, p) end" },
  { "match in a coroutine, caught", timeout,
    bomb "while true do pcall(coroutine.wrap(function() s:match(p) end)) end" },
  { "gsub in gsub", timeout,
    bomb "while true do pcall(string.gsub, 'x', 'x', function() s:gsub(p, '') end) end" },
  { "find in <close>", timeout,
    bomb "local _ <close> = setmetatable({}, { __close = function() s:find(p) end }) while true \z
      do end" },
  { "greedy stars", timeout, [[return (("a"):rep(60)):find(("a*"):rep(30) .. "b")]], also = slow },
  { "optional items", timeout,
    [[return (("a"):rep(60)):find(("a?"):rep(60) .. ("a"):rep(60) .. "b")]], also = slow },
  { "captures", timeout, [[return (("a"):rep(60)):find(("(a*)"):rep(20) .. "b")]], also = slow },
  { "back references", timeout, [[return (("a"):rep(100)):find("(a*)(a*)(a*)(a*)(a*)%1%2%3%4%5b")]],
    also = slow },
  { "sets", timeout, [[return (("ab"):rep(40)):find(("[ab]*"):rep(20) .. "c")]], also = slow },
  { "a long subject", timeout, [[return (("a"):rep(1 << 20)):find("a*a*b")]], also = slow },
  { "balanced brackets", timeout, [[return (("("):rep(1 << 20)):find("%b()")]],
    also = slow .. "|ok" },
  { "a frontier", "ok", [[(("a"):rep(1 << 20)):gsub("%f[b]", "") return true]],
    also = timeout .. "|SCRIPT_ERROR" },
  { "plain search for what nearly is there", "ok", [[
      local s = ("a"):rep(1 << 20) return not s:find(("a"):rep(1 << 19) .. "b", 1, true)]],
        also = timeout }, -- on a slow machine
  { "a search without magic for what nearly is there", "ok", [[
      local s = ("a"):rep(1 << 20) return not s:find(("a"):rep(1 << 19) .. "b")]], also = timeout },
  { "a pattern that is too long", slow, [[return (("a"):rep(1000)):find(("(a"):rep(1000))]] },
  { "a pattern that is too deep", slow,
    [[return (("a"):rep(100000)):find((".-"):rep(100000) .. "b")]], also = timeout },
  { "an unfinished set", slow, [[return ("x"):find("[a")]] },
  { "a trailing percent", slow, [[return ("x"):find("%")]] },
  { "a frontier without a set", slow, [[return ("x"):find("%f")]] },
  { "%b without its arguments", slow, [[return ("x"):find("%b")]] },
  { "a capture that is not there", slow, [[return ("x"):gsub("x", "%9")]] },
  { "a capture of itself", slow, [[return ("x"):find("(%1)")]] },
  { "rep of nothing", "ok", [[return (""):rep(math.maxinteger) == ""]] },
  { "rep of nothing by nothing", "ok", [[return (""):rep(math.maxinteger, "") == ""]] },
  { "rep of a number", "OUT_OF_MEMORY", [[return string.rep(1, 1 << 30)]] },
  { "concat of a range without end", slow, [[return table.concat({}, "", 1, math.maxinteger)]] },
  { "concat by __index", timeout, [[
      return table.concat(setmetatable({}, { __index = function() return "" end }), "", 1,
        math.maxinteger)]], also = slow },
  { "concat by a C function", timeout, [[
      return table.concat(setmetatable({}, { __index = rawlen }), "", 1, math.maxinteger)]],
        also = slow .. "|OUT_OF_MEMORY" },
  { "insert before a length without end", timeout, [[
      table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, "x")]],
        also = slow },
  { "remove from a length without end", timeout, [[
      table.remove(setmetatable({}, { __len = function() return 1 << 60 end }), 1)]], also = slow },
  { "remove, caught", timeout, [[
      while true do pcall(table.remove, setmetatable({}, { __len = function() return 1 << 60 end }),
        1) end]] },
  { "move of a range without end", timeout, [[table.move({}, 1, math.maxinteger - 1, 2)]],
    also = slow },
  { "move that wraps around", slow, [[table.move({}, 1, math.maxinteger, 2)]] },
  { "move by metamethods", timeout, [[
      table.move(setmetatable({}, { __index = rawlen }), 1, 1 << 60, 1,
        setmetatable({}, { __newindex = rawequal }))]], also = slow },
  { "sort by rawequal", timeout, [[
      table.sort(setmetatable({}, { __len = function() return (1 << 31) - 2 end }), rawequal)]],
        also = slow },
  { "sort of nothing at all", slow,
    [[table.sort(setmetatable({}, { __len = function() return (1 << 31) - 2 end }))]] },
  { "sort of too much", slow,
    [[table.sort(setmetatable({}, { __len = function() return math.maxinteger end }))]] },
  { "sort by an order that lies", slow, [[
      local t = {} for i = 1, 1000 do t[i] = i % 7 end table.sort(t, function() return true end)]]
        },
  { "sort by an order that changes its mind", "ok", [[
      local t = {} for i = 1, 1000 do t[i] = i % 7 end
      pcall(table.sort, t, function() return math.random() < 0.5 end) return #t == 1000]] },
  { "sort by an order that changes the table", "ok", [[
      local t = {} for i = 1, 1000 do t[i] = i % 7 end
      pcall(table.sort, t, function(a, b) for i = 1, 10 do t[i] = nil end
        return (a or 0) < (b or 0) end) return true]], also = timeout },
  { "sort by an order that raises", slow, [[table.sort({ 3, 2, 1 }, function() error "no" end)]] },
  { "sort of what cannot be compared", slow, [[table.sort { 1, "x", {} }]] },
  { "sort of a table that was made to be slow", "ok", [[
      local t = {} for i = 1, 20000 do t[i] = i end for i = 1, 20000, 2 do t[i],
        t[20001 - i] = t[20001 - i], t[i] end
      table.sort(t) return t[1] == 1]], also = timeout },
  { "utf8.len of nonsense", "ok", [[return utf8.len("\xff") == nil]] },
  { "utf8.codes of nonsense", slow, [[for _ in utf8.codes("\xf4\x9f\xbf") do end]] },
  { "utf8.offset far away", "ok", [[return utf8.offset("x", math.maxinteger) == nil]] },
  { "utf8.codepoint of too many", slow, [[return utf8.codepoint(("x"):rep(4 << 20), 1, -1)]],
    also = "OUT_OF_MEMORY" },
  { "string.unpack past the end", slow,
    [[return string.unpack("s8", "\xff\xff\xff\xff\xff\xff\xff\x7f")]] },
  { "string.unpack of a negative size", slow, [[return string.unpack("z", "x", -100)]] },
  { "tonumber of a long text", "ok", [[return tonumber(("9"):rep(1 << 20)) ~= 1]] },
  { "tonumber of a strange base", slow, [[return tonumber("1", 99)]] },
  { "os.date of a strange format", slow, [[return os.date("%Ez%Q")]] },
  { "os.date of a far time", slow, [[return os.date("%c", 1 << 62)]] },
  { "os.time of a strange table", slow, [[return os.time { year = 1e308, month = 1, day = 1 }]] },
  { "math.random of nothing", slow, [[return math.random(2, 1)]] },
  { "select past everything", slow, [[return select(-5, 1)]] },
  { "comparing long strings", timeout, [[
      local a, b = ("x"):rep(1 << 20) .. "a", ("x"):rep(1 << 20) .. "b" while a < b do end]] },
  { "json of a metatable with a hook", "ok", [[
      local json = require "moonpool.json"
      pcall(json.encode, setmetatable({}, { __json = json.null })) return true]] },
  { "json of an endless __index", "ok", [[
      local json = require "moonpool.json"
      pcall(json.encode, setmetatable({}, { __index = function() return 1 end, __len = function()
        return 1e9 end })) return true]] },
}
