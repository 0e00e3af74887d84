-- moonpool.check.parameters: whether a call gives a statement the parameters that it has.
local access = require "moonpool.check.access"
local types  = require "moonpool.check.types"
local values = require "moonpool.check.values"

local parameters = {}

local function node_of(call, at) return call.node[at + 1] or call.node end

-- What a table of values has by name: value and node; or false: it is not there; or nil: unknown.
local given_by = {}

function given_by.data(given, name)
  local schema = given.schema
  if not schema or schema.kind ~= "object" then return nil end
  local field = schema.fields[name]
  return field and { kind = "data", schema = field, path = given.path .. "." .. name } or false
end

function given_by.table(given, name)
  local cell = given.fields[name]
  if cell and cell.value.kind ~= "none" then return cell.value, cell.node end
  if given.open or given.meta then return nil end
  return false
end

function given_by.row(given, name)
  if not given.columns then return nil end
  local column = given.columns[name]
  return column and { kind = "column", type = column.type, path = "row." .. name } or false
end

local function known_of(given)
  return given.kind == "data" and given.schema.fields or given.columns or given.fields
end

local function missing(self, call, at, given, name)
  local known, what = known_of(given), given.kind == "data" and "the input" or
    given.kind == "row" and "the row" or "the table of values"
  local literal = given.kind == "table" and next(known) ~= nil
  self:report("error", "parameter", node_of(call, at),
    ("%s has no `%s`, which the statement takes as $%s"):format(what, name, name),
    access.advice(name, known, "it has: ")
      or literal and "for NULL write moonpool.null" or nil)
end

local function check_type(self, node, value, name, type)
  for _, member in ipairs(values.members(value)) do
    local fault, help = types.fault(member, type)
    if fault then
      self:report("error", "type", node, ("%s: %s"):format(name, fault), help)
      return
    end
  end
end

local function by_name(self, info, call, at)
  local given, node = call.arguments[at], node_of(call, at)
  if not given or given.kind == "none" then
    if call.arguments.open then return end
    self:report("error", "parameter", call.node,
      ("the statement has $%s, and no values are given"):format(info.parameters[1].name),
      "pass a table with the values by name, such as the input")
    return
  end
  for _, member in ipairs(values.members(given)) do
    local look = given_by[member.kind]
    if member.kind == "text" or member.kind == "number" then
      self:report("error", "parameter", node,
        ("the statement has $%s: its values come in a table"):format(info.parameters[1].name),
        ("write { %s = … }"):format(info.parameters[1].name))
      return
    end
    for _, parameter in ipairs(look and info.parameters or {}) do
      local value, at_node = look(member, parameter.name)
      if value == false then
        missing(self, call, at, member, parameter.name)
      elseif value then
        check_type(self, at_node or node, value, "$" .. parameter.name, parameter.type)
      end
    end
  end
end

local function by_place(self, info, call, at, most)
  local given = most - at + 1
  local first = call.arguments[at]
  if call.arguments.open then return end
  local whole = #info.parameters == 0 and given == 1
    and (first.kind == "table" or first.kind == "data" or first.kind == "unknown")
  if given ~= #info.parameters and not whole then
    self:report("error", "parameter", node_of(call, at),
      ("the statement has %d parameter%s, and %d %s given"):format(#info.parameters,
        #info.parameters == 1 and "" or "s", given, given == 1 and "value is" or "values are"))
    return
  end
  for i, parameter in ipairs(info.parameters) do
    check_type(self, node_of(call, at + i - 1), call.arguments[at + i - 1], "$" .. i,
               parameter.type)
  end
end

--- Judges the values of a statement. `at`: the argument behind the text.
function parameters.check(self, info, call, at, method)
  if info.named then return by_name(self, info, call, at) end
  local most = #call.arguments
  if method == "one" and #info.parameters == 0 then return end -- params and message
  by_place(self, info, call, at, most)
end

-- A text that is longer than varchar(n) is an error of the database, and none of the caller's.
local function check_length(self, node, value, column)
  local schema, most = value.schema, column.modifier - 4
  local long = schema and (schema.kind == "string" and (schema.max_value or 10000)
    or schema.kind == "email" and 254)
  if not types.has_length(column.type) or column.modifier < 4 or not long or long <= most then
    return
  end
  self:report("warning", "length", node,
    ("`%s` may have %d characters, and the column `%s` takes %d"):format(value.path, long,
      column.name, most), ("add :max(%d) to the input"):format(most))
end

local function check_absent(self, node, value, column, table_name)
  local schema = value.schema
  if not (column.not_null and not column.filled and schema) then return end
  if self.tests[value.path] then return end
  if not (schema.is_optional or schema.is_nullable) or schema.default_value ~= nil then return end
  self:report("warning", "insert", node,
    ("`%s` may be absent, and %s.%s is NOT NULL without a default"):format(value.path, table_name,
      column.name), "make it required in the input, or give it a :default(…)")
end

--- Judges the value of a column.
function parameters.column(self, node, value, column, table_name)
  check_type(self, node, value, column.name, column.type)
  if value.kind ~= "data" then return end
  check_length(self, node, value, column)
  check_absent(self, node, value, column, table_name)
end

return parameters
