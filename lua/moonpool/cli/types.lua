-- `moonpool types [DIR]`: LuaCATS definitions for editors: the host's, one class for each table
-- (its row, and what an insert takes) and for the input and the result of each operation.
local columns  = require "moonpool.db.columns"
local host     = require "moonpool.host"
local lfs      = require "lfs"
local registry = require "moonpool.operation.registry"
local schema   = require "moonpool.is.schema"
local sorted   = require "moonpool.script.sorted"

-- Those for scripts and specs; moonpool.host is the host's own.
local own = { "decimal", "generations", "is", "json", "metrics", "moonpool", "operation",
              "password", "sql", "test" }

local LUARC = [[
{
  "runtime.version": "Lua 5.4",
  "runtime.path": ["scripts/?.lua", "scripts/?/init.lua"],
  "workspace.library": [%q],
  "workspace.checkThirdParty": false,
  "diagnostics.globals": [
    "describe", "it", "pending", "setup", "teardown", "before_each", "after_each", "finally"
  ]
}
]]

-- ---- tables --------------------------------------------------------------------------------

local lua_types = {
  int2 = "integer", int4 = "integer", int8 = "integer", oid = "integer", float4 = "number",
  float8 = "number", numeric = "moonpool.decimal", bool = "boolean", json = "any", jsonb = "any",
}

local function type_of(column)
  local labels = {}
  for i, label in ipairs(column.labels) do labels[i] = ("%q"):format(label) end
  local one = labels[1] and table.concat(labels, "|") or lua_types[column.type] or "string"
  if column.category ~= "A" then return one end
  return labels[1] and ("(%s)[]"):format(one) or one .. "[]"
end

-- What an insert or a parameter takes for a column: more than what is read.
local function input_type_of(column)
  local one = type_of(column)
  return one == "moonpool.decimal" and "moonpool.decimal|number|string" or one
end

-- A name that a @field can have as it is, or in brackets.
local function field(name)
  return name:find "^[%a_][%w_]*$" and name or ("[%q]"):format(name)
end

local function one_line(text) return (text:gsub("%s+", " ")) end

local function tables()
  local lines, by_name, order = { "---@meta", "" }, columns()
  local function add(text, ...) lines[#lines + 1] = text:format(...) end
  for _, name in ipairs(order) do
    local class = name:gsub('"', "")
    add("---@class row.%s: moonpool.row", class)
    for _, column in ipairs(by_name[name]) do
      add("---@field %s %s%s%s", field(column.name), type_of(column), column.required and "" or "?",
          column.about and "  " .. one_line(column.about) or "")
    end
    add("\n---@class insert.%s", class)
    for _, column in ipairs(by_name[name]) do
      if not column.generated then
        local given = column.required and not column.has_default
        add("---@field %s%s %s", field(column.name), given and "" or "?", input_type_of(column))
      end
    end
    add ""
  end
  for _, module in ipairs { "moonpool.tx", "moonpool.db" } do
    add("---@class %s", module)
    for _, name in ipairs(order) do
      add("---@field insert fun(%stable_name: %q, values: insert.%s): row.%s",
          module == "moonpool.tx" and "self: moonpool.tx, " or "", name, name:gsub('"', ""),
          name:gsub('"', ""))
    end
    add ""
  end
  return table.concat(lines, "\n"), #order
end

-- ---- operations ----------------------------------------------------------------------------

local kinds
local function lua_type(s)
  local text = kinds[s.kind] and kinds[s.kind](s) or "string"
  return s.is_nullable and text .. "|lightuserdata" or text -- moonpool.null
end

kinds = {
  any = function() return "any" end,
  row = function(s) return s.table and not s.columns and "row." .. s.table or "moonpool.row" end,
  boolean = function() return "boolean" end,
  integer = function() return "integer" end,
  number = function() return "number" end,
  decimal = function() return "moonpool.decimal" end,
  array = function(s) return ("(%s)[]"):format(lua_type(s.item)) end,
  map = function(s) return ("table<string, %s>"):format(lua_type(s.item)) end,
  enum = function(s)
    local list = {}
    for i, name in ipairs(s.names) do list[i] = ("%q"):format(name) end
    return table.concat(list, "|")
  end,
  one_of = function(s)
    local list = {}
    for i, choice in ipairs(s.choices) do list[i] = lua_type(choice) end
    return table.concat(list, "|")
  end,
  object = function(s)
    local list = {}
    for i, name in ipairs(s.names) do
      list[i] = ("%s%s: %s"):format(name, s.fields[name].is_optional and "?" or "",
        lua_type(s.fields[name]))
    end
    return "{ " .. table.concat(list, ", ") .. " }"
  end,
}

-- The class of an operation's input or result. -> the type's name
local function add_class(add, prefix, name, object)
  local s = object and schema.of(object)
  if not s then return "any" end
  if s.kind ~= "object" then return lua_type(s) end
  add("---@class %s.%s", prefix, name)
  for _, one in ipairs(s.names) do
    local value = s.fields[one]
    add("---@field %s%s %s%s", field(one), value.is_optional and "?" or "", lua_type(value),
        value.description and "  " .. one_line(value.description) or "")
  end
  add ""
  return prefix .. "." .. name
end

local function operations()
  local names = sorted(registry.operations)
  local lines, calls = { "---@meta", "" }, {}
  local function add(text, ...) lines[#lines + 1] = text:format(...) end
  for i, name in ipairs(names) do
    local op = registry.operations[name]
    local input = add_class(add, "input", name, op.input)
    local result = add_class(add, "result", name, op.output)
    calls[i] = ("---@field call fun(name: %q, input: %s, options?: moonpool.call_options): %s")
      :format(name, input, result)
  end
  add "---@class moonpool"
  add("%s", table.concat(calls, "\n"))
  add ""
  return table.concat(lines, "\n"), #names
end

-- ---- files ---------------------------------------------------------------------------------

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function write_luarc(dir)
  local path = host.app_dir .. "/.luarc.json"
  if not lfs.attributes(path) then
    write(path, LUARC:format(dir))
    print ".luarc.json"
  else
    print(('.luarc.json is there: its "workspace.library" must name %q'):format(dir))
  end
end

return function(arguments)
  local dir = arguments[1] or "types"
  if dir:sub(1, 1) == "-" or arguments[2] then
    io.stderr:write(("moonpool types: unknown argument %q; see: moonpool types --help\n")
      :format(arguments[2] or dir))
    return 2
  end
  registry.load()
  local folder = dir:sub(1, 1) == "/" and dir or host.app_dir .. "/" .. dir
  local table_text, table_count = tables()
  local operation_text, operation_count = operations()
  local ok, fault = pcall(function()
    lfs.mkdir(folder)
    lfs.mkdir(folder .. "/moonpool")
    for _, name in ipairs(own) do
      write(("%s/moonpool/%s.lua"):format(folder, name),
            host.built_in_text("moonpool/types/" .. name .. ".lua"))
    end
    write(folder .. "/tables.lua", table_text)
    write(folder .. "/operations.lua", operation_text)
    write_luarc(dir)
  end)
  if not ok then
    io.stderr:write("moonpool types: ", (tostring(fault):gsub("^[^ ]-%.lua:%d+: ", "")), "\n")
    return 1
  end
  print(("%s/: %d tables, %d operations, and the host's own"):format(dir, table_count,
    operation_count))
  for _, name in ipairs(registry.broken_names()) do
    io.stderr:write(("moonpool types: scripts/%s.lua does not load, and is left out; see: \z
      moonpool ops\n"):format(name))
  end
  return 0
end
