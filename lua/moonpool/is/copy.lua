-- moonpool.is.copy: copy(value) -> a deep copy of plain data. The copy has the same metatables,
-- which are the marks of moonpool.json.
local function copy(value)
  if type(value) ~= "table" then return value end
  local made = {}
  for name, item in next, value do made[name] = copy(item) end
  return setmetatable(made, getmetatable(value))
end

return copy
