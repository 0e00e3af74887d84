-- Code as an operation has it: loaded into the sandbox.
local moonpool = require "moonpool"
local sandbox  = require "moonpool.script.sandbox"

local sandboxed = {}

-- What spec/hostile/ has scripts about: THEME.lua each.
sandboxed.themes = { "time", "coroutines", "memory", "libraries", "escapes", "api" }

--- The chunk of a text, which calls itself `name`.
function sandboxed.load(text, name)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  local chunk, fault = sandbox.load(path, name)
  os.remove(path)
  return assert(chunk, fault)
end

--- The hostile scripts of a theme: each { name, how it ends, code, also = }.
function sandboxed.hostile(theme)
  return dofile(("%s/spec/hostile/%s.lua"):format(moonpool.app_dir, theme))
end

return sandboxed
