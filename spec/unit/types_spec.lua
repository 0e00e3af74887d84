-- The LuaCATS definitions (lua/moonpool/types) and what is there at run time: the same names, both
-- ways. `moonpool.host` and all that scripts can call.
local moonpool = require "moonpool"
local sandbox  = require "moonpool.script.sandbox"

local function read(path)
  local file = assert(io.open(moonpool.app_dir .. "/" .. path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function found(expression)
  local list = {}
  local pipe = assert(io.popen(("cd '%s' && find %s"):format(moonpool.app_dir, expression)))
  for path in pipe:lines() do list[#list + 1] = path end
  pipe:close()
  return list
end

-- class -> name -> the line that declares it: the fields of a class, and the functions of the local
-- variable that follows it.
local classes = {}

local function read_types(path)
  local class, of_variable = nil, {}
  for line in read(path):gmatch "[^\n]+" do
    local name = line:match "^%-%-%-@class ([%w_.]+)"
    if name then
      class = classes[name] or {}
      classes[name] = class
    end
    local field = class and (line:match "^%-%-%-@field private ([%w_]+)"
      or line:match "^%-%-%-@field ([%w_]+)")
    if field then class[field] = line end
    local variable = class and line:match "^local ([%w_]+) = {}"
    if variable then of_variable[variable] = class end
    local owner, method = line:match "^function ([%w_]+)[.:]([%w_]+)%("
    if owner and of_variable[owner] then of_variable[owner][method] = line end
  end
end

for _, path in ipairs(found "lua/moonpool/types -name '*.lua'") do read_types(path) end

local function names_of(value)
  local names = {}
  for name in next, value do
    if type(name) == "string" and not name:find "^__" then names[name] = true end
  end
  return names
end

-- Raises with the names that stand in one of the two only.
local function compare(what, there, declared, but)
  local problems = {}
  for name in pairs(there) do
    if not declared[name] then problems[#problems + 1] = what .. "." .. name .. " has no type" end
  end
  for name in pairs(declared) do
    if not there[name] and not (but and but[name]) then
      problems[#problems + 1] = what .. "." .. name .. " has a type, but is not there"
    end
  end
  table.sort(problems)
  assert.are.equal("", table.concat(problems, "\n"))
end

describe("the types know", function()
  -- In a generation only; moonpool.host of this state, the main one, has all others.
  local of_generation = {}
  for name, line in pairs(classes["moonpool.host"]) do
    if line:find("(generation)", 1, true) then of_generation[name] = true end
  end

  it("each name of moonpool.host", function()
    compare("moonpool.host", names_of(moonpool.host), classes["moonpool.host"], of_generation)
    local added = {}
    local list = read "src/ops/generation.c":match "luaL_Reg functions%[%] = {(.-){NULL"
    for name in list:gmatch '{"([%l_]+)",' do added[name] = true end
    compare("moonpool.host (of a generation)", added, of_generation)
  end)

  it("each name of moonpool.host that Lua uses", function()
    local problems = {}
    for _, path in ipairs(found "lua -name '*.lua' -not -path '*/types/*'") do
      local text = read(path)
      if text:find 'local host%s*= require "moonpool.host"' then
        for name in text:gmatch "%f[%w_.]host%.([%a_][%w_]*)" do
          if not classes["moonpool.host"][name] then
            problems[#problems + 1] = path .. ": host." .. name
          end
        end
      end
    end
    assert.are.equal("", table.concat(problems, "\n"))
  end)

  local modules = {}
  for name in pairs(sandbox.modules) do
    if name ~= "cjson" then modules[#modules + 1] = name end
  end
  for name in sandbox.trusted:gmatch "%S+" do modules[#modules + 1] = "moonpool." .. name end
  table.sort(modules)
  for _, name in ipairs(modules) do
    it("each name of " .. name, function()
      compare(name, names_of(require(name)), classes[name .. ".module"] or classes[name] or {})
    end)
  end
end)

describe("the types know each method of", function()
  local function methods_of(value)
    local index = debug.getmetatable(value).__index
    return names_of(type(index) == "table" and index or select(2, debug.getupvalue(index, 1)))
  end

  it("a decimal, a schema, a spawned task", function()
    compare("decimal", methods_of(moonpool.decimal "1"), classes["moonpool.decimal"])
    compare("schema", methods_of(require("moonpool.is").string), classes["moonpool.schema"])
    local task = moonpool.spawn(function() end)
    task:wait()
    compare("handle", methods_of(task), classes["moonpool.handle"])
  end)

  it("a counter, a gauge, a histogram", function()
    for _, kind in ipairs { "counter", "gauge", "histogram" } do
      local name = "types_spec_" .. kind .. (kind == "counter" and "_total" or "")
      compare(kind, methods_of(moonpool.metrics[kind](name)), classes["moonpool." .. kind])
    end
  end)
end)
