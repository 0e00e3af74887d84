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

-- All that is known, for the log: text and traceback.
function border.detail(e)
  local text = tostring(e)
  local traceback = errors.is(e) and e.traceback
  return traceback and text .. "\n" .. traceback or text
end

-- The error of an operation whose work is stored, but whose result cannot be written.
function border.unwritable(name, fault)
  return errors.new { code = "SCRIPT_ERROR", status = 500, operation = name,
    message = ("%s is done and stored, but its result cannot be written as JSON: %s"):format(name,
      errors.is(fault) and fault.message or tostring(fault)) }
end

return border
