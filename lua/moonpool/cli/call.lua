-- `moonpool call NAME [JSON | @FILE | -]`: one operation, its result as JSON on stdout.
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local moonpool = require "moonpool"

local function read_input(source)
  if source == nil then return "{}" end
  if source == "-" then return io.read "a" end
  local path = source:match "^@(.+)$"
  if not path then return source end
  local file, reason = io.open(path, "rb")
  if not file then
    error(errors.new { code = "USAGE", message = "cannot read the input: " .. reason, status = 400 }, 0)
  end
  local text = file:read "a"
  file:close()
  return text or error(errors.new { code = "USAGE", message = "cannot read the input: " .. path .. " is no file",
    status = 400 }, 0)
end

local function decode(text)
  local ok, value = pcall(json.decode, text, { decimals = true })
  if ok then return value end
  local message = errors.is(value) and value.message or tostring(value):gsub("^.-:%d+: ", "")
  error(errors.new { code = "VALIDATION_ERROR", status = 400, message = "the input is no JSON: " .. message }, 0)
end

-- What a caller may see of an error: never SQL, DETAIL or a traceback.
local function public(e)
  if not errors.is(e) then return { code = "SCRIPT_ERROR", message = tostring(e), status = 500 } end
  return { code = e.code, message = e.message, status = e.status, fields = e.fields, attempts = e.attempts,
           operation = e.operation, outcome_unknown = e.outcome_unknown, line = e.line }
end

-- JSON for the terminal or a program. Rows write themselves in one line, so pretty text is made of that.
local function to_json(value, pretty)
  local text = json.encode(value, { camel = true, decimal_strings = true, sorted = true })
  return pretty and json.encode(json.decode(text, { decimals = true }), { pretty = true }) or text
end

local exit_codes = { NO_DATABASE = 3, USAGE = 2, UNKNOWN_OPERATION = 2 }

return function(options)
  local ok, result = pcall(function()
    return moonpool.call(options.name, decode(read_input(options.input)),
      { border = true, tenant = options.tenant, as = options.as, key = options.key })
  end)
  if ok then
    local done, text = pcall(to_json, result == nil and json.null or result, options.pretty)
    if done then
      print(text)
      return 0
    end
    result = errors.new { code = "SCRIPT_ERROR", status = 500, operation = options.name,
      message = ("%s is done and stored, but its result cannot be written as JSON: %s"):format(options.name,
        errors.is(text) and text.message or tostring(text)) }
  end
  io.stderr:write(to_json({ error = public(result) }, options.pretty), "\n")
  return errors.is(result) and exit_codes[result.code] or 1
end
