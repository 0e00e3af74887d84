-- What a caller may send instead of what an operation expects, field by field. Makes one `it` per
-- operation, field and kind of nonsense, so call it inside of a `describe`:
--
--   hostile.fields("add_vehicle", function() return { … } end, {     -- a new legal input each time
--     dealership_id = { "uuid", required = true },
--     make          = { "text", required = true, max = 100,
--                       stored = function(result) return result.vehicle.make end },
--   }, { nothing_left = function() … end })
--
-- Kinds: uuid, text, integer, decimal, enum, boolean, object, array. A `stored` text may be
-- anything, and must come back as it was sent; without `stored` hostile text must be refused.
-- `plain = true`: a text that is accepted or refused as the operation likes (a name that is looked
-- up).
local assert   = require "luassert"
local busted   = require "busted"
local failure  = require "spec.support.data.failure"
local json     = require "moonpool.json"
local moonpool = require "moonpool"

local hostile = {}

local MEGABYTE = ("x"):rep(1024 * 1024)

-- Text that is dangerous where it is pasted into something.
hostile.texts = {
  ["a quote"]               = "O'Hara \" `",
  ["an end of statement"]   = "'; drop table users; --",
  ["a numbered parameter"]  = "$1 $2",
  ["a named parameter"]     = "$dealership_id $nothing",
  ["a dollar quote"]        = "$$ $x$ $x$",
  ["a backslash"]           = "\\' \\x00 \\",
  ["a format"]              = "%s %n %1$s %",
  ["a line break"]          = "one\r\ntwo\ttabbed",
  ["markup"]                = "<script>alert(1)</script>&amp;",
  ["JSON"]                  = '{"a": [null]}',
  ["text beyond ASCII"]     = "Żółć 車 \u{1F697} \u{202E}",
}

-- What no text field takes.
local no_text = {
  ["invalid UTF-8"]         = "a\xff\xfe",
  ["a cut UTF-8 sequence"]  = "a\xe2\x82",
  ["a surrogate"]           = "a\xed\xa0\x80",
  ["a NUL character"]       = "a\0b",
  ["a megabyte"]            = MEGABYTE,
}

-- Values of each type; a field must refuse those of all types but its own.
local samples = {
  text    = { ["a string"] = "text" },
  integer = { ["a number"] = 42 },
  float   = { ["a fraction"] = 0.5, ["infinity"] = math.huge, ["no number"] = 0 / 0 },
  boolean = { ["true"] = true, ["false"] = false },
  object  = { ["an object"] = json.object { a = 1 } },
  array   = { ["an array"] = json.array { 1, 2 } },
}

-- kind -> the types of samples that may be legal
local takes = {
  uuid    = {},
  enum    = {},
  text    = { text = true },
  integer = { integer = true },
  decimal = { integer = true },
  boolean = { boolean = true },
  object  = { object = true },
  array   = { array = true },
}

local function refused(operation, make, field, value)
  local input = make()
  input[field] = value
  local e = failure(moonpool.call, operation, input)
  assert.are.equal("VALIDATION_ERROR", e.code, tostring(e))
  assert.are.equal(400, e.status)
  assert.is_nil(e.sqlstate)
  assert.are.equal(field, e.fields and e.fields[1].path)
  assert.is_true(#tostring(e) < 500, "the error repeats what was sent")
end

local function sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  local at = 0
  return function()
    at = at + 1
    if names[at] then return names[at], map[names[at]] end
  end
end

---@class hostile.field
---@field [1] string          kind
---@field required? boolean
---@field null? boolean       null is legal
---@field max? integer        characters of a text
---@field plain? boolean
---@field stored? fun(result: any): any

---@param operation string
---@param make fun(): table
---@param fields table<string, hostile.field>
---@param options? { nothing_left?: fun() } nothing_left fails if a refused call has left anything
function hostile.fields(operation, make, fields, options)
  local it = busted.it
  local nothing_left = options and options.nothing_left or function() end

  local function refuses(field, what, value)
    it("refuses " .. field .. " that is " .. what, function()
      refused(operation, make, field, value)
      nothing_left()
    end)
  end

  for field, is in sorted(fields) do
    local kind = is[1]
    if is.required then refuses(field, "missing", nil) end
    if not is.null then refuses(field, "null", moonpool.null) end
    for type_name, values in sorted(samples) do
      if not takes[kind][type_name] then
        for what, value in sorted(values) do refuses(field, what, value) end
      end
    end
    if kind ~= "object" and kind ~= "array" and kind ~= "boolean" then
      for what, value in sorted(no_text) do refuses(field, what, value) end
    end
    if is.max then refuses(field, "a character too long", ("é"):rep(is.max + 1)) end
    for what, value in sorted(hostile.texts) do
      if is.stored then
        it("takes " .. field .. " that is " .. what .. " as it is", function()
          local input = make()
          input[field] = value
          assert.are.equal(value, is.stored(moonpool.call(operation, input)))
        end)
      elseif is.plain then
        it("is not impressed by " .. field .. " that is " .. what, function()
          local input = make()
          input[field] = value
          local ok, e = pcall(moonpool.call, operation, input)
          assert.is_true(ok or e.status < 500 and not e.sqlstate, tostring(e))
        end)
      else
        refuses(field, what, value)
      end
    end
  end

  it("refuses a field that it does not know", function()
    refused(operation, make, "no_such_field", 1)
    nothing_left()
  end)
end

--- Expects the same answer for an id that nobody has and for one of another dealership: not found,
--- in the same words.
---@param operation string
---@param make fun(): table
---@param field string
---@param label string        "Vehicle": the message is "Vehicle not found: <id>"
---@param foreign_id string
function hostile.foreign(operation, make, field, label, foreign_id)
  for _, id in ipairs { moonpool.uuid(), foreign_id } do
    local input = make()
    input[field] = id
    local e = failure(moonpool.call, operation, input)
    assert.are.equal("RESOURCE_NOT_FOUND", e.code, tostring(e))
    assert.are.equal(404, e.status)
    assert.are.equal(label .. " not found: " .. id, e.message)
  end
end

return hostile
