-- `moonpool call NAME [JSON | @FILE | -]`: calls one operation and prints its result as JSON on
-- stdout.
local border   = require "moonpool.operation.border"
local calls    = require "moonpool.calls"
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local output   = require "moonpool.operation.output"
local told     = require "moonpool.cli.told"

local function read_input(source)
  if source == nil then return "{}" end
  if source == "-" then return io.read "a" end
  local path = source:match "^@(.+)$"
  if not path then return source end
  local file, reason = io.open(path, "rb")
  if not file then
    error(errors.new { code = "USAGE", message = "cannot read the input: " .. reason,
                       status = 400 }, 0)
  end
  local text = file:read "a"
  file:close()
  return text or error(
    errors.new { code = "USAGE", message = "cannot read the input: " .. path .. " is not a file",
    status = 400 }, 0)
end

-- The JSON text for a terminal (pretty) or a program. A document that is nested deeper, or has
-- longer numbers, than Lua values may have stays in one line.
local function laid_out(text, pretty)
  if not pretty then return text end
  local read, copy = pcall(json.decode, text,
                           { decimals = true, own = true, max_bytes = #text + 1 })
  return read and json.encode(copy, { pretty = true }) or text
end

-- The public error, and for the author of the operation where it failed. Never SQL or DETAIL, which
-- contain values.
local function shown(e)
  local public = border.public(e)
  if not errors.is(e) then return border.writable(public) end
  public.sqlstate, public.constraint, public.position = e.sqlstate, e.constraint,
    math.tointeger(tonumber(e.position))
  if e.traceback and not e.own_message and (e.status or 500) >= 500 then
    local lines = json.array()
    for line in e.traceback:gmatch "[^\n]+" do lines[#lines + 1] = line:gsub("^\t", "") end
    public.traceback = lines
  end
  return border.writable(public)
end

local exit_codes = { NO_DATABASE = 3, USAGE = 2, UNKNOWN_OPERATION = 2 }

-- The steps of the call, on stderr.
local function print_steps(id)
  local steps = id and calls.timeline(id)
  if steps then io.stderr:write(steps, "\n") end
end

local function print_error(e, options)
  if options.people then
    io.stderr:write(told(e, options))
  else
    io.stderr:write(laid_out(border.encode { error = shown(e) }, options.pretty), "\n")
  end
end

return function(options)
  output.mode = "refuse"
  local ok, result, info = pcall(function()
    return moonpool.call_info(options.name, border.decode(read_input(options.input)),
      { border = true, answer_text = true, shown = true, tenant = options.tenant,
        as = options.as, key = options.key })
  end)
  if options.why then
    print_steps(ok and info and info.id or errors.is(result) and result.call_id)
  end
  if ok then
    print(laid_out(result, options.pretty))
    return 0
  end
  print_error(result, options)
  return errors.is(result) and exit_codes[result.code] or 1
end
