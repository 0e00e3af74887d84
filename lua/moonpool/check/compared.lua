-- moonpool.check.compared: comparisons and calculations whose outcome is never what was meant.
local nearest = require "moonpool.is.nearest"
local values  = require "moonpool.check.values"

local compared = {}

local NUMERIC = 1700 -- the type `numeric`

local function is_decimal(value)
  return value.kind == "column" and value.type == NUMERIC
    or value.kind == "data" and value.schema and value.schema.kind == "decimal"
end

-- What Lua makes of a value: "number", "string", or nil if that is not known.
local lua_types = { integer = "number", number = "number", string = "string", uuid = "string",
                    email = "string", date = "string", timestamp = "string", enum = "string",
                    boolean = "boolean", decimal = "decimal" }
local column_types = { [16] = "boolean", [20] = "number", [21] = "number", [23] = "number",
                       [25] = "string", [700] = "number", [701] = "number", [1042] = "string",
                       [1043] = "string", [1082] = "string", [1114] = "string", [1184] = "string",
                       [1700] = "decimal", [2950] = "string" }

local function type_of(value)
  if value.kind == "column" then return column_types[value.type] end
  if value.kind == "data" then return value.schema and lua_types[value.schema.kind] end
end

local function constant_type(value)
  if value.kind == "text" then return "string" end
  return value.kind == "number" and value.n and "number" or nil
end

local function check_enum(self, node, value, constant)
  local schema = value.kind == "data" and value.schema
  if not (schema and schema.kind == "enum") or constant.kind ~= "text" then return end
  local text, whole = values.plain(constant)
  local known = {}
  for _, name in ipairs(schema.names) do known[name] = true end
  if not whole or known[text] then return end
  local near = nearest(text, known)
  self:report("error", "never", node, ("%s is never %q"):format(value.path, text),
    near and ("did you mean %q?"):format(near) or "it is one of: "
      .. table.concat(schema.names, ", "))
end

local function check_pair(self, node, value, other)
  local own, given = type_of(value), constant_type(other)
  if is_decimal(value) and given == "number" then
    self:report("error", "decimal", node, ("%s is a decimal, which never equals a number")
      :format(value.path or "this"),
      other.n == 0 and "write :is_zero()" or "write :eq(…), or compare with a decimal")
  elseif own and given and own ~= given then
    self:report("error", "never", node,
      ("%s is a %s, which never equals a %s"):format(value.path, own, given))
  else
    check_enum(self, node, value, other)
  end
end

--- What a value is compared with nil for: rows of tx:one and arrays are never nil.
local function check_nil(self, node, value)
  if value.fn ~= self.fn or not self.fn then return end
  if value.kind == "row" then
    self:report("warning", "never-nil", node,
      "this row is never nil: tx:one raises RESOURCE_NOT_FOUND where there is none",
      "use tx:first, which gives nil; or give tx:one a message")
  elseif value.kind == "rows" then
    self:report("warning", "never-nil", node, "an array of rows is never nil",
                "ask for its length: #rows == 0")
  end
end

--- `a == b`, `a ~= b`
function compared.equal(self, node, left, right)
  for _, pair in ipairs { { left, right }, { right, left } } do
    if pair[2].kind == "none" then
      check_nil(self, node, pair[1])
    else
      check_pair(self, node, values.present(pair[1]), pair[2])
    end
  end
end

--- `not a`
function compared.absent(self, node, value) check_nil(self, node, value) end

local words = { add = "+", sub = "-", mul = "*", div = "/", lt = "<", le = "<=", gt = ">",
                ge = ">=" }

--- `a + b`, `a < b` …: decimals take integers, and no floats.
function compared.calculated(self, node, left, right)
  local word = words[node[1]]
  for _, pair in ipairs { { left, right }, { right, left } } do
    local value, other = values.present(pair[1]), pair[2]
    if word and is_decimal(value) and other.kind == "number" and math.type(other.n) == "float" then
      self:report("error", "decimal", node,
        ("%s is a decimal, and `%s` with a float raises an error"):format(value.path, word),
        ("write a decimal: decimal %q"):format(tostring(other.n)))
    end
  end
end

return compared
