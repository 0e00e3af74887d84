-- moonpool.operation.definition: checks the definition of an operation. Scripts get the definition
-- as a sealed object.
local deep_copy  = require "moonpool.is.copy"
local errors     = require "moonpool.errors"
local fields     = require "moonpool.operation.fields"
local host       = require "moonpool.host"
local lanes      = require "moonpool.operation.lanes"
local nearest    = require "moonpool.is.nearest"
local own_errors = require "moonpool.operation.own_errors"
local schema     = require "moonpool.is.schema"
local sealed     = require "moonpool.script.sealed"

local definition = {}

-- Scripts can read an operation's name and its simple fields. The host uses the content of the
-- seal, which also has: lanes, grouping (host.groups), limited (its code is not trusted).
local seal, open = sealed("moonpool.operation", function(op, name)
  local value = (fields.named[name] or name == "name") and op[name]
  return type(value) ~= "table" and value or nil
end)

-- From now on calls of the operation have a CPU budget and a memory limit.
function definition.limit(op) op.limited = true end

-- Raises SCRIPT_ERROR. The registry finds the line by `field`: `return moonpool.operation {…}` is a
-- tail call, of which Lua knows no line.
local function refuse(field, message, ...)
  error(errors.new { code = "SCRIPT_ERROR", status = 500, field = field,
    message = ("moonpool.operation: " .. message):format(...) }, 0)
end

local function check_group(op)
  if op.groups and not op.group then
    refuse("groups", "`groups` needs `group`: how many calls may share a transaction")
  end
  if op.groups and (op.isolation or "read committed") ~= "read committed" then
    refuse("groups", "`groups` needs read committed: with %s a snapshot must not be taken before \z
      the lane is free", op.isolation)
  end
  if op.group and not op.groups and type(op.lane) == "table" and #op.lane > 1 then
    refuse("group", "`group` is for calls of one lane; with several lanes it needs `groups`")
  end
  if op.group and not (op.lane or op.groups) then
    refuse(
      "group", "`group` needs a `lane`, or `groups`: calls that wait there share a transaction")
  end
end

local function check_subscriber(op)
  for _, name in ipairs { "from", "renamed_from", "deliveries" } do
    if op[name] ~= nil and not op.on then
      refuse(name, "`%s` is for subscribers (on = \"topic\")", name)
    end
  end
end

local function check_errors(op)
  local constraint, fault = own_errors.fault(op.errors or {}, op.input)
  if fault then
    refuse(constraint or "errors", "errors%s: %s", constraint and "." .. constraint or "", fault)
  end
end

-- Sets `internal`: HTTP clients cannot call an operation with `every` or `on`, unless its
-- definition has `http` (or `internal = false`).
local function settle_internal(op)
  if op.http ~= nil and not op.every then
    refuse("http", "`http` is for operations with `every`")
  end
  if op.http and op.internal then refuse("http", "`http` and `internal` contradict each other") end
  if op.internal == nil then op.internal = not op.http and (op.every or op.on) ~= nil end
end

local function checked_field(name, value)
  local field = fields.named[name]
  if not field then
    local near = nearest(tostring(name), fields.named)
    refuse(name, "there is no field `%s`%s", tostring(name),
      near and ("; did you mean `%s`?"):format(near) or "")
  end
  local fault = field.fault(value)
  if fault then refuse(name, "%s %s", name, fault) end
  return (name == "errors" or name == "lane") and deep_copy(value) or value
end

-- operation { summary=, input=, run=, … } -> the operation that a file of scripts/ returns.
function definition.define(given)
  if type(given) ~= "table" then refuse(nil, "expected a table") end
  local op = {}
  for name, value in pairs(given) do op[name] = checked_field(name, value) end
  if not op.run then refuse(nil, "`run` is missing: run = function(tx, input) … end") end
  check_group(op)
  check_subscriber(op)
  check_errors(op)
  settle_internal(op)
  if op.deferrable and not (op.read_only and op.isolation == "serializable") then
    refuse("deferrable", "`deferrable` needs isolation = \"serializable\" and read_only = true")
  end
  for _, field in ipairs(fields.list) do
    if op[field.name] == nil then op[field.name] = field.default end
  end
  op.name = "operation"
  op.lanes = lanes.made(op.lane)
  op.grouping = op.groups and host.groups(op.groups)
  return seal(op)
end

--- The content of a sealed operation; nil for any other value.
definition.of = open

-- True if the input's schema accepts an empty table, or one with only the tenant (a UUID, an
-- integer or a text).
local function takes_nothing(op)
  if not op.input or pcall(op.input.check, op.input, {}) then return true end
  for _, tenant in ipairs { "00000000-0000-7000-8000-000000000000", 1, "1" } do
    if op.tenant and pcall(op.input.check, op.input, { [op.tenant] = tenant }) then return true end
  end
  return false
end

-- A schedule calls the operation without input; a tenant it has only from `for_each`.
local function check_schedule(op)
  if op.tenant and not op.for_each then
    refuse("every", "every: a schedule calls the operation, so there is no caller whose tenant it \z
      could have; for_each = \"select id from …\" runs it once for each tenant, or leave \z
      `tenant` out")
  end
  if op.for_each and not op.tenant then
    refuse("for_each", "`for_each` needs `tenant`: each run is of one tenant")
  end
  if not takes_nothing(op) then
    refuse("every", "every: the input of a scheduled operation is {}: its fields need \z
      defaults, or must be optional")
  end
end

-- Raises if the definition names a field that its input does not have, or if the operation cannot
-- run on its schedule.
function definition.check_whole(op)
  if op.for_each and not op.every then
    refuse("for_each", "`for_each` is for operations with `every`")
  end
  if op.every then check_schedule(op) end
  local input = op.input and schema.of(op.input).fields
  if not input then return end
  local function check_name(field, name)
    if not name or input[name] then return end
    local near = nearest(name, input)
    refuse(field, "%s names `%s`, which is not a field of the input%s", field, name,
      near and ("; did you mean `%s`?"):format(near) or "")
  end
  check_name("tenant", op.tenant)
  check_name("actor", op.actor)
  lanes.each_field(op.lanes, function(name) check_name("lane", name) end)
end

return definition
