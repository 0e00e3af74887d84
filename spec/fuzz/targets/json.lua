-- JSON from outside (src/values/json_decode.c): whatever is taken can be written, and read again as
-- the same; whatever is not is refused by an error that says why.
local json = require "moonpool.json"

-- Tables by their contents; the kind of a table (array, object) is in its metatable. 1e3 is a
-- decimal, 1000 an integer.
local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return json.encode(a) == json.encode(b) end
  if getmetatable(a) ~= getmetatable(b) then return false end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

return function(bytes)
  local ok, value = pcall(json.decode, bytes)
  if not ok then
    assert(tostring(value):find "^json: %S", "a refusal that says nothing")
    return
  end
  assert(same(value, json.decode(json.encode(value))), "written and read again it is another value")
end
