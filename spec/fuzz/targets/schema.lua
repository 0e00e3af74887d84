-- Inputs against schemas (lua/moonpool/is): what is taken is taken again as it is, what is refused
-- says where.
local errors = require "moonpool.errors"
local is     = require "moonpool.is"
local json   = require "moonpool.json"

local node = is.object { id = is.uuid, tags = is.array(is.string:max(8)):max(5):optional(),
                         at = is.timestamp:optional() }

local schema = is.object {
  name     = is.string:min(1):max(20):pattern("^[%w ]+$", "letters, digits and blanks"):optional(),
  email    = is.email:optional(),
  count    = is.integer:min(0):max(1000):default(1),
  ratio    = is.number:optional():nullable(),
  price    = is.decimal:scale(2):optional(),
  flag     = is.boolean:optional(),
  kind     = is.enum { "a", "b" }:optional(),
  day      = is.date:optional(),
  any      = is.any:optional(),
  by_name  = is.map(is.integer):optional(),
  node     = node:optional(),
  nodes    = is.array(node):optional(),
  either   = is.one_of(is.integer, is.string):optional(),
}

return function(bytes)
  local ok, value = pcall(json.decode, bytes, { decimals = true })
  if not ok then return end
  local taken, copy = pcall(schema.from_json, schema, value)
  if not taken then
    assert(errors.is(copy) and copy.code == "VALIDATION_ERROR" and copy.message ~= "",
           "a refusal that says nothing")
    return
  end
  local again = schema:check(copy)
  assert(json.encode(again) == json.encode(copy), "taken again it is another value")
end
