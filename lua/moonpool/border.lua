-- moonpool.border: how a call looks from outside: JSON in, JSON out, and what a caller may see of an error.
local errors = require "moonpool.errors"
local json   = require "moonpool.json"

local border = {}

-- The value of a JSON text; VALIDATION_ERROR if it is none.
function border.decode(text)
  local ok, value = pcall(json.decode, text, { decimals = true })
  if ok then return value end
  local message = errors.is(value) and value.message or tostring(value):gsub("^.-:%d+: ", "")
  error(errors.new { code = "VALIDATION_ERROR", status = 400, message = "the input is no JSON: " .. message }, 0)
end

-- A result as JSON: names in camelCase, decimals as strings.
function border.encode(value)
  if value == nil then value = json.null end
  return json.encode(value, { camel = true, decimal_strings = true, sorted = true })
end

-- What a caller may see: never SQL, DETAIL or a traceback.
function border.public(e)
  if not errors.is(e) then return { code = "SCRIPT_ERROR", message = tostring(e), status = 500 } end
  return { code = e.code, message = e.message, status = e.status, fields = e.fields, attempts = e.attempts,
           operation = e.operation, call_id = e.call_id, outcome_unknown = e.outcome_unknown, line = e.line,
           generation = e.generation }
end

-- What a caller far away may see: an error that nobody foresaw is told to the log, since its message may hold anything.
function border.far(e)
  local told = border.public(e)
  -- What a script asked of the host is not the caller's fault; his own input's is a VALIDATION_ERROR.
  if told.code == "INVALID_ARGUMENT" then told.code, told.status = "SCRIPT_ERROR", 500 end
  if told.code == "SCRIPT_ERROR" or told.code == "DATABASE_ERROR" then
    told.message = "the operation failed; the log of the host says why"
  end
  return told
end

-- Texts and numbers of an input, longest first; the short ones are no secrets, and stand everywhere.
local function values_of(input, found)
  if type(input) == "table" then
    for name, value in next, input do
      values_of(name, found)
      values_of(value, found)
    end
  elseif type(input) ~= "boolean" then
    local text = tostring(input)
    if #text >= 4 then found[#found + 1] = text end
  end
  return found
end

local function without(text, values)
  table.sort(values, function(a, b) return #a > #b end)
  for _, value in ipairs(values) do
    text = text:gsub(value:gsub("%p", "%%%0"), "(hidden)")
  end
  return text
end

-- All that is known of an error, for the log: text and traceback; but of a message not what it repeats of the input, a JSON text.
function border.detail(e, input)
  local decoded, value = pcall(border.decode, input)
  local values, copy = decoded and values_of(value, {}) or {}, {}
  if not errors.is(e) then return without(tostring(e), values) end
  for name, field in next, e do copy[name] = field end
  copy.message = without(tostring(e.message), values)
  local text = tostring(errors.new(copy))
  return e.traceback and text .. "\n" .. e.traceback or text
end

-- The error of an operation whose result cannot be written: its code of its own, because what to do next depends on the work:
-- it is stored, and to repeat the call would do it twice, or undone (`undone`: its answer was to be kept under a key).
function border.unwritable(name, fault, options)
  local why = errors.is(fault) and fault.message or (tostring(fault):gsub("^[^ ]-:%d+: ", ""))
  local message = "%s is done and stored, but its result cannot be written as JSON: %s"
  if options and options.undone then
    message = "%s was undone: its result cannot be kept under the key, because it cannot be written as JSON: %s"
  end
  return errors.new { code = "RESULT_UNWRITABLE", status = 500, operation = name, call_id = options and options.call_id,
    message = message:format(name, why) }
end

return border
