-- moonpool.is.spelling: marks the names in a value that are data according to its schema: the names
-- of is.map, and all names inside is.any. JSON keeps the spelling of data; other names become
-- camelCase.
local json   = require "moonpool.json"
local schema = require "moonpool.is.schema"

local spelling = {}

local known = setmetatable({}, { __mode = "k" }) -- definition -> does it contain is.map or is.any?

local function speaks_of_data(definition)
  if known[definition] ~= nil then return known[definition] end
  local found = definition.kind == "map" or definition.kind == "any"
  if definition.item then found = found or speaks_of_data(definition.item) end
  for _, part in pairs(definition.fields or definition.choices or {}) do
    found = speaks_of_data(part) or found
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
  array  = function(self, value) return copy_of(value, function() return self.item end) end,
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
  if type(value) ~= "table" or not (definition and speaks_of_data(definition)) then return value end
  return kinds[definition.kind](definition, value)
end

--- Returns the value, or a copy of it with marks if it contains data. The value itself is not
--- changed: the caller of this function may not own it.
---@param of table  a schema
function spelling.mark(of, value) return marked(schema.of(of), value) end

return spelling
