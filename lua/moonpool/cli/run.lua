-- `moonpool run SCRIPT [ARGS…]`: the operations first, so that the host knows them and their
-- tenant; in the script's own task, where a file of scripts/ that does not end is ended.
local registry = require "moonpool.operation.registry"

return function(script, ...)
  registry.load()
  return script(...)
end
