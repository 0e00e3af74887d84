-- moonpool.check.definitions: whether the fields of an operation fit what the database has and what
-- `run` gives.
local access = require "moonpool.check.access"
local schema = require "moonpool.is.schema"
local values = require "moonpool.check.values"

local definitions = {}

-- The node of a key in a table of the script.
local function key_node(given, name)
  return given.keys and given.keys[name] or given.node
end

local function check_errors(self, op, given)
  local known = self.project.catalog.constraints
  local errors = given.fields.errors and given.fields.errors.value
  for name in pairs(op.errors or {}) do
    if not known[name] then
      local at = errors and errors.kind == "table" and errors or given
      self:add { severity = "error", rule = "constraint", file = at.file, node = key_node(at, name),
        message = ("no table has a constraint `%s`, so this error never happens"):format(name),
        help = access.advice(name, known) }
    end
  end
end

local function check_tenant(self, op, given, field)
  local input = op.input and schema.of(op.input).fields
  if op.tenant ~= nil or not (input and field and input[field]) then return end
  self:add { severity = "warning", rule = "tenant", file = given.file,
    node = key_node(given, "input"),
    message = ("the input has the tenant's field `%s`, but the operation has no `tenant`")
      :format(field),
    help = ("add tenant = %q; without it row level security shows no row, and any caller may name \z
      any tenant"):format(field) }
end

-- What a kind of schema cannot be.
local never = {
  array   = { row = "one row", text = "a text", number = "a number", boolean = "a boolean" },
  row     = { rows = "an array of rows", text = "a text", number = "a number",
              boolean = "a boolean" },
  object  = { rows = "an array of rows", text = "a text", number = "a number",
              boolean = "a boolean" },
  string  = { rows = "an array of rows", row = "a row", number = "a number", table = "a table",
              boolean = "a boolean" },
  integer = { rows = "an array of rows", row = "a row", text = "a text", table = "a table",
              boolean = "a boolean" },
  boolean = { rows = "an array of rows", row = "a row", text = "a text", table = "a table",
              number = "a number" },
}
never.uuid, never.number, never.decimal = never.string, never.integer, never.integer

local check_value

local function check_object(self, wanted, given, path)
  if not given.node or given.meta then return end
  for name in pairs(given.fields) do
    local part = type(name) == "string" and wanted.fields[name]
    if type(name) == "string" and not part then
      self:add { severity = "error", rule = "output", file = given.file,
        node = key_node(given, name), message = ("`output` has no field `%s%s`"):format(path, name),
        help = access.advice(name, wanted.fields, "it has: ") }
    elseif part then
      check_value(self, part, given.fields[name].value, key_node(given, name), given.file,
                  path .. name)
    end
  end
  for name, part in pairs(wanted.fields) do
    local cell = given.fields[name]
    local absent = not cell and not given.open or cell and cell.value.kind == "none"
    if absent and not part.is_optional and not part.is_nullable and part.default_value == nil then
      self:add { severity = "error", rule = "output", file = given.file, node = given.node,
        message = ("`output` needs `%s%s`, which is not in this result"):format(path, name),
        help = "give it, or make it :optional()" }
    end
  end
end

function check_value(self, wanted, value, node, file, path)
  local members = values.members(values.present(value))
  for _, member in ipairs(members) do
    local wrong = never[wanted.kind] and never[wanted.kind][member.kind]
    if wrong and not members[2] then
      self:add { severity = "error", rule = "output", file = file, node = node,
        message = ("`output` says that %s is is.%s, and this is %s"):format(
          path == "" and "the result" or "`" .. path .. "`", wanted.kind, wrong) }
    elseif wanted.kind == "object" and member.kind == "table" then
      check_object(self, wanted, member, path == "" and "" or path .. ".")
    end
  end
end

--- Judges the result of `run`: `results` of Walk:enter.
function definitions.check_result(self, op, given, results)
  local wanted = op.output and schema.of(op.output)
  if not wanted or results.open and not results[1] then return end
  local result = results[1] or values.none
  local node = key_node(given, "run")
  if result.kind == "none" and not wanted.is_optional and not wanted.is_nullable then
    self:add { severity = "error", rule = "output", file = given.file, node = node,
      message = "`run` gives nothing, and `output` says what it gives",
      help = "return the result, or remove `output`" }
    return
  end
  check_value(self, wanted, result, node, given.file, "")
end

--- Judges the input that a script gives another operation.
function definitions.check_input(self, op, given, node)
  local wanted = op.input and schema.of(op.input)
  if not (wanted and wanted.kind == "object") then return end
  for name in pairs(given.fields) do
    if type(name) == "string" and not wanted.fields[name] then
      self:report("error", "call", given.keys and given.keys[name] or node,
        ("the input of %s has no field `%s`"):format(op.name, name),
        access.advice(name, wanted.fields, "it has: "))
    end
  end
  for name, part in pairs(wanted.fields) do
    local cell = given.fields[name]
    if not given.open and not given.meta and name ~= op.tenant and not part.is_optional
      and part.default_value == nil and (not cell or cell.value.kind == "none") then
      self:report("error", "call", node, ("the input of %s needs `%s`"):format(op.name, name))
    end
  end
end

-- The tables and columns that rows of a schema are said to have: is.row:of("orders", "id").
local function check_rows(self, of, node, file)
  local known, near = nil, nil
  if of.table then known, near = self.project.catalog:table(of.table) end
  if of.table and not known then
    self:add { severity = "error", rule = "output", file = file, node = node,
      message = ("there is no table `%s`"):format(of.table),
      help = near and ("did you mean `%s`?"):format(near) or nil }
  end
  for _, name in ipairs(known and of.columns or {}) do
    if not known.columns[name] then
      self:add { severity = "error", rule = "output", file = file, node = node,
        message = ("table `%s` has no column `%s`"):format(of.table, name),
        help = access.advice(name, known.columns) }
    end
  end
  for _, part in pairs(of.fields or of.choices or { of.item }) do
    check_rows(self, part, node, file)
  end
end

--- Judges a definition. `given`: the table of the script; `field`: the application's tenant field.
function definitions.check(self, op, given, field)
  check_errors(self, op, given)
  check_tenant(self, op, given, field)
  if op.output then
    check_rows(self, schema.of(op.output), key_node(given, "output"), given.file)
  end
end

return definitions
