-- What becomes of a value in the database and on the way back.
local assert  = require "luassert"
local db      = require "moonpool.db"
local failure = require "spec.support.data.failure"

local values = {}

local serial = 0

--- A text that the host has never seen, so that it knows no types of parameters.
function values.unseen(sql)
  serial = serial + 1
  return ("%s /* %d */"):format(sql, serial)
end

--- The value through the server: first by a text whose parameter's type is unknown, then by the
--- same one, known.
function values.through(type_name, value)
  local sql = values.unseen(("select $1::%s as v"):format(type_name))
  local cold, warm = db.value(sql, value), db.value(sql, value)
  local other = values.unseen(sql)
  local inside = db.transaction(function(tx) return tx:value(other, value) end)
  assert.are.same(cold, warm, "cold and warm differ")
  assert.are.same(cold, inside, "inside and outside of a transaction differ")
  return cold
end

--- What the server makes of the value, as its own text.
function values.stored(type_name, value)
  return db.value(values.unseen(("select $1::%s::text as v"):format(type_name)), value)
end

--- The error of a statement that is refused.
function values.refusal(...) return failure(db.value, ...) end

return values
