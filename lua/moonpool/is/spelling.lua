-- moonpool.is.spelling: marks in a value what its schema knows and Lua does not: the names that are
-- data, which JSON spells as they are (those of is.map, and all inside is.any; other names become
-- camelCase), and empty arrays, which would be written as {}.
local json   = require "moonpool.json"
local schema = require "moonpool.is.schema"

local spelling = {}

local known = setmetatable({}, { __mode = "k" }) -- definition -> may it contain what is marked?

local function may_be_marked(definition)
  if known[definition] ~= nil then return known[definition] end
  local kind = definition.kind
  local found = kind == "map" or kind == "any" or kind == "array"
  if definition.item then found = found or may_be_marked(definition.item) end
  for _, part in pairs(definition.fields or definition.choices or {}) do
    found = may_be_marked(part) or found
  end
  known[definition] = found
  return found
end

local marked

local function copy_of(value, part)
  local copy = {}
  for name, item in next, value do copy[name] = part and marked(part(name), item) or item end
  return json.is_array(value) and json.array(copy) or copy
end

local kinds = {
  any    = function(_, value) return json.raw(copy_of(value)) end,
  map    = function(self, value)
    return json.map(copy_of(value, function() return self.item end))
  end,
  array  = function(self, value)
    if next(value) == nil then return json.array() end
    if not may_be_marked(self.item) then return value end
    return copy_of(value, function() return self.item end)
  end,
  object = function(self, value)
    return copy_of(value, function(name) return self.fields[name] end)
  end,
  one_of = function(self, value)
    for _, choice in ipairs(self.choices) do
      if schema.fits(choice, value) then return marked(choice, value) end
    end
    return value
  end,
}

function marked(definition, value)
  if type(value) ~= "table" or not (definition and may_be_marked(definition)) then return value end
  return kinds[definition.kind](definition, value)
end

--- Returns the value, or a copy of it with marks if it contains data. The value itself is not
--- changed: the caller of this function may not own it.
---@param of table  a schema
function spelling.mark(of, value) return marked(schema.of(of), value) end

return spelling
