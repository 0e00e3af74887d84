-- moonpool.script.cjson: lua-cjson for operations. Its encode cannot be interrupted, and its memory
-- is not counted as the script's. So the size of the text is estimated before cjson writes it.
local cjson = require "cjson"

local MOST_BYTES = 64 << 20 -- the same limit as in moonpool.json
local MOST_DEPTH = 1000     -- cjson's own limit; for deeper values cjson raises

-- Adds to `weight` the greatest number of bytes that `value` can take as JSON. Each byte of a text
-- can become an escape of six bytes.
local function weigh(value, weight, depth)
  if type(value) == "string" then
    weight = weight + 2 + 6 * #value
  elseif type(value) == "table" and depth <= MOST_DEPTH then
    for name, item in next, value do
      weight = weigh(item, weigh(type(name) == "string" and name or "", weight, depth), depth + 1)
    end
  end
  if weight > MOST_BYTES then
    error(("cjson.encode: the text would have more than %d MiB"):format(MOST_BYTES >> 20), 0)
  end
  return weight + 32
end

return {
  null   = cjson.null,
  decode = cjson.decode,
  encode = function(value)
    weigh(value, 0, 1)
    return cjson.encode(value)
  end,
}
