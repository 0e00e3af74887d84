-- moonpool.cli.input: the input of a call, as an argument of the command line.
local errors = require "moonpool.errors"

local function refuse(...)
  error(errors.new { code = "USAGE", status = 400,
                     message = "cannot read the input: " .. string.format(...) }, 0)
end

-- read(source) -> JSON text. `source`: JSON, @FILE, - for stdin; nil: {}. Raises USAGE.
return function(source)
  if source == nil then return "{}" end
  if source == "-" then return io.read "a" end
  local path = source:match "^@(.+)$"
  if not path then return source end
  local file, reason = io.open(path, "rb")
  if not file then refuse("%s", reason) end
  local text = file:read "a"
  file:close()
  return text or refuse("%s is not a file", path)
end
