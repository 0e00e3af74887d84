-- Scripts that want out: each is { name, how it ends, code }. "ok" means that the code has returned
-- true.
local function absent(name)
  return { name .. " is not there", "ok", "return " .. name .. " == nil" }
end
local function refused(name, code, more)
  return { name, "ok", ("return not pcall(function() %s end) %s"):format(code, more or "") }
end

return {
  absent "io", absent "debug", absent "package", absent "load", absent "loadfile", absent "dofile",
  absent "loadstring",
  absent "warn", absent "arg", absent "setfenv", absent "getfenv", absent "module",
  absent "newproxy",
  absent "os.execute", absent "os.exit", absent "os.getenv", absent "os.remove", absent "os.rename",
  absent "os.tmpname",
  absent "os.setlocale", absent "string.dump", absent "math.randomseed", absent "coroutine.debug",
  refused("string.dump by way of a string", [[(""):dump(print)]]),
  { "string.dump by way of a string, called", "SCRIPT_ERROR", [[return (""):dump()]] },
  { "the metatable of strings", "ok", [[return getmetatable("") == false]] },
  refused("a new metatable of strings", [[setmetatable("", {})]]),
  refused("a method for all strings", [[getmetatable("").__index.evil = 1]]),
  refused("string.rep replaced", [[string.rep = nil]], [[and string.rep ~= nil]]),
  refused("string.rep replaced by rawset", [[rawset(string, "rep", 1)]]),
  refused("table.insert replaced", [[table.insert = print]]),
  refused("math.pi replaced", [[math.pi = 3]]),
  refused("coroutine.yield replaced", [[coroutine.yield = nil]]),
  refused("os.time replaced", [[os.time = nil]]),
  refused("utf8.char removed", [[utf8.char = nil]]),
  refused("a field for the host's module", [[require("moonpool").evil = 1]]),
  refused("the host's call replaced", [[require("moonpool").call = print]]),
  refused("the log replaced", [[require("moonpool").log.info = print]]),
  refused("a schema replaced", [[require("moonpool.is").uuid = 1]]),
  refused("json.encode replaced", [[require("moonpool.json").encode = print]]),
  refused("decimal.is replaced", [[require("moonpool.decimal").is = print]]),
  refused("a view's metatable replaced", [[setmetatable(string, {})]]),
  { "a view's metatable", "ok",
    [[return getmetatable(string) == false and getmetatable(require "moonpool") == false]] },
  { "the environment's metatable", "ok",
    [[return getmetatable(_ENV) == false and getmetatable(_G) == false]] },
  refused("a new metatable of the environment", [[setmetatable(_ENV, nil)]]),
  refused("rawset into the environment", [[rawset(_G, "x", 1)]]),
  { "rawget of the environment", "ok",
    [[return rawget(_G, "io") == nil and rawget(_G, "_G") == nil]] },
  { "next of the environment", "ok", [[return next(_G) == nil]] },
  { "pairs of the environment", "ok",
    [[for name in pairs(_G) do if name == "io" or name == "debug" then return false end end
      return true]] },
  { "a change to what pairs gives", "ok", [[
      for name in pairs(string) do pcall(rawset, string, name, nil) end
        return string.rep ~= nil]] },
  { "_G is the environment", "ok", [[return _G == _ENV]] },
  { "an own _ENV", "ok", [[local print = print local _ENV = {} return io == nil
    and print ~= nil]] },
  { "a global is kept while the script loads", "ok", [[x = 5 return x == 5 and _G.x == 5]] },
  { "a library under another name", "ok",
    [[_ENV.string = nil return ("x"):rep(2) == "xx" and string ~= nil]] },
  { "a library assigned to", "SCRIPT_ERROR", [[string = nil]] },
  { "a function of Lua's defined anew", "SCRIPT_ERROR", [[function pcall() end]] },
  { "a function of Lua's as a local name", "ok",
    [[local type = "x" return type == "x" and math.type(1) == "integer"]] },
  { "__gc", "SCRIPT_ERROR", [[setmetatable({}, { __gc = function() while true do end end })]] },
  { "__gc set later", "ok", [[
      local mt = {} setmetatable({}, mt) mt.__gc = function() while true do end end
      for i = 1, 1000 do local _ = {} end return true]] },
  refused("__gc set later and used again",
          [[local mt = {} setmetatable({}, mt) mt.__gc = print setmetatable({}, mt)]]),
  { "__gc by way of the host's copies", "ok", [[
      local moonpool = require "moonpool"
      local mt = {} local input = setmetatable({ 1 }, mt) mt.__gc = function() while true do end end
      pcall(moonpool.call, moonpool.operation { run = function() end }, input) return true]] },
  { "__gc by way of an error", "ok", [[
      local mt = {} local e = setmetatable({}, mt) mt.__gc = function() while true do end end
      pcall(error, e) return true]] },
  refused("__gc by way of a schema", [[
      local is = require "moonpool.is" local s = is.object { a = is.any }
      rawset(s, "metatable", { __gc = print }) s:check { a = 1 }]]),
  { "__metatable is honoured", "ok", [[
      local t = setmetatable({}, { __metatable = "mine" }) return getmetatable(t) == "mine"
        and not pcall(setmetatable, t, nil)]] },
  { "own metatables work", "ok", [[
      local mt = { __index = { x = 1 } } local t = setmetatable({}, mt)
        return getmetatable(t) == mt and t.x == 1]] },
  { "the metatable of an error object", "ok", [[
      local moonpool = require "moonpool" local _, e = pcall(moonpool.fail, "X", "y")
        return getmetatable(e) == false and e.code == "X"]] },
  refused("a new metatable of an error object", [[
      local moonpool = require "moonpool"
        local _, e = pcall(moonpool.fail, "X", "y") setmetatable(e, {})]]),
  { "the metatable of a decimal", "ok",
    [[return getmetatable(require "moonpool.decimal" "1") == false]] },
  { "the metatable of a schema", "ok",
    [[return getmetatable(require("moonpool.is").uuid) == false]] },
  { "the metatable of a JSON array", "ok",
    [[return getmetatable(require("moonpool.json").array {}) == false]] },
  { "the metatable of a task's handle", "ok",
    [[return getmetatable(require("moonpool").spawn(function() end)) == false]] },
  { "the metatable of an operation", "ok", [[
      local moonpool = require "moonpool"
        return getmetatable(moonpool.operation { run = function() end }) == false]] },
  { "the mark of JSON arrays", "ok", [[return require("moonpool.json").array_mt == nil]] },
  { "a schema's own field", "ok", [[
      local is = require "moonpool.is" return not pcall(function() is.uuid.kind = "evil" end)]] },
  refused("a schema's field by rawset",
          [[local is = require "moonpool.is" rawset(is.uuid, "kind", "evil")]]),
  { "what a schema allows", "ok", [[
      local is = require "moonpool.is" pcall(function() is.string.allows.min = nil end)
        return pcall(is.string.min, is.string, 1)]] },
  refused("bytecode by require", [[require "\27Lua"]]),
  refused("the host's own module", [[require "moonpool.host"]]),
  refused("the registry", [[require "moonpool.operation.registry"]]),
  refused("the sandbox", [[require "moonpool.script.sandbox"]]),
  refused("the loader", [[require "moonpool.requires"]]),
  refused("the migrations", [[require "moonpool.migrate.runner"]]),
  refused("the tests' module", [[require "moonpool.test"]]),
  refused("io by require", [[require "io"]]),
  refused("debug by require", [[require "debug"]]),
  refused("package by require", [[require "package"]]),
  refused("_G by require", [[require "_G"]]),
  refused("a C module", [[require "lfs"]]),
  refused("a rock", [[require "busted"]]),
  refused("a path with dots", [[require "..secret"]]),
  refused("a path with more dots", [[require "lib...secret"]]),
  refused("an absolute path", [[require "/etc/passwd"]]),
  refused("a path with slashes", [[require "lib/../../secret"]]),
  refused("a path with backslashes", [[require "lib\\secret"]]),
  refused("a name with a NUL", [[require "lib.money\0.evil"]]),
  refused("an empty name", [[require ""]]),
  refused("a name that is a table", [[require {}]]),
  refused("a name whose __tostring lies",
          [[require(setmetatable({}, { __tostring = function() return "io" end }))]]),
  refused("a name that is a number", [[require(1)]]),
  refused("a module that is not there", [[require "lib.there_is_no_such_module"]]),
  { "a module of the host, twice the same", "ok",
    [[return require "moonpool" == require "moonpool"]] },
  refused("db.open", [[require("moonpool.db").open { url = "postgres:///" }]]),
  { "moonpool.host", "ok", [[return require("moonpool").host == nil
    and require("moonpool").app_dir == nil]] },
  refused("a full collection", [[collectgarbage()]]),
  refused("the collector stopped", [[collectgarbage "stop"]]),
  refused("the collector's pace", [[collectgarbage("incremental", 1000, 1)]]),
  { "how much memory is in use", "ok", [[return type(collectgarbage "count") == "number"]] },
  { "a library function as a metamethod", "ok", [[
      local t = setmetatable({}, { __index = rawget, __newindex = rawset, __call = select }) t.x = 1
        return t.x == 1]] },
  { "setmetatable as a metamethod", "ok", [[
      local t = setmetatable({}, { __index = setmetatable })
        return not pcall(function() return t.x end)]] },
  { "getmetatable by pcall and by sort", "ok", [[
      local seen = {} pcall(table.sort, { "b", "a" }, function(a) seen[1] = getmetatable(a) end)
        return seen[1] == false]] },
  { "the stack by error levels", "ok",
    [[for level = -5, 50 do pcall(error, "x", level) end return true]] },
  { "an error without a value", "SCRIPT_ERROR", [[error()]] },
  { "an error that is a function", "SCRIPT_ERROR", [[error(print)]] },
  { "an error that says it is the host's", "SCRIPT_ERROR",
    [[error { code = "SCRIPT_ERROR", message = "x", status = {} }]] },
  { "an error with a status that is none", "X",
    [[error { code = "X", message = {}, status = "x" }]], also = "SCRIPT_ERROR" },
  { "an error with a code that is a table", "SCRIPT_ERROR", [[error { code = {}, message = "x" }]],
    also = "?" },
  { "moonpool.fail with a table", "ok", [[return not pcall(require("moonpool").fail, {}, {})]] },
  { "an operation that is no operation", "ok",
    [[return not pcall(require("moonpool").call,
      setmetatable({}, { __index = { run = print } }), {})]] },
  { "an operation with a name that is a table", "ok",
    [[return not pcall(require("moonpool").call, {}, {})]] },
  { "an operation's fields changed", "ok", [[
      local moonpool = require "moonpool" local op = moonpool.operation { run = function() end }
      return not pcall(function() op.retries = -1 end) and not pcall(rawset, op, "lane", {})
        and op.retries == 3]] },
  { "an operation's errors changed", "ok", [[
      local moonpool = require "moonpool" local mine = { x_key = { "X" } }
      local op = moonpool.operation { errors = mine, run = function() end }
        return op.errors == nil]] },
  { "a schema that is forged", "ok", [[
      local is = require "moonpool.is"
      local forged = setmetatable({},
        { __index = is.uuid, mark = true, content = { kind = "evil", convert = print } })
      return not pcall(is.object, { a = forged }) and not pcall(is.uuid.check, forged, 1)]] },
  { "an operation that is forged", "ok", [[
      local moonpool = require "moonpool"
      local forged = setmetatable({},
        { __index = { run = print }, mark = true, content = { run = print, isolation = "x" } })
      return not pcall(moonpool.call, forged, {})]] },
  { "a schema's default changed by way of its document", "ok", [[
      local is = require "moonpool.is" local s = is.any:default { a = 1 }
      s:json_schema().default.a = 2 return s:check(nil).a == 1]] },
  { "a schema's default changed by way of what it gave", "ok", [[
      local is = require "moonpool.is"
        local s = is.object { x = is.array(is.integer):default(require("moonpool.json").array { 1 })
        }
      s:check({}).x[1] = 2 return s:check({}).x[1] == 1]] },
  { "a broken operation's error changed", "ok", [[
      local moonpool = require "moonpool"
        local _, a = pcall(moonpool.call, "no_such_operation") a.code = "EVIL"
      local _, b = pcall(moonpool.call, "no_such_operation") return b.code == "UNKNOWN_OPERATION"]]
        },
  { "a sleep of no time", "ok", [[return not pcall(require("moonpool").sleep, 0 / 0)]] },
  { "a sleep of all time", "ok", [[return not pcall(require("moonpool").sleep, math.huge)]] },
  { "a task that waits for itself", "ok", [[
      local moonpool = require "moonpool"
        local h h = moonpool.spawn(function() return pcall(h.wait, h) end)
        return h:wait() == false]] },
  { "a method of a handle on something else", "ok", [[
      local moonpool = require "moonpool" local h = moonpool.spawn(function() end)
      return not pcall(h.wait, {}) and not pcall(h.wait, "x") and not pcall(h.wait)]] },
  { "all of what is no function", "ok", [[return not pcall(require("moonpool").all, { 1, 2 })]] },
  { "print goes to the log", "ok",
    [[print("hello", setmetatable({}, { __tostring = function() return "x" end })) return true]] },
}
