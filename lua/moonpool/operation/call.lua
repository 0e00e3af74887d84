-- moonpool.operation.call: what happens to a call of an operation before and after its transaction:
-- its tenant, its idempotency key, its lane. A call inside a transaction joins that transaction.
local border      = require "moonpool.operation.border"
local deep_copy   = require "moonpool.is.copy"
local errors      = require "moonpool.errors"
local failures    = require "moonpool.operation.failures"
local host        = require "moonpool.host"
local json        = require "moonpool.json"
local lanes       = require "moonpool.operation.lanes"
local output      = require "moonpool.operation.output"
local round_trips = require "moonpool.operation.round_trips"
local schema      = require "moonpool.is.schema"
local spelling    = require "moonpool.is.spelling"

local operation = {}

--- What operation.call returns, with the owner's number, for a call that was not begun because its
--- lane belongs to another worker of the host.
operation.moved = {}

local levels = { ["read committed"] = 1, ["repeatable read"] = 2, ["serializable"] = 3 }

-- A fresh, checked copy of the input.
local function check(op, input, options)
  if not op.input then return deep_copy(input) end
  if options.border then return op.input:from_json(input) end
  return op.input:check(input)
end

-- The caller's tenant is a text. It is converted to an integer if the input's field is an integer.
local function as_input(op, tenant)
  local field = op.input and schema.of(op.input).fields
  field = field and field[op.tenant]
  return field and field.kind == "integer" and math.tointeger(tonumber(tenant)) or tenant
end

-- The input with its tenant: if the input does not name one, a copy with the caller's tenant.
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

-- The tenant that the checked input names. If the caller has a tenant, the two must be equal.
local function tenant_of(op, checked, options)
  if not op.tenant then return nil end
  local named = type(checked) == "table" and checked[op.tenant]
  if named == nil or named == false then
    error(errors.new { code = "VALIDATION_ERROR", status = 400, operation = op.name,
      message = ("%s needs its tenant: `%s` in the input, or the caller's")
        :format(op.name, op.tenant) }, 0)
  end
  named = tostring(named)
  if options.tenant and named:lower() ~= options.tenant:lower() then
    error(errors.new { code = "MULTI_TENANT_VIOLATION", status = 403, operation = op.name,
      message = ("the caller belongs to another tenant than the one that the input's %s names")
        :format(options.border and json.camel(op.tenant) or op.tenant) }, 0)
  end
  return named
end

-- The options of a call that a hook or a task of another call makes: tenant and caller are those of
-- the other call.
local function in_scope(op, options)
  local scoped, tenant, caller = host.call_scope()
  if not scoped then return options end
  if tenant and options.tenant and options.tenant:lower() ~= tenant:lower() then
    error(errors.new { code = "MULTI_TENANT_VIOLATION", status = 403, operation = op.name,
      message = op.name
        .. " was called for another tenant than that of the call which started this code" }, 0)
  end
  if not (tenant or caller) then return options end
  local own = {}
  for name, value in next, options do own[name] = value end
  own.tenant = tenant
  if caller then own.as, own.scopes = caller.user_id, caller.scopes end
  return own
end

-- Joins the running transaction, as a savepoint: if each of N callers needed a second connection of
-- a pool of N, all would wait for ever. The transaction must have the operation's isolation level
-- or a higher one. `read_only` applies to the savepoint. Timeouts, retries, lane and key are those
-- of the transaction.
local function join(tx, op, input, tenant)
  if tenant and tenant ~= tx.tenant then
    error(errors.new { code = "MULTI_TENANT_VIOLATION", status = 403, operation = op.name,
      message = op.name .. " was called for another tenant than the transaction's"
        .. (tx.tenant and "" or ", which has none: an operation with `tenant` and for_each = \z
          \"select …\" runs by itself for each, and a hook (tx:after_commit) of an operation \z
          without tenant may call for any") }, 0)
  end
  if levels[op.isolation] > levels[tx.isolation] then
    error(errors.new { code = "INVALID_ARGUMENT", status = 500, operation = op.name,
      message = ("%s needs isolation %s; the transaction that calls it has %s")
        :format(op.name, op.isolation, tx.isolation) }, 0)
  end
  local ok, result = pcall(tx.savepoint, tx, function(inner)
    return op.run(inner, input)
  end, { read_only = op.read_only })
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
  -- A caller from outside may ask for less time, not for more; its wait for the check of its token
  -- counts.
  return math.max(math.min(timeout, op.timeout) - (options.waited or 0), 0.001)
end

-- Delivers a message to a subscriber: a call whose transaction runs before(tx) first. The
-- subscriber's `input` describes the payload.
function operation.deliver(op, message, before)
  local delivery = {}
  for name, value in next, op do delivery[name] = value end
  delivery.on, delivery.input = nil, nil
  function delivery.run(tx, input)
    before(tx)
    if op.input then input.payload = op.input:check(input.payload) end
    return op.run(tx, input)
  end
  return operation.call(delivery, message, { tenant = op.tenant and message.tenant })
end

-- At the border names become camelCase, except names that are data according to `output`.
local function spelled(op, result, options)
  return options.border and op.output and spelling.mark(op.output, result) or result
end

-- What the host needs to know of a call's idempotency key; nil without one.
local function key_of(op, raw, options)
  local key = options.key
  if key == nil then return nil end
  if type(key) ~= "string" or key == "" or #key > 255 then
    error(errors.new { code = "VALIDATION_ERROR", status = 400, operation = op.name,
      message = "the idempotency key is a text of 1 to 255 bytes" }, 0)
  end
  if op.read_only then return nil end -- a repeated call changes nothing
  return {
    key   = (options.border and "border " or "lua ") .. key,
    input = op.name .. " " .. json.encode(raw == nil and json.null or raw, { sorted = true }),
  }
end

-- The script of a call. A result that has to become text becomes text here, before COMMIT and
-- within the limits of the script: if it cannot, nothing is stored. A key keeps the text, so all
-- rows of the result must be there. An answer is { text = }; or { value = } if it has a row of an
-- insert that travels with COMMIT. All but such rows was written then, to see that it can be.
local function script_of(op, key, options)
  if not (key or options.answer_text) then return op.run end
  local own = not options.border
  return function(tx, input)
    local result = op.run(tx, input)
    if key then tx:flush() else host.flush_promised(tx) end
    local value = spelled(op, result, options)
    local text, why = host.json_answer(value == nil and json.null or value, own)
    if why then error(border.unwritable(op.name, why, true), 0) end
    if text then output.judge(op, text) end
    if key then return text end
    return text and { text = text } or { value = value }
  end
end

-- The same for a call that is only tried: all is sent, the answer is kept in options.tried, and
-- then an error of the caller's kind, which is not retried, rolls back. Constraints that are
-- deferred to COMMIT are not looked at.
local TRIED = "DRY_RUN"

local function trial_of(op, options)
  local run, tried = script_of(op, nil, options), {}
  options.tried = tried
  return function(tx, input)
    local answer = run(tx, input)
    tx:flush()
    tried.text = answer.text or border.encode(answer.value)
    error(errors.new { code = TRIED, status = 400, message = "a dry run: rolled back" }, 0)
  end
end

-- The result that was stored under the key, as JSON. At the border this text is the answer,
-- unchanged: its decimals are strings already, its numbers are numbers.
local function recalled(text, options)
  if options.answer_text then return text end
  local result = json.decode(text, { decimals = true, own = not options.border, max_bytes = #text,
    raw = options.border })
  if result == json.null then return nil end
  return result
end

-- The error for a caller whose work is stored under its key, but whose answer cannot be given.
-- `short` is the error for a lack of memory, made before the call.
local function lost_answer(op, fault, short)
  if tostring(fault):find("memory", 1, true) then return short end
  local ok, told = pcall(border.unwritable, op.name, fault)
  return ok and told or short
end

-- Made before the call: after it there may be no memory for the text.
local function no_memory_for_answer(op)
  local told = op.name .. " is done and stored, but there was no memory for its answer; the \z
    same key gives it once more"
  return errors.new { code = "RESULT_UNWRITABLE", status = 500, operation = op.name,
    message = told, told = told }
end

-- What the caller gets of a call that is stored.
local function stored(op, answer, key, short, options)
  if key then
    local ok, result = pcall(recalled, answer, options)
    if ok then return result end
    error(lost_answer(op, result, short), 0)
  end
  if not options.answer_text then
    output.judge_value(op, answer)
    return spelled(op, answer, options)
  end
  if answer.text then return answer.text end
  local ok, text = pcall(border.encode, answer.value)
  if ok then return text end
  error(border.unwritable(op.name, text), 0)
end

-- The caller has a tenant and the operation has none: told once, since row level security says
-- nothing and shows no row. The registry sets `unguarded`, the application's tenant field.
local function tell_unguarded(op)
  host.log("warn", ("%s was called for a tenant and has no `tenant`: row level security shows it \z
    no row of a tenant's table; add tenant = %q, or tenant = false if that is meant")
    :format(op.name, op.unguarded))
  op.unguarded = nil
end

--- Raises NOT_CALLABLE for an operation that must not be called from outside.
function operation.check_outside(op)
  if not op.internal or op.on then return end -- call() refuses subscribers to every caller
  error(errors.new { code = "NOT_CALLABLE", status = 404, operation = op.name,
    message = op.name .. " is internal: other operations call it, or it runs by itself" }, 0)
end

-- -> result (with options.answer_text: its JSON); with `want_info` also info, what it consumed. Or
-- `moved`, and the owner.
local function call(op, input, options, want_info)
  options = in_scope(op, options)
  if op.on then
    error(errors.new { code = "NOT_CALLABLE", status = 404, operation = op.name,
      message = ("%s is a subscriber: it is run by what is published to %s")
        :format(op.name, op.on) }, 0)
  end
  local raw = with_tenant(op, input, options)
  local checked = check(op, raw, options)
  local tenant = tenant_of(op, checked, options)
  local tx = host.current_tx()
  if tx then return join(tx, op, checked, tenant), {} end
  if options.tenant and op.unguarded then tell_unguarded(op) end
  local lane, alone = lanes.of(op, checked)
  local owner  = options.movable and alone and host.lane_owner(alone)
  if owner then return operation.moved, owner end
  local caller = (options.as or options.tenant) and { user_id = options.as, tenant = options.tenant,
    scopes = options.scopes }
  local key    = not options.dry_run and key_of(op, raw, options) or nil
  local run    = options.dry_run and trial_of(op, options) or script_of(op, key, options)
  local again  = function(fresh) return run(fresh, check(op, raw, options)) end
  local short  = key and no_memory_for_answer(op)
  local counted = round_trips.wanted(op, key)
  local answer, info = host.transact(op, run, checked, again, lane, tenant, caller or nil,
                                     timeout_of(op, options), key, want_info or counted,
                                     options.origin)
  if counted then round_trips.judge(op, info) end
  return stored(op, answer, key, short, options), want_info and info or nil
end

-- Calls an operation; a failure is counted and reported. With options.answer_text the result is
-- JSON text, for a caller outside of any transaction. A call inside another call does not report:
-- the outer call reports its own failure.
function operation.call(op, input, options, want_info)
  options = options or {}
  if host.current_tx() then return call(op, input, options, want_info) end
  local ok, result, info = pcall(call, op, input, options, want_info)
  if ok then return result, info end
  if options.tried and errors.is(result) and result.code == TRIED then return options.tried.text end
  -- In pcall, because there may be too little memory for the report.
  pcall(failures.tell, op.name, result, input, options.origin, options.shown)
  error(result, 0)
end

return operation
