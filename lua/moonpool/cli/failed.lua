-- moonpool.cli.failed: tells on stderr how a call failed, to a person or as JSON.
local border  = require "moonpool.operation.border"
local errors  = require "moonpool.errors"
local json    = require "moonpool.json"
local laid_out = require "moonpool.cli.laid_out"
local told    = require "moonpool.cli.told"

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

-- failed(e, { name= of the operation, people= a person reads, pretty=, why= }) -> exit code
return function(e, options)
  if options.people then
    io.stderr:write(told(e, options))
  else
    io.stderr:write(laid_out(border.encode { error = shown(e) }, options.pretty), "\n")
  end
  return errors.is(e) and exit_codes[e.code] or 1
end
