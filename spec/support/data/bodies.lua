-- Bodies of a megabyte that are as dear as they can be: to read, to check, to tell what is wrong
-- with them.
local bodies = {}

local SIZE = 1000 * 1000

local function filled(head, piece, tail)
  return head .. piece:rep((SIZE - #head - #tail) // #piece) .. piece:gsub(",$", "") .. tail
end

local function many_keys(head, tail)
  local pieces = {}
  for i = 1, SIZE // 15 do pieces[i] = ('"k%07d":1'):format(i) end
  return head .. table.concat(pieces, ",") .. tail
end

--- name -> JSON text, for the operation of bodies.scripts.
bodies.all = {
  numbers       = filled('{"id":"x","list":[', "1,", "]}"),
  arrays        = filled('{"id":"x","list":[', "[],", "]}"),
  objects       = filled('{"id":"x","list":[', "{},", "]}"),
  wrong_objects = filled('{"id":"x","list":[', '{"a":1},', "]}"),
  any           = filled('{"id":"x","any":[', "1,", "]}"),
  any_objects   = filled('{"id":"x","any":[', '{"abcd":"abcdefgh"},', "]}"),
  choices       = filled('{"id":"x","choices":[', '{"c":1},', "]}"),
  map           = many_keys('{"id":"x","map":{', "}}"),
  unknown_keys  = many_keys('{"id":"x",', "}"),
  nested        = filled('{"id":"x","any":[', ("["):rep(50) .. ("]"):rep(50) .. ",", "]}"),
  text          = filled('{"id":"x","text":"', "abcdefgh", '"}'),
  texts         = filled('{"id":"x","any":[', '"abcdefgh",', "]}"),
  escapes       = filled('{"id":"x","text":"', "\\u00e9", '"}'),
  digits        = filled('{"id":"x","any":', "1", "}"),
  decimals      = filled('{"id":"x","any":[', "1.5e3,", "]}"),
  long_numbers  = '{"id":"x","any":[' .. ("1e-999,"):rep(90000) .. "0]}",
  no_json       = filled('{"id":"x","list":[', "1,", ",]}"),
}

--- An operation that takes a well-formed `id` and fails with what it was given, so that there is
--- something to redact.
bodies.scripts = {
  ["scripts/bodies.lua"] = [[
    local moonpool = require "moonpool"
    local is = require "moonpool.is"
    local item = is.object { a = is.string, b = is.integer:optional() }
    return moonpool.operation {
      summary = "takes much",
      input = is.object { id = is.string, list = is.array(item):optional(), any = is.any:optional(),
        map = is.map(is.string):optional(), text = is.string:max(10000000):optional(),
        choices = is.array(is.one_of(item, is.object { b = is.string },
          is.array(is.integer))):optional() },
      run = function(_, input) error("cannot do this: " .. ("abcdefgh-"):rep(1000) ..
        tostring(input.id)) end,
    }]],
  ["scripts/hello.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation { summary = "hello", run = function(tx)
      return { n = tx:value "select 1" } end }]],
}

return bodies
