-- moonpool.is: schemas that check, convert and document values. Pure Lua, never waits.
--
--   local is    = require "moonpool.is"
--   local input = is.object {
--     customer_id = is.uuid,
--     price       = is.decimal:scale(2):min(0):optional(),
--   }
--   -- inside: snake_case
--   local copy  = input:check { customer_id = id, price = "28500.00" }
--   -- at the border: camelCase
--   local other = input:from_json(json.decode(body, { decimals = true }))
--
-- A schema is immutable: each method returns a new schema. A check returns a new, converted copy of
-- the value, or raises one error object that lists all failures. nil means "absent", is.null
-- (json.null) means "given, and null".
local schema = require "moonpool.is.schema"
local values = require "moonpool.is.values"
local containers = require "moonpool.is.containers"

local is = {
  null = schema.null,

  any = values.any,
  boolean = values.boolean,
  date = values.date,
  decimal = values.decimal,
  email = values.email,
  enum = values.enum,
  integer = values.integer,
  number = values.number,
  row = values.row,
  string = values.string,
  timestamp = values.timestamp,
  uuid = values.uuid,

  array = containers.array,
  map = containers.map,
  object = containers.object,
  one_of = containers.one_of,
}

-- is.schema(v) -> true if v is a schema.
is.schema = schema.is

return setmetatable(is, {
  __index = function(_, name)
    error(
      ("moonpool.is has no %q; it has: any array boolean date decimal email enum integer map \z
        number "
      .. "object one_of row string timestamp uuid"):format(tostring(name)), 2)
  end,
})
