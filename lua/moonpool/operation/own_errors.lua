-- moonpool.operation.own_errors: checks the codes and statuses that scripts define, in
-- moonpool.fail and in the `errors` of an operation.
local nearest = require "moonpool.is.nearest"
local schema  = require "moonpool.is.schema"

local own_errors = {}

local containers = { object = true, array = true, map = true, row = true, any = true }

--- Returns what is wrong with a code, or nil.
function own_errors.code_fault(code)
  if type(code) ~= "string" then return "the code must be a text, not " .. type(code) end
  if not code:find "^%u[%u%d_]*$" or #code > 63 then
    return ("the code %q must be made of capitals, digits and _, 63 at most: STOCK_EMPTY")
      :format(code)
  end
end

--- Returns what is wrong with a status, or nil. A missing status is right: it has a default.
function own_errors.status_fault(status)
  if status == nil then return nil end
  if type(status) ~= "number" or not math.tointeger(status) or status < 400 or status > 599 then
    return ("the status is %s, which must be a number from 400 to 599"):format(
      type(status) == "string" and ("%q"):format(status) or tostring(status))
  end
end

-- A message such as "SKU $sku": each `$name` must be a field of the input with a single value.
local function message_fault(message, input)
  for name in message:gmatch "%$([%a_][%w_]*)" do
    local field = input and input[name]
    if not field then
      local near = input and nearest(name, input)
      return ("the message names `$%s`, which is not a field of the input%s"):format(name,
        near and ("; did you mean `$%s`?"):format(near) or "")
    end
    if containers[field.kind] then
      return ("the message names `$%s`, which is more than one value"):format(name)
    end
  end
end

-- An entry such as { "DUPLICATE_SKU", 409, "SKU $sku is taken" }.
local function entry_fault(entry, input)
  if type(entry) ~= "table" then
    return "must be { code, status, message }, not a " .. type(entry)
  end
  for name in pairs(entry) do
    if name ~= 1 and name ~= 2 and name ~= 3 then
      return ("must be { code, status, message }; there is no `%s` in it"):format(tostring(name))
    end
  end
  local code, status, message = entry[1], entry[2], entry[3]
  if message ~= nil and type(message) ~= "string" then
    return "the message must be a text, not a " .. type(message)
  end
  return own_errors.code_fault(code) or own_errors.status_fault(status)
    or message and message_fault(message, input)
end

--- Checks the `errors` of an operation against the schema of its input. Returns nothing if they are
--- right, else the constraint (nil if its name is not a text) and what is wrong with its entry.
function own_errors.fault(errors, input)
  local fields = input and schema.of(input).fields
  for constraint, entry in pairs(errors) do
    if type(constraint) ~= "string" then
      return nil, "its names are those of constraints: deals_number_key = { … }"
    end
    local fault = entry_fault(entry, fields)
    if fault then return constraint, fault end
  end
end

return own_errors
