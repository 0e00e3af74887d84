-- moonpool.script.sandbox: the environment of operations. A file of scripts/ has only the globals
-- of an allow-list. Lua's libraries and the host's modules are read-only views, not copies. The
-- file's own globals are frozen once the file has been loaded.
--
-- Other parts of the sandbox: script/safe.c (metatables, __gc), script/slice.h (time),
-- script/account.h (memory). Sandboxed and trusted code may share one Lua state.
local host     = require "moonpool.host"
local requires = require "moonpool.requires"
local nearest  = require "moonpool.is.nearest"

local sandbox = {}

local setupvalue = debug.setupvalue

-- All globals that a script can reach. spec/hostile visits everything that is reachable and
-- compares it with these lists.
sandbox.globals = {
  functions = [[assert error getmetatable ipairs next pairs pcall print rawequal rawget rawlen
    rawset require select setmetatable tonumber tostring type xpcall collectgarbage]],
  values    = "_VERSION",
  libraries = {
    coroutine = "close create isyieldable resume running status wrap yield",
    math      = [[abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger
      min mininteger modf pi rad random sin sqrt tan tointeger type ult]],
    os        = "clock date difftime time",
    string    = [[byte char find format gmatch gsub len lower match pack packsize rep reverse sub
      unpack upper]],
    table     = "concat insert move pack remove sort unpack",
    utf8      = "char charpattern codepoint codes len offset",
  },
}

-- Globals that each file has as local constants: they are read as fast as a local, and an
-- assignment to one does not compile.
local constants = [[assert coroutine error getmetatable ipairs math next os pairs pcall rawequal
  rawget rawlen select setmetatable string table tonumber tostring type utf8]]

-- The code that is put in front of a file's first line: it declares these constants.
local function head_of(names)
  local list = names:gsub("%s+", ",")
  return ("local %s<const> = %s; "):format(list:gsub(",", "<const>,"), list)
end

sandbox.head = head_of(constants)

-- The limits of code that has no other limits; memory in bytes.
sandbox.limits = { cpu_ms = 1000, memory = 64 << 20 }

-- The host's modules that scripts may require, and the names in each. Modules of scripts/ are
-- required by their own name: require "lib.numbering".
sandbox.modules = {
  ["moonpool"]          = [[all cache call call_info decimal fail generation json log metrics now
    null operation sleep spawn timeout uuid version]],
  ["moonpool.cache"]    = "delete get invalidate set stats",
  ["moonpool.db"]       = "count exec first insert lease notify one query stream transaction value",
  ["moonpool.decimal"]  = "is max min",
  ["moonpool.is"]       = [[any array boolean date decimal email enum integer map null number
    object one_of row schema string timestamp uuid]],
  ["moonpool.json"]     = "array camel decode encode is_array map null object raw snake",
  ["moonpool.metrics"]  = "counter gauge histogram operations pool queries slow transactions",
  ["moonpool.password"] = "hash needs_rehash verify",
  ["cjson"]             = "decode encode null",
}

-- Modules of C functions that the program around the host has registered for its operations.
for name, names in next, host.native do sandbox.modules[name] = names end

-- The other modules with a stable interface: for tools, specs and the host itself. All other
-- modules below `moonpool.` are internal and may change at any time.
sandbox.trusted = "alerts calls errors generations outbox pool sql test"

-- Modules that replace a module whose own functions are not safe for scripts.
local stand_ins = { cjson = "moonpool.script.cjson" }

-- -- views ----------------------------------------------------------------------------------------

local function copy(content)
  local fields = {}
  for name, value in next, content do fields[name] = value end
  return fields
end

-- A read-only table with the fields of `content`. `own` is the metatable of the original.
local function view(what, content, own)
  return setmetatable({}, {
    __index     = content,
    __newindex  = function(_, name)
      error(("%s is read-only for scripts: `%s` cannot be set"):format(what, tostring(name)), 2)
    end,
    __pairs     = function() return next, copy(content), nil end,
    __len       = function() return #content end,
    __call      = own and own.__call and function(_, ...) return own.__call(nil, ...) end or nil,
    __metatable = false,
  })
end

local view_of_module

-- A view of a table, with only the given names. Modules and other tables in it become views too.
local function view_of(what, source, names)
  local content, own = {}, getmetatable(source)
  for name in names:gmatch "%S+" do
    local value = rawget(source, name)
    if type(value) == "table" then
      local module = "moonpool." .. name
      if package.loaded[module] == value then
        value = view_of_module(module)
      elseif not getmetatable(value) then
        value = view(what .. "." .. name, copy(value))
      end
    end
    content[name] = value
  end
  local index = own and own.__index
  if type(index) == "function" then setmetatable(content, { __index = index }) end
  return view(what, content, own)
end

local views = {}

function view_of_module(name)
  if not views[name] then
    views[name] = view_of(name, require(stand_ins[name] or name), sandbox.modules[name])
  end
  return views[name]
end

-- -- globals --------------------------------------------------------------------------------------

local guarded = host.safe_metatables()

local function collectgarbage_of_scripts(option)
  if option ~= "count" then
    error("collectgarbage: scripts may only ask for \"count\"", 2)
  end
  return collectgarbage "count"
end

-- The scripts' `print`: writes to the log.
local function print_to_log(...)
  local words = table.pack(...)
  for i = 1, words.n do words[i] = tostring(words[i]) end
  host.log("info", table.concat(words, "\t", 1, words.n))
end

local base -- made once: the globals that all files share

local function make_base()
  local globals = { print = print_to_log, collectgarbage = collectgarbage_of_scripts,
                    _VERSION = _VERSION }
  for name in sandbox.globals.functions:gmatch "%S+" do
    if globals[name] == nil then globals[name] = guarded[name] or _G[name] end
  end
  for name, names in next, sandbox.globals.libraries do
    globals[name] = view_of(name, _G[name], names)
  end
  return globals
end

-- An environment for the file `shown`, and the function that freezes it.
local function new_environment(shown, require_of_scripts, more)
  base = base or make_base()
  local content, frozen, env = copy(base), false, {}
  content.require, content._G = require_of_scripts, env
  for name, value in next, more or {} do content[name] = value end
  setmetatable(content, { __index = function(_, name)
    if not frozen then return nil end
    local near = nearest(tostring(name), content)
    error(("there is no global `%s`%s"):format(tostring(name),
                                               near and ("; did you mean `%s`?"):format(near) or
      "; make it local"), 2)
  end })
  setmetatable(env, {
    __index     = content,
    __newindex  = function(_, name, value)
      if frozen then
        error(
          ("the global `%s` of %s cannot be set: globals are frozen once a script is loaded, \z
            because calls "
          .. "must not share state; make it local"):format(tostring(name), shown), 2)
      end
      rawset(content, name, value)
    end,
    __pairs     = function() return next, copy(content), nil end,
    __metatable = false,
  })
  return env, function() frozen = true end
end

-- -- files ----------------------------------------------------------------------------------------

local require_of_scripts

local function prepare(chunk, shown, more)
  local env, freeze = new_environment(shown, require_of_scripts, more)
  setupvalue(chunk, 1, env)
  return function(...)
    local _ <close> = setmetatable({}, { __close = freeze })
    return chunk(...)
  end
end

--- Calls fn(...) as the body of a file of scripts/. The body must not start tasks: no call would
--- own them, so they are refused.
function sandbox.as_body(fn, ...)
  local before = host.loading(true)
  local _ <close> = setmetatable({}, { __close = function() host.loading(before) end })
  return fn(...)
end

-- Finds a module of scripts/. The table that it returns becomes a view, because all files that
-- require it share it.
local function find_script(name, tried)
  local chunk, shown = requires.from_scripts(name, tried, sandbox.head)
  if not chunk then return nil end
  local run = prepare(chunk, shown)
  return function(...)
    local value = sandbox.as_body(run, ...)
    if type(value) == "table" and not getmetatable(value) then return view(name, value) end
    return value
  end, shown
end

local function find(name, tried)
  if sandbox.modules[name] then return function() return view_of_module(name) end, "the host" end
  if name == "moonpool" or name:find "^moonpool%." then
    error(("module '%s' is not for operations"):format(name), 0)
  end
  return find_script(name, tried)
end

require_of_scripts = requires.new({}, find)

-- load(path, shown) -> function | nil, error object. Like host.load_file, but the chunk is
-- sandboxed. `globals`: additional globals; they replace those of the same name.
function sandbox.load(path, shown, globals)
  local chunk, fault = host.load_file(path, shown, sandbox.head)
  if not chunk then return nil, fault end
  return prepare(chunk, shown, globals)
end

return sandbox
