-- moonpool.operation.call: what an operation is, and what happens to a call before and after its transaction.
local due     = require "moonpool.operation.due"
local errors  = require "moonpool.errors"
local failures = require "moonpool.operation.failures"
local host    = require "moonpool.host"
local is      = require "moonpool.is"
local json    = require "moonpool.json"
local nearest = require "moonpool.is.nearest"
local own_errors = require "moonpool.operation.own_errors"
local schema  = require "moonpool.is.schema"
local sealed  = require "moonpool.script.sealed"
local sql     = require "moonpool.sql"
local spelling = require "moonpool.is.spelling"
local unwritable = require "moonpool.operation.border".unwritable

local operation = {}

-- What scripts hold is sealed: they read its simple fields. The host works with the definition.
local seal, open = sealed("moonpool.operation", function(op, name)
  local value = op[name]
  return type(value) ~= "table" and value or nil
end)

local defaults = { isolation = "read committed", timeout = 30, retries = 3, witness = true, group_ms = 50 }

-- field -> what it must be: a Lua type, or a function that tells what is wrong.
local function is_schema(value) return not is.schema(value) and "must be a schema of moonpool.is" or nil end

local function is_seconds(value)
  return not (type(value) == "number" and value > 0 and value <= 86400) and "must be a number of seconds" or nil
end

local fields = {
  summary    = "string",
  input      = is_schema,
  output     = is_schema,
  tenant     = function(value)
    return not (type(value) == "string" and value:find "^[%a_][%w_]*$" and #value < 60)
      and "must be the name of an input field" or nil
  end,
  actor      = "string",
  isolation  = function(value)
    local known = { ["read committed"] = true, ["repeatable read"] = true, ["serializable"] = true }
    return not known[value] and "must be \"read committed\", \"repeatable read\" or \"serializable\"" or nil
  end,
  read_only  = "boolean",
  deferrable = "boolean",
  witness    = "boolean",
  cpu        = is_seconds,
  memory     = function(value)
    return not (math.type(value) == "integer" and value >= 1 and value <= 65536) and "must be a number of MiB" or nil
  end,
  timeout    = is_seconds,
  statement_timeout = is_seconds,
  lock_timeout      = is_seconds,
  retries    = function(value)
    return not (math.type(value) == "integer" and value >= 0 and value <= 100) and "must be an integer from 0 to 100"
      or nil
  end,
  lane       = "string",
  group      = function(value)
    return not (math.type(value) == "integer" and value >= 1 and value <= 64) and "must be an integer from 1 to 64"
      or nil
  end,
  groups     = function(value)
    return not (math.type(value) == "integer" and value >= 1 and value <= 256) and "must be an integer from 1 to 256"
      or nil
  end,
  group_ms   = function(value)
    return not (math.type(value) == "integer" and value >= 1 and value <= 10000)
      and "must be a whole number of milliseconds, from 1 to 10000" or nil
  end,
  every      = function(value)
    local _, fault = due.parse(value)
    return fault
  end,
  for_each   = function(value)          -- of a schedule: a query that gives its tenants
    local ok, kind = pcall(sql.kind, value)
    return not (ok and kind == "SelectStmt") and "must be one SELECT that gives a tenant in each row" or nil
  end,
  internal   = "boolean",               -- true: not to be called over HTTP
  http       = "boolean",               -- of a schedule: it may be called, too
  on         = function(value)          -- a subscriber: the topic
    return not (type(value) == "string" and #value > 0 and #value <= 200) and "must be a topic, text of 1 to 200 bytes" or nil
  end,
  from       = function(value)          -- of a subscriber that is not known yet: where it begins
    return value ~= "now" and value ~= "oldest" and "must be \"now\" or \"oldest\"" or nil
  end,
  renamed_from = "string",              -- of a subscriber: whose place it takes
  deliveries = function(value)          -- of a subscriber: how often a message is tried
    return not (math.type(value) == "integer" and value >= 1 and value <= 1000) and "must be an integer from 1 to 1000" or nil
  end,
  concurrency = function(value)         -- of a subscriber: how many keys at a time; of a schedule: how many tenants
    return not (math.type(value) == "integer" and value >= 1 and value <= 100) and "must be an integer from 1 to 100" or nil
  end,
  errors     = "table",
  run        = "function",
}

local pieces_of = setmetatable({}, { __mode = "k" }) -- of each operation's lane
local limited   = setmetatable({}, { __mode = "k" }) -- operations of scripts/, whose code is not trusted

-- From now on calls of the operation have a CPU budget and a memory limit.
function operation.limit(op) limited[op] = true end

local levels = { ["read committed"] = 1, ["repeatable read"] = 2, ["serializable"] = 3 }

-- "invoice_number:$company_id" as its pieces: texts at odd places, names of input fields at even ones.
local function lane_pieces(lane)
  local pieces, from = {}, 1
  for at, name, behind in lane:gmatch "()%$([%a_][%w_]*)()" do
    pieces[#pieces + 1] = lane:sub(from, at - 1)
    pieces[#pieces + 1] = name
    from = behind
  end
  pieces[#pieces + 1] = lane:sub(from)
  return pieces
end

-- `field` tells the registry where to look: `return moonpool.operation {…}` is a tail call, which has no line.
local function refuse(field, message, ...)
  error(errors.new { code = "SCRIPT_ERROR", status = 500, field = field,
    message = ("moonpool.operation: " .. message):format(...) }, 0)
end

local function check_group(op)
  if op.groups and not op.group then
    refuse("groups", "`groups` needs `group`: how many calls may share a transaction")
  end
  if op.groups and (op.isolation or "read committed") ~= "read committed" then
    refuse("groups", "`groups` needs read committed: with %s a snapshot must not be taken before the lane is free",
      op.isolation)
  end
  if op.group and not (op.lane or op.groups) then
    refuse("group", "`group` needs a `lane`, or `groups`: calls that wait there share a transaction")
  end
end

local function check_subscriber(op)
  for _, name in ipairs { "from", "renamed_from", "deliveries" } do
    if op[name] ~= nil and not op.on then refuse(name, "`%s` is for subscribers (on = \"topic\")", name) end
  end
end

local function check_errors(op)
  local constraint, fault = own_errors.fault(op.errors or {}, op.input)
  if fault then refuse(constraint or "errors", "errors%s: %s", constraint and "." .. constraint or "", fault) end
end

-- What runs by itself is nobody's to call, unless it says so.
local function settle_internal(op)
  if op.http ~= nil and not op.every then refuse("http", "`http` is for operations with `every`") end
  if op.http and op.internal then refuse("http", "`http` and `internal` contradict each other") end
  if op.internal == nil then op.internal = not op.http and (op.every or op.on) ~= nil end
end

local function copy_of(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for name, item in next, value do copy[name] = copy_of(item) end
  return setmetatable(copy, getmetatable(value))
end

-- operation { summary=, input=, run=, … } -> the operation that a file of scripts/ returns.
function operation.define(definition)
  if type(definition) ~= "table" then refuse(nil, "expected a table") end
  local op = {}
  for name, value in pairs(definition) do
    local rule = fields[name]
    if not rule then
      local near = nearest(tostring(name), fields)
      refuse(name, "there is no field `%s`%s", tostring(name), near and ("; did you mean `%s`?"):format(near) or "")
    end
    local fault = type(rule) == "function" and rule(value)
    if type(rule) == "string" and type(value) ~= rule then fault = ("must be a %s, not a %s"):format(rule, type(value)) end
    if fault then refuse(name, "%s %s", name, fault) end
    op[name] = name == "errors" and copy_of(value) or value
  end
  if not op.run then refuse(nil, "`run` is missing: run = function(tx, input) … end") end
  check_group(op)
  check_subscriber(op)
  check_errors(op)
  settle_internal(op)
  if op.deferrable and not (op.read_only and op.isolation == "serializable") then
    refuse("deferrable", "`deferrable` needs isolation = \"serializable\" and read_only = true")
  end
  for name, value in pairs(defaults) do
    if op[name] == nil then op[name] = value end
  end
  op.name = "operation"
  pieces_of[op] = op.lane and lane_pieces(op.lane)
  op.grouping = op.groups and host.groups(op.groups)
  return seal(op)
end

--- The definition of an operation, nil of anything else.
operation.of = open

-- Is the input content with nothing but the tenant, whatever that looks like?
local function takes_nothing(op)
  if not op.input or pcall(op.input.check, op.input, {}) then return true end
  for _, tenant in ipairs { "00000000-0000-7000-8000-000000000000", 1, "1" } do
    if op.tenant and pcall(op.input.check, op.input, { [op.tenant] = tenant }) then return true end
  end
  return false
end

-- Nobody calls a scheduled operation: it has no input, and no tenant but those that it names itself.
local function check_schedule(op)
  if op.tenant and not op.for_each then
    refuse("every", "every: who calls a scheduled operation? It has no tenant; for_each = \"select id from …\" runs it for "
      .. "each, or leave `tenant` out")
  end
  if op.for_each and not op.tenant then refuse("for_each", "`for_each` needs `tenant`: each run is of one") end
  if not takes_nothing(op) then
    refuse("every", "every: a scheduled operation is given {}; its input needs defaults, or optional fields")
  end
end

-- Raises if it names a field that the input has not, or cannot run on its schedule.
function operation.check_whole(op)
  if op.for_each and not op.every then refuse("for_each", "`for_each` is for operations with `every`") end
  if op.every then check_schedule(op) end
  local input = op.input and schema.of(op.input).fields
  if not input then return end
  local function check_name(field, name)
    if name == nil or input[name] then return end
    local near = nearest(name, input)
    refuse(field, "%s names `%s`, which the input has not%s", field, name,
      near and ("; did you mean `%s`?"):format(near) or "")
  end
  check_name("tenant", op.tenant)
  check_name("actor", op.actor)
  local pieces = pieces_of[op] or {}
  for i = 2, #pieces, 2 do check_name("lane", pieces[i]) end
end

-- The lane with the input's values.
local function lane_of(op, input)
  local pieces = pieces_of[op]
  if not pieces then return nil end
  local lane = pieces[1]
  for i = 2, #pieces, 2 do
    local value = input[pieces[i]]
    if value == nil then
      error(errors.new { code = "SCRIPT_ERROR", status = 500, operation = op.name,
        message = ("the lane %q of %s names `%s`, which the input has not"):format(op.lane, op.name, pieces[i]) }, 0)
    end
    lane = lane .. tostring(value) .. pieces[i + 1]
  end
  return lane
end

-- A fresh, checked copy of the input.
local function check(op, input, options)
  if not op.input then return copy_of(input) end
  if options.border then return op.input:from_json(input) end
  return op.input:check(input)
end

-- A tenant is a text where callers have it; an input may want a number.
local function as_input(op, tenant)
  local field = op.input and schema.of(op.input).fields
  field = field and field[op.tenant]
  return field and field.kind == "integer" and math.tointeger(tonumber(tenant)) or tenant
end

-- The tenant of a call: the caller's, which an input that leaves it out is given.
local function with_tenant(op, input, options)
  local own, field = options.tenant, op.tenant
  if not (own and field) or (type(input) ~= "table" and input ~= nil) then return input end
  local spelled = options.border and json.camel(field) or field
  if input and input[spelled] ~= nil then return input end
  local copy = {}
  for name, value in next, input or copy do copy[name] = value end
  copy[spelled] = as_input(op, own)
  return copy
end

-- The tenant that the checked input names; it may repeat the caller's but not be another.
local function tenant_of(op, checked, options)
  if not op.tenant then return nil end
  local named = type(checked) == "table" and checked[op.tenant]
  if named == nil or named == false then
    error(errors.new { code = "VALIDATION_ERROR", status = 400, operation = op.name,
      message = ("%s needs its tenant: `%s` in the input, or the caller's"):format(op.name, op.tenant) }, 0)
  end
  named = tostring(named)
  if options.tenant and named:lower() ~= options.tenant:lower() then
    error(errors.new { code = "MULTI_TENANT_VIOLATION", status = 403, operation = op.name,
      message = ("the caller belongs to another tenant than the one that the input's %s names"):format(
        options.border and json.camel(op.tenant) or op.tenant) }, 0)
  end
  return named
end

-- The options of a call from what another call has started (a hook, a task): its tenant and its caller are those of that call.
local function in_scope(op, options)
  local scoped, tenant, caller = host.call_scope()
  if not scoped then return options end
  if tenant and options.tenant and options.tenant:lower() ~= tenant:lower() then
    error(errors.new { code = "MULTI_TENANT_VIOLATION", status = 403, operation = op.name,
      message = op.name .. " was called for another tenant than that of the call which started this code" }, 0)
  end
  if not (tenant or caller) then return options end
  local own = {}
  for name, value in next, options do own[name] = value end
  own.tenant = tenant
  if caller then own.as, own.scopes = caller.user_id, caller.scopes end
  return own
end

-- Joins the transaction that runs already, as a savepoint: a second connection inside a transaction is how a pool
-- of N locks itself up with N callers. What the operation says of its isolation, the transaction must keep already; that
-- it only reads is kept for the savepoint. Its timeouts, retries, lane and key are the transaction's.
local function join(tx, op, input, tenant)
  if tenant and tenant ~= tx.tenant then
    error(errors.new { code = "MULTI_TENANT_VIOLATION", status = 403, operation = op.name,
      message = op.name .. " was called for another tenant than the transaction's" .. (tx.tenant and "" or
        ", which has none: an operation with `tenant` and for_each = \"select …\" runs by itself for each, and a hook " ..
        "(tx:after_commit) of an operation without tenant may call for any") }, 0)
  end
  if levels[op.isolation] > levels[tx.isolation] then
    error(errors.new { code = "INVALID_ARGUMENT", status = 500, operation = op.name,
      message = ("%s needs isolation %s; the transaction that calls it has %s"):format(op.name, op.isolation,
        tx.isolation) }, 0)
  end
  local ok, result = pcall(tx.savepoint, tx, function(inner) return op.run(inner, input) end, { read_only = op.read_only })
  if ok then return result end
  if errors.is(result) and op.errors then host.own_error(result, op.errors, input) end
  error(result, 0)
end

local function timeout_of(op, options)
  local timeout = options.timeout or op.timeout
  if type(timeout) ~= "number" or not (timeout > 0 and timeout <= 86400) then
    error("moonpool.call: timeout is a number of seconds, up to 86400", 6)
  end
  if not options.border then return timeout end
  -- Who asks may have less, not more; and has waited while the host found out who asks.
  return math.max(math.min(timeout, op.timeout) - (options.waited or 0), 0.001)
end

-- Hands a message to a subscriber, as a call that runs before(tx) first. The subscriber's `input` describes the payload.
function operation.deliver(op, message, before)
  local delivery = {}
  for name, value in next, op do delivery[name] = value end
  delivery.on, delivery.input = nil, nil
  function delivery.run(tx, input)
    before(tx)
    if op.input then input.payload = op.input:check(input.payload) end
    return op.run(tx, input)
  end
  pieces_of[delivery], limited[delivery] = pieces_of[op], limited[op]
  return operation.call(delivery, message, { tenant = op.tenant and message.tenant })
end

-- At the border names become camelCase; those that are data, as `output` says, do not.
local function spelled(op, result, border)
  return border and op.output and spelling.mark(op.output, result) or result
end

-- What the host needs to know of a call's idempotency key; nil without one.
local function key_of(op, raw, options)
  local key = options.key
  if key == nil then return nil end
  if type(key) ~= "string" or key == "" or #key > 255 then
    error(errors.new { code = "VALIDATION_ERROR", status = 400, operation = op.name,
      message = "the idempotency key is a text of 1 to 255 bytes" }, 0)
  end
  if op.read_only then return nil end -- nothing to do twice
  local border = options.border or false
  return {
    key    = (border and "border " or "lua ") .. key,
    input  = op.name .. " " .. json.encode(raw == nil and json.null or raw, { sorted = true }),
    encode = function(result)
      local ok, text = pcall(json.encode, result == nil and json.null or spelled(op, result, border),
        { sorted = true, camel = border, decimal_strings = border })
      if ok then return text end
      if errors.is(text) then error(text, 0) end -- of a row that is looked at here for the first time
      error(unwritable(op.name, text, { undone = true }), 0)
    end,
  }
end

-- A kept result is JSON: at the border it is the answer as it stands.
local function recalled(text, options)
  if options.answer_text then return host.json_text(text) end
  local result = json.decode(text, { decimals = true, own = true, max_bytes = #text, raw = options.border })
  if result == json.null then return nil end
  return result
end

-- What a caller is told whose work is stored under its key, but whose answer cannot be given.
local function lost_answer(op, fault, short)
  if tostring(fault):find("memory", 1, true) then return short end
  local ok, told = pcall(unwritable, op.name, fault)
  return ok and told or short
end

--- Raises for an operation that is not to be called from outside.
function operation.check_outside(op)
  if not op.internal or op.on then return end -- a subscriber is refused to everybody
  error(errors.new { code = "NOT_CALLABLE", status = 404, operation = op.name,
    message = op.name .. " is internal: other operations call it, or it runs by itself" }, 0)
end

-- -> result, and if wanted: info, what it took
local function call(op, input, options, want_info)
  options = in_scope(op, options)
  if op.on then
    error(errors.new { code = "NOT_CALLABLE", status = 404, operation = op.name,
      message = ("%s is a subscriber: it is run by what is published to %s"):format(op.name, op.on) }, 0)
  end
  local raw = with_tenant(op, input, options)
  local checked = check(op, raw, options)
  local tenant = tenant_of(op, checked, options)
  local tx = host.current_tx()
  if tx then return join(tx, op, checked, tenant), {} end
  local again  = function(fresh) return op.run(fresh, check(op, raw, options)) end
  local caller = (options.as or options.tenant) and { user_id = options.as, tenant = options.tenant,
    scopes = options.scopes }
  local key    = key_of(op, raw, options)
  -- Made before: afterwards there may be no memory for it.
  local again_told = op.name .. " is done and stored, but there was no memory for its answer; the same key gives it once more"
  local short  = key and errors.new { code = "RESULT_UNWRITABLE", status = 500, operation = op.name,
    message = again_told, told = again_told }
  local result, info = host.transact(op, checked, again, lane_of(op, checked), tenant, caller or nil,
    timeout_of(op, options), key, want_info, limited[op], options.origin)
  if key then
    local ok, answer = pcall(recalled, result, options)
    if not ok then error(lost_answer(op, answer, short), 0) end
    result = answer
  else
    local ok, shown = pcall(spelled, op, result, options.border)
    if not ok then error(unwritable(op.name, shown), 0) end
    result = shown
  end
  return result, info
end

-- The same; a failure is counted and told, unless it is one inside of another call, which will tell it.
function operation.call(op, input, options, want_info)
  options = options or {}
  if host.current_tx() then return call(op, input, options, want_info) end
  local ok, result, info = pcall(call, op, input, options, want_info)
  if ok then return result, info end
  pcall(failures.tell, op.name, result, input, options.origin, options.shown) -- there may be no memory for it
  error(result, 0)
end

return operation
