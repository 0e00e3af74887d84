-- `moonpool run SCRIPT [ARGS…]`: loads the operations first, so that the host knows them and their
-- tenant, then runs the script. The operations are loaded in the script's own task, so that a file
-- of scripts/ that never returns is ended like a script.
local registry = require "moonpool.operation.registry"

return function(script, ...)
  registry.load()
  return script(...)
end
