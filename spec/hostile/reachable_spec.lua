-- All that the code of an operation can reach: by name, by indexing, by calling what it was given.
-- It is exactly what the list below says; no function of Lua's that leads out is among it; and no
-- table that can be changed is met by two calls.
local host      = require "moonpool.host"
local moonpool  = require "moonpool"
local sandbox   = require "moonpool.script.sandbox"
local sandboxed = require "spec.support.data.sandboxed"

-- -- what there is to reach -----------------------------------------------------------------------

-- Each module's names: of those in brackets, the names are listed behind it.
local expected = {
  globals = [[_ENV _G _VERSION assert collectgarbage coroutine error getmetatable ipairs math next
    os pairs pcall print rawequal
    rawget rawlen rawset require
      select setmetatable string table tonumber tostring type utf8 xpcall]],
  coroutine = "close create isyieldable resume running status wrap yield",
  math = [[abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger
    modf pi rad random sin sqrt tan
    tointeger type ult]],
  os = "clock date difftime time",
  string =
    "byte char find format gmatch gsub len lower match pack packsize rep reverse sub unpack upper",
  table = "concat insert move pack remove sort unpack",
  utf8 = "char charpattern codepoint codes len offset",
  ["moonpool"] = [[all cache cache.delete cache.get cache.invalidate cache.set cache.stats call
    call_info decimal fail generation json
    json.array json.camel json.decode json.encode json.is_array json.map json.null json.object
      json.raw json.snake log log.debug
    log.error log.info log.warn metrics metrics.counter metrics.gauge metrics.histogram
      metrics.operations metrics.pool
    metrics.queries metrics.slow metrics.transactions now null operation sleep spawn timeout uuid
      version]],
  ["moonpool.cache"] = "delete get invalidate set stats",
  ["moonpool.db"] = "count exec first insert lease notify one query stream transaction value",
  ["moonpool.decimal"] = "is max min",
  ["moonpool.is"] = [[any array boolean date decimal email enum integer map null number object
    one_of row schema string timestamp
    uuid]],
  ["moonpool.json"] = "array camel decode encode is_array map null object raw snake",
  ["moonpool.metrics"] = "counter gauge histogram operations pool queries slow transactions",
  ["moonpool.password"] = "hash needs_rehash verify",
  ["cjson"] = "decode encode null",
}

-- What a value is indexed by: its own fields, and those of __index, which a script reads by name.
local function fields_of(value)
  local fields = {}
  if type(value) == "table" then
    for name, item in next, value do fields[name] = item end
  end
  local metatable = debug.getmetatable(value)
  local index = type(metatable) == "table" and rawget(metatable, "__index")
  if type(index) == "table" and index ~= value then
    for name, item in next, fields_of(index) do
      if fields[name] == nil then fields[name] = item end
    end
  end
  return fields
end

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  table.sort(list)
  return list
end

-- Calls see(value, path) for all that can be reached from `value` by indexing.
local function walk(value, see)
  local seen = {}
  local function go(item, place)
    local kind = type(item)
    if item == nil or kind == "string" or kind == "number" or kind == "boolean" or seen[item] then
      return
    end
    seen[item] = true
    see(item, place)
    if kind ~= "table" and kind ~= "userdata" then return end
    for name, inner in next, fields_of(item) do
      go(inner, place .. "." .. tostring(name))
      go(name, place .. "(a key)")
    end
  end
  go(value, "")
end

-- -- what must not be there -----------------------------------------------------------------------

local forbidden = {}
local function forbid(names, from, but)
  for name, value in pairs(from) do
    if not but or not (" " .. but .. " "):find(" " .. name .. " ", 1, true) then
      forbidden[value] = names .. "." .. name
    end
  end
end
forbid("io", io)
forbid("debug", debug)
forbid("package", package)
forbid("os", os, "clock date difftime time")
forbid("_G", { load = load, loadfile = loadfile, dofile = dofile, require = require,
               setmetatable = setmetatable, _G = _G,
               getmetatable = getmetatable, rawset = rawset, collectgarbage = collectgarbage,
               warn = warn })
forbid("host", { host = host, sandbox = sandbox, moonpool = moonpool, ["loaded"] = package.loaded })
for name, library in pairs { string = string, table = table, math = math, utf8 = utf8,
                             coroutine = coroutine, os = os } do
  forbidden[library] = "the table " .. name .. " itself"
end
forbidden[string.dump], forbidden[math.randomseed] = "string.dump", "math.randomseed"

-- Can a script change the table? Tried with what a script has.
local can_change = sandboxed.load([[
  local function try(t, name)
    local ok = pcall(function() t[name] = "changed" end) and rawget(t, name) == "changed"
    return ok
  end
  return function(t)
    if try(t, "spec's own") or pcall(rawset, t, "spec's own", 1) or pcall(setmetatable, t, {}) then
      return true end
    local n = #t
    return pcall(table.insert, t, 1) and #t ~= n
  end]], "probe.lua")()

-- -- samples: what a call is given and gets -------------------------------------------------------

local sample = sandboxed.load([[
  local moonpool, db, is = require "moonpool", require "moonpool.db", require "moonpool.is"
  local json, decimal, cache, metrics = moonpool.json, moonpool.decimal, moonpool.cache,
    moonpool.metrics
  local function caught(...) return select(2, pcall(...)) end
  local shape = is.object { a = is.array(is.integer), b = is.map(is.any),
    c = is.any:default { x = { 1 } }, d = is.string:optional() }
  local counter, gauge = metrics.counter("spec_reach_total"), metrics.gauge("spec_reach")
  local histogram = metrics.histogram("spec_reach_seconds")
  local op = moonpool.operation {
    input = shape, errors = { some_key = { "TAKEN", 409 } }, lane = "spec:$d",
    run = function(tx, input)
      local row = tx:one "select 1 as n, '{\"a\": [1]}'::jsonb as j, array[1, 2] as l, now() as t"
      local _ = row.n
      return { tx = tx, input = input, row = row, json = row.j, list = row.l,
        all = tx:query "select 1 as n", caller = tx.caller,
               value = tx:value "select 1.5", savepoint = tx:savepoint(function(inner)
                 return inner end),
               rows = tx:exec "select 1" }
    end,
  }
  local broken = is.integer
  return function()
    cache.set("spec", { deep = { 1 } })
    local handle = moonpool.spawn(function() return {} end)
    local result, info = moonpool.call_info(op,
      { a = json.array { 1 }, b = { x = { y = 1 } }, d = "x" })
    return {
      result = result, info = info, handle = handle, waited = handle:wait(), op = op, shape = shape,
        counter = counter, gauge = gauge,
      histogram = histogram, document = shape:json_schema(),
        checked = shape:check { a = json.array { 1 }, b = {}, d = "x" },
      defaulted = shape:check { a = json.array(), b = {} }.c, decimal = decimal "1.5",
        array = json.array {}, object = json.object {},
      map = json.map {}, raw = json.raw {}, null = json.null,
        decoded = json.decode '{"a": [1, {}], "b": 1.5}', cached = cache.get "spec",
      stats = cache.stats(), pool = metrics.pool(), transactions = metrics.transactions(),
        operations = metrics.operations(),
      queries = metrics.queries(), slow = metrics.slow(), generation = moonpool.generation(),
        uuid = moonpool.uuid(),
      query = db.query "select 1 as n", first = db.first "select 1 as n",
        streamed = { db.stream "select 1 as n" },
      leased = db.lease(function(conn) return conn end),
      fail = caught(moonpool.fail, "X", "y"), misuse = caught(moonpool.sleep, {}),
        refused = caught(broken.check, broken, "x"),
      unknown = caught(moonpool.call, "no_such_operation"), sql = caught(db.query, "selekt"),
        missing = caught(require, "lib.no_such"),
      timed = caught(moonpool.timeout, 0, moonpool.sleep, 1),
        frozen = caught(function() none = 1 end),
      iterator = ("x"):gmatch "x", thread = coroutine.create(print), packed = table.pack(1),
        lost = caught(string.rep, "x", -1, {}),
      all = moonpool.all { a = function() return {} end }, env = _ENV, string = string,
        views = require "moonpool.json",
    }
  end]], "sample.lua")()

describe("what an operation can reach", function()
  local env, required = sandboxed.load([[
    local modules = {}
    for _, name in ipairs { "moonpool", "moonpool.cache", "moonpool.db", "moonpool.decimal",
      "moonpool.is", "moonpool.json",
      "moonpool.metrics", "moonpool.password", "cjson" } do modules[name] = require(name) end
    return _ENV, modules]], "roots.lua")()

  it("is, among globals, what the list says", function()
    local names = { "_ENV" }
    for name in pairs(fields_of(env)) do names[#names + 1] = name end
    table.sort(names)
    assert.are.same(words(expected.globals), names)
  end)

  -- `nested`: with the names of what lies in it, but in what is indexed by another module.
  local function names_below(value, nested)
    local names = {}
    for name, item in pairs(fields_of(value)) do
      names[#names + 1] = name
      if nested and type(item) == "table" and item ~= required["moonpool.decimal"] then
        for inner in pairs(fields_of(item)) do names[#names + 1] = name .. "." .. inner end
      end
    end
    table.sort(names)
    return names
  end

  it("is, in Lua's libraries, what the list says", function()
    for _, library in ipairs { "coroutine", "math", "os", "string", "table", "utf8" } do
      assert.are.same(words(expected[library]), names_below(env[library]), library)
    end
    local methods = names_below("")
    assert.are.same(words(expected.string .. " dump"), methods) -- which refuses itself to scripts
  end)

  it("is, in the host's modules, what the list says", function()
    local count = 0
    for name, module in pairs(required) do
      count = count + 1
      assert.are.same(words(expected[name]), names_below(module, name == "moonpool"), name)
    end
    for _ in pairs(sandbox.modules) do count = count - 1 end
    assert.are.equal(0, count, "each module that may be required is in the list")
  end)

  it("has nothing in it that leads out", function()
    walk({ env, required, sample() }, function(value, place)
      assert(not forbidden[value], ("%s is %s"):format(place, tostring(forbidden[value])))
    end)
  end)

  it("cannot be changed where it is there for all calls", function()
    walk({ env, required }, function(value, place)
      if type(value) == "table" and place ~= "" then
        if place == ".1" or place == ".2" then return end
        assert(not can_change(value), place .. " can be changed")
      end
    end)
  end)

  it("shares no table that can be changed between two calls", function()
    local first, count = {}, 0
    local one, other = sample(), sample()
    walk(one, function(value, place)
      if type(value) == "table" then first[value] = place end
    end)
    walk(other, function(value, place)
      count = count + 1
      assert(not (first[value] and can_change(value)),
             ("%s can be changed and is %s of another call"):format(place,
        tostring(first[value])))
    end)
    assert.is_true(count > 100, count)
  end)

  it("has no metatable in it that a script gets hold of", function()
    local get = sandboxed.load([[return getmetatable]], "get.lua")()
    walk({ required, sample() }, function(value, place)
      local metatable = get(value)
      assert(metatable == nil or metatable == false or debug.getmetatable(value).__metatable ~= nil,
        place .. " shows its metatable")
    end)
  end)
end)
