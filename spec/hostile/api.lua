-- Scripts that misuse what the host gives them, and corners of Lua: each is { name, how it ends,
-- code }. For the soak: `ends_ms`, what their end may take more (of ten thousand tasks);
-- `elsewhere`: time and memory are those of the thread pool, which is small.
local timeout, memory, failed = "SCRIPT_TIMEOUT", "OUT_OF_MEMORY", "SCRIPT_ERROR"
local any = "ok|SCRIPT_ERROR|SCRIPT_TIMEOUT|OUT_OF_MEMORY|INVALID_ARGUMENT|VALIDATION_ERROR"

return {
  { "format of a wide field", failed, [[return ("%99999s"):format("x")]] },
  { "format of many wide fields", "ok",
    [[return #(("%99s"):rep(1000)):format(table.unpack({ "x" }, 1, 1)) > 0]], also = failed },
  { "format of a huge number", "ok", [[return #("%.99f"):format(1e308) > 300]] },
  { "format in a loop", timeout, [[while true do ("%.99f"):format(1e308) end]] },
  { "%s of a __tostring that spins", timeout, [[
      return ("%s"):format(setmetatable({}, { __tostring = function() while true do end end }))]],
        also = failed },
  { "%s of a __tostring that gives no text", failed,
    [[return ("%s"):format(setmetatable({}, { __tostring = function() return {} end }))]] },
  { "a __name that is no text", "ok", [[return #tostring(setmetatable({}, { __name = {} })) > 0]] },
  { "a __name of a megabyte", "ok",
    [[return #tostring(setmetatable({}, { __name = ("x"):rep(1 << 20) })) > 1 << 20]] },
  { "%q of three megabytes", any, [[return #("%q"):format(("\0"):rep(3 << 19)) > 0]] },
  { "select of a huge negative", failed, [[return select(math.mininteger, 1)]] },
  { "select of a huge n", "ok", [[return select("#", select(math.maxinteger, 1)) == 0]] },
  { "unpack of a huge range", failed, [[return table.unpack({}, 1, 1e8)]] },
  { "unpack that wraps around", failed,
    [[return table.unpack({}, math.mininteger, math.maxinteger)]] },
  { "next of a key that is gone", any, [[
      local t = {} for i = 1, 100 do t["k" .. i] = i end
      for k in pairs(t) do for i = 1, 100 do t["k" .. i] = nil t["n" .. i] = i end end return true]]
        },
  { "an inconsistent comparator of many", any, [[
      local t = {} for i = 1, 2000 do t[i] = i end
      pcall(table.sort, t, function(a, b) return (a * 7919) % 13 < (b * 104729) % 17 end)
      local seen = {} for _, v in ipairs(t) do seen[v] = true end
        return #t == 2000 and next(seen) ~= nil]] },
  { "a comparator that sorts the same table", any, [[
      local t = {} for i = 1, 50 do t[i] = 51 - i end
      local depth = 0
      table.sort(t, function(a, b)
        if depth < 5 then depth = depth + 1 table.sort(t) depth = depth - 1 end
        return a < b
      end)
      return true]] },
  { "gsub by a table that spins", timeout, [[
      return ("x"):gsub("x", setmetatable({}, { __index = function() while true do end end }))]],
        also = failed },
  { "gsub by a table that grows", any, [[
      local s = "x" while true do s = s:gsub("x", { x = "xx" }) end]] },
  { "gsub by itself", any, [[local s = "ab" for i = 1, 60 do s = s:gsub(".", "%0%0") end
    return true]] },
  { "gmatch of nothing at all", "ok",
    [[local n = 0 for _ in ("x"):rep(1000):gmatch "()" do n = n + 1 end return n == 1001]] },
  { "wrap in wrap in wrap", any, [[
      local function deep(n) if n == 0 then return 1 end
        return coroutine.wrap(function() return deep(n - 1) end)() end
      return pcall(deep, 10000) or true]] },
  { "a coroutine that resumes its resumer", "ok", [[
      local a a = coroutine.create(function() return coroutine.resume(a) end)
      return select(2, coroutine.resume(a)) == false]] },
  { "a coroutine closed by itself", "ok", [[
      local a a = coroutine.create(function() return pcall(coroutine.close, a) end) return
        select(2, coroutine.resume(a)) == false]] },
  { "metamethods that call each other", any, [[
      local mt = {} mt.__index = function(t, k)
        return t[k .. "x"] end mt.__newindex = function(t, k, v) t[k .. "x"] = v end
      local t = setmetatable({}, mt) pcall(function() t.a = 1 end) pcall(function() return t.a end)
        return true]] },
  { "a chain of __index", any, [[
      local t = {} for i = 1, 3000 do t = setmetatable({}, { __index = t }) end
        return pcall(function() return t.x end) or true]] },
  { "an __index that is itself", failed,
    [[local t = {} setmetatable(t, { __index = t }) return t.x]] },
  { "a __close that closes another for ever", timeout, [[
      local mt mt = { __close = function() local _ <close> = setmetatable({}, mt) end }
      while true do pcall(function() local _ <close> = setmetatable({}, mt) end) end]],
        also = failed },
  { "a __close that is no function", failed,
    [[local _ <close> = setmetatable({}, { __close = 1 })]] },
  { "a goto through a <close>", timeout, [[
      ::again:: do local _ <close> = setmetatable({}, { __close = function() end })
        goto again end]] },
  { "concat of a chain", any,
    [[local s = {} for i = 1, 1e6 do s[i] = "x" end return #table.concat(s) > 0]] },
  { "concat with a separator of a megabyte", memory, [[
      local t = {} for i = 1, 100 do t[i] = "x" end return table.concat(t, ("x"):rep(1 << 20))]],
        also = failed },
  { "pack of nothing much", failed, [[return string.pack("i17", 1)]] },
  { "pack of what is aligned", any, [[return #string.pack(("!16 Xi16"):rep(1000), 1) >= 0]] },
  { "unpack of many", any, [[return select("#", string.unpack(("b"):rep(1 << 20),
    ("x"):rep(1 << 20)))]] },
  { "packsize of too much", failed, [[return string.packsize(("s"):rep(10))]] },
  { "rep of rep", memory, [[local s = "x" while true do s = s:rep(1000) end]], also = failed },
  { "utf8.char of the largest", "ok", [[return #utf8.char(0x7fffffff) == 6]] },
  { "utf8.offset from everywhere", any,
    [[local s = ("\x80"):rep(1 << 16) for i = 1, 1 << 16 do pcall(utf8.offset, s, -i) end
      return true]] },
  { "os.date of each letter", "ok",
    [[for c = 32, 126 do pcall(os.date, "%" .. string.char(c)) end return true]] },
  { "os.date of many times", any, [[return #os.date(("%c"):rep(1 << 16)) > 0]] },
  { "os.time of strange fields", "ok", [[
      return not pcall(os.time, { year = math.maxinteger, month = 1, day = 1 })
        and not pcall(os.time, { year = {}, month = 1, day = 1 })]] },
  { "math.random of all", "ok", [[return math.random(math.mininteger, math.maxinteger) ~= nil]] },
  { "an integer division by zero", failed, [[return 1 // 0]] },
  { "shifts by everything", "ok",
    [[return 1 << 64 == 0 and 1 << -64 == 0 and 1 >> math.mininteger == 0]] },
  { "a for that overflows", "ok",
    [[local n = 0 for i = math.maxinteger - 1, math.maxinteger do n = n + 1 end return n == 2]] },

  { "spawn of what is none", "ok",
    [[return not pcall(require("moonpool").spawn) and not pcall(require("moonpool").spawn, {})]] },
  { "a sleep for ever", "ok", [[return not pcall(require("moonpool").sleep, 1e308)]] },
  { "spawns in spawns", any, [[
      local moonpool = require "moonpool"
        local function f() moonpool.spawn(f) moonpool.spawn(f) end f() moonpool.sleep(10)]],
        ends_ms = 20 },
  { "all in all in all", any, [[
      local moonpool = require "moonpool"
      local function deep(n) if n > 0 then moonpool.all { function() deep(n - 1) end } end end
        deep(300) return true]] },
  { "all of a hundred thousand", any, [[
      local moonpool = require "moonpool" local t = {} for i = 1,
        100000 do t[i] = print end moonpool.all(t)]] },
  { "a handle waited for by many", "ok", [[
      local moonpool = require "moonpool" local h = moonpool.spawn(moonpool.sleep, 0.01)
      for i = 1, 100 do moonpool.spawn(function() h:wait() end) end h:wait() return true]] },
  { "a task that cancels its parent", any, [[
      local moonpool = require "moonpool" local h
      h = moonpool.spawn(function() moonpool.spawn(function() h:cancel() end) moonpool.sleep(10)
        end) pcall(h.wait, h) return true]] },
  { "a cancel that is canceled", "ok", [[
      local moonpool = require "moonpool" local h h = moonpool.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() h:cancel() end })
          moonpool.sleep(10) end)
      moonpool.sleep(0) h:cancel() return h:cancel() == false]] },
  { "a <close> that spawns", any, [[
      local moonpool = require "moonpool"
      local function f() local _ <close> = setmetatable({}, { __close = function()
        moonpool.spawn(f) end }) while true do end end f()]] },
  { "timeouts in timeouts", any, [[
      local moonpool = require "moonpool"
      local function deep(n) return n == 0 and 1 or moonpool.timeout(5, deep, n - 1) end
        return deep(100) == 1]] },
  { "a timeout of nothing", "ok",
    [[local moonpool = require "moonpool" return not pcall(moonpool.timeout, 0, function()
      while true do moonpool.sleep(0) end end)]] },
  { "json as deep as can be", "ok", [[
      local json = require "moonpool.json" local t = {} for i = 1, 10000 do t = { t } end
      return not pcall(json.encode, t)
        and not pcall(json.decode, ("["):rep(100000) .. ("]"):rep(100000))]] },
  { "json of a circle", "ok",
    [[local json = require "moonpool.json" local t = {} t.t = t
      return not pcall(json.encode, t)]] },
  { "json as wide as can be", any, [[
      local json = require "moonpool.json" local t = {} for i = 1, 20000 do t["k" .. i] = i end
        return #json.encode(t) > 1000]] },
  { "json of one text many times", any, [[
      local json = require "moonpool.json" local s, t = ("\1"):rep(1 << 20), json.array()
        for i = 1, 500 do t[i] = s end
      return json.encode(t)]], also = any .. "|JSON_ERROR|INVALID_ARGUMENT|PAYLOAD_TOO_LARGE" },
  { "cjson of one text many times", any, [[
      local cjson = require "cjson" local s, t = ("\1"):rep(1 << 20), {}
        for i = 1, 500 do t[i] = s end
      return cjson.encode(t)]] },
  { "cjson of a circle", "ok",
    [[local cjson = require "cjson" local t = {} t.t = t return not pcall(cjson.encode, t)]] },
  { "cjson of depth", "ok",
    [[local cjson = require "cjson" return not pcall(cjson.decode, ("["):rep(1 << 20))]] },
  { "cjson of a sparse array", any,
    [[local cjson = require "cjson" return #cjson.encode { [1] = 1, [1 << 40] = 2 } > 0]] },
  { "a power of decimals", any, [[local d = require "moonpool.decimal" return d "9" ^ 200000000]],
    also = any .. "|DECIMAL_ERROR" },
  { "powers of decimals", any,
    [[local d = require "moonpool.decimal" local x = d "1.1" for i = 1, 40 do x = x * x end
      return x]] },
  { "a decimal of an exponent", any,
    [[local d = require "moonpool.decimal" return d "1e200000000" + d "1e-200000000"]] },
  { "a decimal of many digits", any,
    [[local d = require "moonpool.decimal" return d(("9"):rep(1 << 20)) * d(("9"):rep(1 << 20))]] },
  { "a quotient of many digits", any,
    [[local d = require "moonpool.decimal" local x = d "1" while true do x = x / d "3" end]] },
  { "a schema whose pattern is a bomb", any, [[
      local is = require "moonpool.is"
        return is.string:pattern(("a-"):rep(30) .. "b"):check(("a"):rep(60))]] },
  { "a schema of many fields", any, [[
      local is = require "moonpool.is" local f = {} for i = 1,
        20000 do f["field_" .. i] = is.string end return is.object(f):check {}]] },
  { "a schema as deep as can be", any, [[
      local is = require "moonpool.is" local s = is.string for i = 1, 1000 do s = is.array(s) end
      local v = "x" for i = 1, 1000 do v = require("moonpool.json").array { v } end
        return not pcall(s.check, s, v)]] },
  { "unions of unions", any, [[
      local is = require "moonpool.is" local s = is.one_of(is.integer, is.boolean)
      for i = 1, 30 do s = is.one_of(s, s) end return s:check "x"]] },
  { "unknown fields of long names", any, [[
      local is = require "moonpool.is" local v = {} for i = 1, 2000 do v[("x"):rep(60) .. i] = 1 end
        return is.object { a = is.string }:check(v)]] },
  { "a flood of the cache", any, [[
      local cache = require "moonpool.cache"
        for i = 1, 1e9 do cache.set("key " .. i, ("x"):rep(1000)) end]] },
  { "a cache's key of a megabyte", any,
    [[local cache = require "moonpool.cache" return cache.set(("x"):rep(1 << 20), 1)]] },
  { "a cache's ttl of for ever", any,
    [[local cache = require "moonpool.cache" return pcall(cache.set, "k", 1, { ttl = 1e308 })
      or true]] },
  { "a flood of the log", timeout,
    [[local moonpool = require "moonpool" while true do moonpool.log.debug("hello %d", 1) end]] },
  { "a log's format that lies", "ok",
    [[local moonpool = require "moonpool" return not pcall(moonpool.log.info, "%d", {})
      and not pcall(moonpool.log.info, nil, 1)]] },
  { "a flood of uuids", timeout,
    [[local moonpool = require "moonpool" while true do moonpool.uuid() end]] },
  { "a counter of nonsense", "ok", [[
      local metrics = require "moonpool.metrics" local c = metrics.counter "hostile_total"
      return not pcall(c.add, c, -1) and not pcall(c.add, c, 0 / 0)
        and not pcall(metrics.counter, "bad name") and not pcall(metrics.counter, {})]] },
  { "a flood of labels", any, [[
      local metrics = require "moonpool.metrics"
        local c = metrics.counter("hostile_labels_total", { labels = { "l" } })
      for i = 1, 1e9 do c:add { l = "label " .. i } end]] },
  { "operations without end", any,
    [[local moonpool = require "moonpool" while true do moonpool.operation { run = print } end]] },
  { "an operation's lane of for ever", any, [[
      local moonpool = require "moonpool"
        return moonpool.operation { lane = ("$x"):rep(1 << 18), run = print } ~= nil]] },
  { "an operation's definition with a metatable", any, [[
      local moonpool = require "moonpool"
      return pcall(moonpool.operation,
        setmetatable({}, { __pairs = function() return function() return "retries", 1 end end }))
        or true]] },
  { "require of many names", any, [[for i = 1, 1e9 do pcall(require, "no_such_" .. i) end]] },
  { "require of a long name", "ok", [[return not pcall(require, ("x"):rep(1 << 16))]] },
  { "a password of a megabyte", any,
    [[local p = require "moonpool.password" return pcall(p.hash, ("x"):rep(1 << 20)) or true]] },
  { "passwords at once", any, [[
      local moonpool, p = require "moonpool", require "moonpool.password"
      local t = {} for i = 1, 50 do t[i] = function()
        return p.hash "x" end end moonpool.timeout(0.2, moonpool.all, t)]],
        also = any .. "|DEADLINE_EXCEEDED|OVERLOADED", elsewhere = true },
}
