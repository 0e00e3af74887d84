-- moonpool.is.schema: what all schemas share: their methods, a run over one value, and the error.
--
-- The behaviour of a schema is in its definition: { kind, convert = function(self, value, run) ->
-- copy, allows = set of the methods that this kind has, … }. convert must report by
-- run:fail(message) and must not raise, so that one run finds all failures. A run keeps the path as
-- a stack of steps and makes a text of it only for a failure. Scripts hold sealed definitions. A
-- definition contains other definitions unsealed.
local deep_copy = require "moonpool.is.copy"
local json = require "moonpool.json"
local sealed = require "moonpool.script.sealed"

local null = json.null
local methods = {}
local seal, open = sealed("moonpool.is schema", methods, function(self)
  return "is." .. self.kind
end)

local Run = {}
Run.__index = Run

-- The host's error object; without a host (plain Lua, unit specs) a plain table of the same shape.
local has_errors, errors = pcall(require, "moonpool.errors")
local plain = { __tostring = function(e) return e.code .. ": " .. e.message end }
local function new_error(e)
  return has_errors and errors.new(e) or setmetatable(e, plain)
end

local function derive(self, changes)
  local copy = {}
  for k, v in next, self do copy[k] = v end
  for k, v in next, changes do copy[k] = v end
  return seal(copy)
end

-- -- runs -----------------------------------------------------------------------------------------

-- border: names are camelCase and positions count from 0, as in the JSON of the caller.
local function new_run(border, prefix)
  return setmetatable({ depth = 0, border = border or false, prefix = prefix }, Run)
end

function Run:path(last)
  local text = self.prefix or ""
  local function add(step)
    if math.type(step) == "integer" then
      text = ("%s[%d]"):format(text, self.border and step - 1 or step)
    else
      text = text == "" and step or text .. "." .. step
    end
  end
  for i = 1, self.depth do add(self[i]) end
  if last then add(last) end
  return text
end

function Run:fail(message)
  local path = self:path()
  self:report(path, message, path == "" and message or path .. ": " .. message)
end

local MOST_FAILURES = 100 -- reported for a value

--- Has the run as many failures as are reported? Then the caller may stop.
function Run:full() return self.failures and #self.failures >= MOST_FAILURES end

function Run:report(path, message, line)
  local failures = self.failures or {}
  self.failures = failures -- most runs have none
  if not self:full() then
    failures[#failures + 1] = { path = path, message = message, line = line }
  end
end

-- Visits a child, one step deeper. Returns its copy.
function Run:child(step, schema, value)
  local depth = self.depth + 1
  if depth > 64 then
    self:fail("is nested deeper than 64 levels")
    return nil
  end
  self.depth, self[depth] = depth, step
  local copy
  if value == nil or value == null then
    copy = self:visit(schema, value)
  else -- most values: without a further call
    copy = schema.convert(schema, value, self)
  end
  self.depth = depth - 1
  return copy
end

function Run:visit(schema, value)
  if self.of_result then -- NULL and a field that is not there are one
    if value == null and schema.kind ~= "one_of" then value = nil end
    if value == nil and schema.is_nullable then return nil end
  end
  if value == nil then
    if schema.default_value ~= nil then return deep_copy(schema.default_value) end
    if not schema.is_optional then self:fail("is required") end
    return nil
  end
  if value == null and not schema.takes_null then
    if schema.is_nullable then return null end
    self:fail("must not be null")
    return nil
  end
  return schema.convert(schema, value, self)
end

function Run:finish(copy)
  local failures = self.failures
  if not failures then return copy end
  local lines, fields = {}, {}
  for i, f in ipairs(failures) do
    if i <= 3 then lines[i] = f.line end
    fields[i] = { path = f.path, message = f.message }
  end
  local message = table.concat(lines, "; ")
  if #failures > 3 then message = ("%s (and %d more)"):format(message, #failures - 3) end
  error(new_error { code = "VALIDATION_ERROR", status = 400, message = message, fields = fields },
        0)
end

-- -- methods --------------------------------------------------------------------------------------

-- Returns the definition that a method was called on; raises if `object` is not a schema. `limits`:
-- only some kinds have the method; raises for the others.
local function of(object, method, limits)
  local self = open(object)
  if not self then error(("%s: call it with a colon, on a schema"):format(method), 3) end
  if limits and not self.allows[method] then
    error(("is.%s has no :%s()"):format(self.kind, method), 3)
  end
  return self
end

-- Returns a converted copy of a value with names as in scripts (snake_case). Raises
-- VALIDATION_ERROR.
function methods.check(object, value, path)
  local run = new_run(false, path)
  return run:finish(run:visit(of(object, "check"), value))
end

-- The same for a value from the border: decoded JSON with decimals and names in camelCase.
function methods.from_json(object, value, path)
  local run = new_run(true, path)
  return run:finish(run:visit(of(object, "from_json"), value))
end

-- Returns a JSON Schema (2020-12) of the values that from_json accepts. It is marked raw, so that
-- its names are written unchanged.
function methods.json_schema(object)
  return require("moonpool.is.document").of(of(object, "json_schema"))
end

function methods.optional(object) return derive(of(object, "optional"), { is_optional = true }) end

-- null is accepted and becomes is.null, which differs from an absent value.
function methods.nullable(object) return derive(of(object, "nullable"), { is_nullable = true }) end

-- The value to use if the value is absent. It is checked when the schema is made.
function methods.default(object, value)
  local self = of(object, "default")
  if value == nil then error("default(nil): use :optional()", 2) end
  local run = new_run(false)
  local copy = run:visit(self, value)
  if run.failures then error("the default itself " .. run.failures[1].line, 2) end
  return derive(self, { default_value = copy })
end

local function check_count(n)
  if math.type(n) ~= "integer" or n < 0 then
    error("expected a whole number that is not negative", 3)
  end
  return n
end

-- The smallest length of a string (in characters), array or map, or the smallest number.
function methods.min(object, n)
  local self = of(object, "min", true)
  return derive(self, { min_value = (self.bound or check_count)(n) })
end

function methods.max(object, n)
  local self = of(object, "max", true)
  return derive(self, { max_value = (self.bound or check_count)(n) })
end

-- A Lua pattern. `what` completes the message "must look like ...".
function methods.pattern(object, pattern, what)
  local self = of(object, "pattern", true)
  string.find("", pattern) -- a malformed pattern raises here, not in the first call
  return derive(self, { lua_pattern = pattern, pattern_text = what })
end

-- scale: the most digits after the point; trailing zeros do not count. precision: the most digits
-- in total, as 12 in numeric(12, 2).
function methods.scale(object, digits)
  return derive(of(object, "scale", true), { max_scale = check_count(digits) })
end

function methods.precision(object, digits)
  return derive(of(object, "precision", true), { max_precision = check_count(digits) })
end

-- Exactly one of these fields must be present. The last argument may be the message.
function methods.exactly_one(object, ...)
  local self = of(object, "exactly_one", true)
  local names, message = { ... }, nil
  if #names > 0 and not self.fields[names[#names]] then message = table.remove(names) end
  for _, name in ipairs(names) do
    local field = self.fields[name]
    if not field then error(("exactly_one: no field %q"):format(tostring(name)), 2) end
    if not field.is_optional then
      error(("exactly_one: field %q must be optional"):format(name), 2)
    end
  end
  if #names < 2 then error("exactly_one: two or more field names are needed", 2) end
  local rules = { table.unpack(self.rules) }
  rules[#rules + 1] = { names = names, message = message }
  return derive(self, { rules = rules })
end

-- is.row only: the table whose row it is, and its columns if it does not have all. /openapi.json
-- takes their types from the database.
function methods.of(object, name, ...)
  local self, columns = of(object, "of", true), { ... }
  if type(name) ~= "string" then
    error("of: expected the name of a table: is.row:of \"orders\"", 2)
  end
  for _, column in ipairs(columns) do
    if type(column) ~= "string" then error("of: columns are named by texts", 2) end
  end
  return derive(self, { table = name, columns = columns[1] and json.array(columns) })
end

function methods.describe(object, text)
  return derive(of(object, "describe"), { description = text })
end

local function new(kind, definition)
  definition.kind = kind
  definition.allows = definition.allows or {}
  return seal(definition)
end

--- Is `value` a schema?
local function is_schema(value) return open(value) ~= nil end

-- Does the definition accept this value?
local function fits(definition, value)
  local run = new_run(false)
  run:visit(definition, value)
  return not run.failures
end

--- What is wrong with a result of an operation, as JSON has it (decoded; names as at the border);
--- nil if it fits.
local function result_fault(definition, value)
  local run = new_run(true)
  run.of_result = true
  run:visit(definition, value)
  local first = run.failures and run.failures[1]
  return first and (first.line:find(":", 1, true) and first.line or "it " .. first.line) or nil
end

-- of: returns the definition of a schema, and nil for any other value.
return { new = new, fits = fits, result_fault = result_fault, is = is_schema, of = open,
         null = null }
