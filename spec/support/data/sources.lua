-- The project's own files, as texts.
local moonpool = require "moonpool"

local sources = {}

function sources.read(path)
  local file = assert(io.open(moonpool.app_dir .. "/" .. path))
  local text = file:read "a"
  file:close()
  return text
end

--- The paths that `find` gives for its arguments.
function sources.files(arguments)
  local command = ("cd '%s' && find %s"):format(moonpool.app_dir, arguments)
  local list, pipe = {}, assert(io.popen(command))
  for path in pipe:lines() do list[#list + 1] = path end
  pipe:close()
  return list
end

return sources
