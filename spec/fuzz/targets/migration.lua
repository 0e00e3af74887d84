-- Migration files (lua/moonpool/migrate): the part that is applied and the part that undoes it are
-- pieces of the file, in this order, and the statements are pieces of them.
local markers = require "moonpool.migrate.markers"
local sql     = require "moonpool.sql"

local function split(part)
  local ok, list = pcall(sql.split, part)
  if not ok then return end
  local at = 1
  for _, statement in ipairs(list) do
    local from, to = part:find(statement.sql, at, true)
    assert(from, "a statement that does not stand in the file")
    at = to + 1
  end
end

return function(bytes)
  local ok, up, down = pcall(markers.parts, bytes, "0001_fuzz.sql")
  if not ok then
    assert(tostring(up):find("0001_fuzz.sql", 1, true), "a refusal that names no file")
    return
  end
  assert(bytes:sub(1, #up) == up, "what is applied is not the beginning of the file")
  split(up)
  if not down then return end
  assert(#up + #down <= #bytes and bytes:sub(#bytes - #down + 1) == down,
         "what undoes it is not the end of the file")
  split(down)
end
