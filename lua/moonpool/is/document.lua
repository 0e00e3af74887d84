-- moonpool.is.document: writes a schema as JSON Schema (2020-12), with the camelCase names of the
-- border.
local deep_copy = require "moonpool.is.copy"
local json = require "moonpool.json"
local decimal = require "moonpool.decimal"

local document = {}
local of

local DECIMAL = "^-?[0-9]+(\\.[0-9]+)?$"

-- The smallest step with this number of digits after the point: 2 -> 0.01.
local function step(scale)
  return decimal(scale == 0 and "1" or "0." .. ("0"):rep(scale - 1) .. "1")
end

local kinds = {
  any = function() return {} end,
  row = function(s)
    return { type = "object", ["x-table"] = s.table, ["x-columns"] = s.columns }
  end,
  boolean = function() return { type = "boolean" } end,
  uuid = function() return { type = "string", format = "uuid" } end,
  email = function() return { type = "string", format = "email", maxLength = 254 } end,
  date = function() return { type = "string", format = "date" } end,
  timestamp = function() return { type = "string", format = "date-time" } end,
  integer = function(s)
    return { type = "integer", minimum = s.min_value, maximum = s.max_value }
  end,
  number = function(s) return { type = "number", minimum = s.min_value, maximum = s.max_value } end,
  enum = function(s) return { type = "string", enum = json.array { table.unpack(s.names) } } end,

  string = function(s)
    return { type = "string", minLength = s.min_value, maxLength = s.max_value or 10000 }
  end,

  decimal = function(s)
    return {
      type = json.array { "string", "number" }, format = "decimal", pattern = DECIMAL,
      minimum = s.min_value, maximum = s.max_value,
      multipleOf = s.max_scale and step(s.max_scale),
    }
  end,

  array = function(s)
    return { type = "array", items = of(s.item), minItems = s.min_value, maxItems = s.max_value }
  end,

  map = function(s)
    return {
      type = "object", additionalProperties = of(s.item), minProperties = s.min_value,
      maxProperties = s.max_value,
    }
  end,

  one_of = function(s)
    local list = json.array()
    for i, choice in ipairs(s.choices) do list[i] = of(choice) end
    return { anyOf = list }
  end,

  object = function(s)
    local properties, required, all = json.object(), json.array(), json.array()
    for _, name in ipairs(s.names) do
      local field, border = s.fields[name], s.border_names[name]
      properties[border] = of(field)
      if not field.is_optional and field.default_value == nil then
        required[#required + 1] = border
      end
    end
    for i, rule in ipairs(s.rules) do
      local choices = json.array()
      for k, name in ipairs(rule.names) do
        choices[k] = { required = json.array { s.border_names[name] } }
      end
      all[i] = { oneOf = choices }
    end
    return {
      type = "object", properties = properties, additionalProperties = false,
      required = #required > 0 and required or nil, allOf = #all > 0 and all or nil,
    }
  end,
}

function of(s)
  local doc = kinds[s.kind](s)
  if s.is_nullable then doc = { anyOf = json.array { doc, { type = "null" } } } end
  if s.pattern_text then doc.description = "looks like " .. s.pattern_text end
  doc.description = s.description or doc.description
  doc.default = deep_copy(s.default_value)
  return doc
end

function document.of(s)
  local doc = of(s)
  doc["$schema"] = "https://json-schema.org/draft/2020-12/schema"
  return json.raw(doc)
end

return document
