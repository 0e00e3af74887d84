-- moonpool.check.types: whether a value can be a parameter, or a column, of a type.
local values = require "moonpool.check.values"

local types = {}

-- type's number -> its name, and the group of what fits
local named = {
  [16] = "boolean", [20] = "bigint", [21] = "smallint", [23] = "integer", [25] = "text",
  [114] = "json", [700] = "real", [701] = "double precision", [1042] = "char", [1043] = "varchar",
  [1082] = "date", [1114] = "timestamp", [1184] = "timestamptz", [1700] = "numeric",
  [2950] = "uuid", [3802] = "jsonb",
}

local group_of = {
  boolean = "boolean", bigint = "integer", smallint = "integer", integer = "integer",
  real = "number", ["double precision"] = "number", numeric = "number", date = "date",
  timestamp = "time", timestamptz = "time", uuid = "uuid",
}

-- kind of a value -> the groups that it does not fit
local clashes = {
  string  = { uuid = true, integer = true, number = true, boolean = true, date = true,
              time = true },
  email   = "string",
  uuid    = { integer = true, number = true, boolean = true, date = true, time = true },
  integer = { uuid = true, boolean = true, date = true, time = true },
  number  = { uuid = true, boolean = true, date = true, time = true },
  decimal = "number",
  boolean = { uuid = true, integer = true, number = true, date = true, time = true },
  date    = { uuid = true, integer = true, number = true, boolean = true },
  timestamp = "date",
  object  = { uuid = true, integer = true, number = true, boolean = true, date = true,
              time = true },
  map     = "object",
  array   = "object",
  row     = "object",
}
for kind, other in pairs(clashes) do
  if type(other) == "string" then clashes[kind] = clashes[other] == "number" and clashes.number
    or clashes[other] end
end

-- A schema that would fit.
local schema_for = { uuid = "is.uuid", integer = "is.integer", number = "is.decimal",
                     boolean = "is.boolean", date = "is.date", time = "is.timestamp" }

--- The name of a type; nil for one that is not among the usual ones.
function types.name(number) return named[number] end

--- Does the type have a length: char(n), varchar(n)?
function types.has_length(number) return number == 1042 or number == 1043 end

-- What of a column's type is known as a kind of value.
local kind_of_type = { boolean = "boolean", integer = "integer", number = "number", date = "date",
                       time = "timestamp", uuid = "uuid" }

-- A constant text: nil if it can be read as the type.
local readable = {
  integer = "^%s*[+-]?%d+%s*$", number = "^%s*[+-]?[%d.]+[eE]?[+-]?%d*%s*$",
  uuid = "^{?%x%x%x%x%x%x%x%x%-?%x%x%x%x%-?%x%x%x%x%-?%x%x%x%x%-?%x%x%x%x%x%x%x%x%x%x%x%x}?$",
}

local function constant_fault(value, group, name)
  local text, whole = values.plain(value)
  if not whole or not readable[group] or text:find(readable[group]) then return nil end
  if group == "number" and text:find "^%a+$" then return nil end -- NaN, Infinity
  return ("the text %q is no %s"):format(text, name)
end

local function shown_kind(value, kind)
  if value.path then return ("`%s` (%s)"):format(value.path, kind) end
  return "a " .. kind
end

local function data_fault(value, group, name)
  local schema = value.schema
  if not schema or schema.lua_pattern then return nil end
  local wrong = clashes[schema.kind]
  if not (wrong and wrong[group]) then return nil end
  local list = schema.kind == "array" and "for a list write = any($name)"
  return ("`%s` is is.%s, and the database needs %s"):format(value.path, schema.kind, name),
    list or schema_for[group] and ("make it %s in the input"):format(schema_for[group]) or nil
end

--- What is wrong with a value for a type, and what to do; nil if nothing is known to be wrong.
---@return string? fault, string? help
function types.fault(value, number)
  local name = named[number]
  local group = group_of[name]
  if not group then return nil end
  if value.kind == "text" then return constant_fault(value, group, name) end
  if value.kind == "data" then return data_fault(value, group, name) end
  local kind
  if value.kind == "number" and value.n then
    kind = math.type(value.n) == "integer" and "integer" or "number"
    if kind == "number" and group == "integer" and value.n % 1 ~= 0 then
      return ("the number %s is no %s"):format(value.n, name)
    end
  elseif value.kind == "column" then
    kind = kind_of_type[group_of[named[value.type]]]
  elseif value.kind == "rows" or value.kind == "row" then
    kind = "row"
  elseif value.kind == "table" then
    kind = "object"
  elseif value.kind == "boolean" then
    kind = "boolean"
  end
  if not (kind and clashes[kind] and clashes[kind][group]) then return nil end
  return ("%s is given, and the database needs %s"):format(
    shown_kind(value, kind == "object" and "table" or kind), name)
end

return types
