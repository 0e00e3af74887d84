-- `moonpool call NAME --help`: an operation for who wants to call it: its input and result with
-- names and types of the border, an example, its limits and errors.
local columns  = require "moonpool.cli.table_text"
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local lanes    = require "moonpool.operation.lanes"
local registry = require "moonpool.operation.registry"
local schema   = require "moonpool.is.schema"

local function range(s, what)
  local low, high = s.min_value, s.max_value
  local unit = what and " " .. what or ""
  if low and high then return (" of %s to %s%s"):format(low, high, unit) end
  if low then return (" of at least %s%s"):format(low, unit) end
  return high and (" of at most %s%s"):format(high, unit) or ""
end

local words
words = {
  any = function() return "any value" end,
  row = function() return "row of a table" end,
  boolean = function() return "true or false" end,
  uuid = function() return "UUID" end,
  email = function() return "e-mail address" end,
  date = function() return "date, as 2026-01-31" end,
  timestamp = function() return "time, as 2026-01-31T12:00:00Z" end,
  integer = function(s) return "whole number" .. range(s) end,
  number = function(s) return "number" .. range(s) end,
  string = function(s) return "text" .. range(s, "characters") end,
  enum = function(s) return "one of: " .. table.concat(s.names, ", ") end,
  decimal = function(s)
    return "decimal number" .. range(s)
      .. (s.max_scale and (", at most %d digits after the point"):format(s.max_scale) or "")
  end,
  array = function(s) return "list" .. range(s, "items") end,
  map = function(s) return "object whose names are data" .. range(s, "names") end,
  object = function() return "object" end,
  one_of = function(s)
    local list = {}
    for i, choice in ipairs(s.choices) do list[i] = words[choice.kind](choice) end
    return table.concat(list, ", or ")
  end,
}

local function note_of(s)
  local default = s.default_value
  -- The fields inside of an object show its defaults.
  if default == nil or s.kind == "object" then
    return (default ~= nil or s.is_optional) and "optional" or ""
  end
  return "default " .. json.encode(default, { decimal_strings = true })
end

-- Adds a row for a field and for what is inside of it.
local function add(rows, path, s)
  local text = words[s.kind](s) .. (s.is_nullable and ", or null" or "")
  if s.pattern_text then text = text .. ", looks like " .. s.pattern_text end
  if s.description then text = text .. ": " .. s.description end
  if path ~= "" then rows[#rows + 1] = { path, note_of(s), text } end
  local prefix = path == "" and "" or path .. "."
  for _, name in ipairs(s.kind == "object" and s.names or {}) do
    add(rows, prefix .. s.border_names[name], s.fields[name])
  end
  local item = s.item
  if item and (item.kind == "object" or item.kind == "array" or item.kind == "map") then
    add(rows, path .. "[]", item)
  elseif item then
    rows[#rows + 1] = { path .. "[]", "", words[item.kind](item) }
  end
end

local samples
local function sample(s)
  if s.default_value ~= nil then return s.default_value end
  return samples[s.kind](s)
end
samples = {
  any = function() return "..." end,
  row = function() return json.object() end,
  boolean = function() return true end,
  uuid = function() return "00000000-0000-7000-8000-000000000001" end,
  email = function() return "name@example.com" end,
  date = function() return "2026-01-31" end,
  timestamp = function() return "2026-01-31T12:00:00Z" end,
  integer = function(s) return s.min_value or s.max_value and math.min(1, s.max_value) or 1 end,
  number = function(s) return s.min_value or s.max_value and math.min(1, s.max_value) or 1 end,
  decimal = function(s) return s.min_value or "1.00" end,
  string = function() return "..." end,
  enum = function(s) return s.names[1] end,
  array = function(s) return json.array { sample(s.item) } end,
  map = function() return json.object() end,
  one_of = function(s) return sample(s.choices[1]) end,
  object = function(s)
    local value = json.object()
    for _, name in ipairs(s.names) do
      local field = s.fields[name]
      if not field.is_optional and field.default_value == nil then
        value[s.border_names[name]] = sample(field)
      end
    end
    for _, rule in ipairs(s.rules) do
      value[s.border_names[rule.names[1]]] = sample(s.fields[rule.names[1]])
    end
    return value
  end,
}

local function print_fields(title, object)
  local s, rows = schema.of(object), {}
  add(rows, "", s)
  print("\n" .. title .. ":")
  if s.kind ~= "object" then print("  " .. words[s.kind](s)) end
  for _, line in ipairs(columns(rows, "  ")) do print(line) end
  for _, rule in ipairs(s.rules or {}) do
    local names = {}
    for i, name in ipairs(rule.names) do names[i] = s.border_names[name] end
    print("  exactly one of " .. table.concat(names, ", "))
  end
end

local function print_more(op)
  local rows = { { "isolation", op.isolation .. (op.read_only and ", read only" or "") },
                 { "timeout", ("%g s over all attempts"):format(op.timeout) } }
  local function note(name, text) if text then rows[#rows + 1] = { name, text } end end
  note("tenant", op.tenant and json.camel(op.tenant) .. ", or the caller's (--tenant)")
  note("lane", lanes.shown(op.lane))
  note("every", op.every)
  note("on", op.on and op.on .. ": a subscriber, which nothing else can call")
  print ""
  for _, line in ipairs(columns(rows)) do print(line) end
  local own = {}
  for constraint, told in pairs(op.errors or {}) do
    own[#own + 1] = { tostring(told[1]), tostring(told[2] or ""), "constraint " .. constraint }
  end
  table.sort(own, function(a, b) return a[1] .. a[3] < b[1] .. b[3] end)
  if own[1] then print "\nErrors of its own:" end
  for _, line in ipairs(columns(own, "  ")) do print(line) end
end

return function(arguments)
  local name = arguments[1]
  local ok, op = pcall(registry.get, name)
  if not ok then
    io.stderr:write("moonpool call: ", errors.is(op) and op.message or tostring(op), "\n")
    return errors.is(op) and op.code == "UNKNOWN_OPERATION" and 2 or 1
  end
  print(("%s: %s"):format(op.name, op.summary or "no summary"))
  local input = op.input and json.encode(sample(schema.of(op.input)),
                                         { sorted = true, decimal_strings = true })
  print(("\n  moonpool call %s%s"):format(op.name,
    input and input ~= "{}" and " '" .. input:gsub("'", "'\\''") .. "'" or ""))
  if op.input then print_fields("Input", op.input) else print "\nInput: not checked" end
  if op.output then print_fields("Result", op.output) end
  print_more(op)
  return 0
end
