-- moonpool.cli.laid_out: JSON text for a terminal (pretty) or a program. A document that is nested
-- deeper, or has longer numbers, than Lua values may have stays in one line.
local json = require "moonpool.json"

return function(text, pretty)
  if not pretty then return text end
  local read, copy = pcall(json.decode, text,
                           { decimals = true, own = true, max_bytes = #text + 1 })
  return read and json.encode(copy, { pretty = true }) or text
end
