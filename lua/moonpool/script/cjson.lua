-- moonpool.script.cjson: lua-cjson as operations have it. Nothing stops its encode under way, and
-- what it allocates is not the script's memory: so what it would write is weighed first.
local cjson = require "cjson"

local MOST_BYTES = 64 << 20 -- as of moonpool.json
local MOST_DEPTH = 1000     -- cjson's own, which then says so itself

-- Adds to `weight` what `value` takes as JSON at most; a text that is all escapes takes six times
-- its length.
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
