-- Pages of a list, each told by the last row of the one before it: no offset, so a page costs the
-- same wherever it is, and rows that come or go meanwhile neither repeat others nor hide them.
--
-- A cursor names the list and the sort key of a row. It is a position and no permission: whoever
-- changes it begins elsewhere in what is theirs.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local json     = require "moonpool.json"

local paging = {}

--- Fields of the input of an operation that gives pages.
paging.limit  = is.integer:min(1):max(100):default(50)
paging.cursor = is.string:min(1):max(4000)

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

-- base64url without padding.
local function encode(bytes)
  local text = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local group = a << 16 | (b or 0) << 8 | (c or 0)
    for k = 0, c and 3 or b and 2 or 1 do
      local n = (group >> (18 - 6 * k) & 63) + 1
      text[#text + 1] = digits:sub(n, n)
    end
  end
  return table.concat(text)
end

local values = {}
for n = 1, #digits do values[digits:sub(n, n)] = n - 1 end

-- The bytes, or nil.
local function decode(text)
  local bytes, group, bits = {}, 0, 0
  for digit in text:gmatch "." do
    local value = values[digit]
    if not value then return nil end
    group, bits = group << 6 | value, bits + 6
    if bits >= 8 then
      bits = bits - 8
      bytes[#bytes + 1] = string.char(group >> bits & 255)
      group = group & (1 << bits) - 1
    end
  end
  return table.concat(bytes)
end

-- The values of a key, or nil.
local function read(list, key, cursor)
  local bytes = decode(cursor)
  if not bytes or not utf8.len(bytes) then return nil end
  local ok, content = pcall(json.decode, bytes)
  if not ok or not json.is_array(content) or content[1] ~= list or #content ~= #key + 1 then
    return nil
  end
  local found = {}
  for i, field in ipairs(key) do
    local fits, value = pcall(field.schema.check, field.schema, content[i + 1])
    if not fits then return nil end
    found["after_" .. field.name] = value
  end
  return found
end

---@class paging.field
---@field name string              column
---@field schema moonpool.schema   of its values

---@class paging.list
---@field name string
---@field key paging.field[]       columns that the list is sorted by; together they are of one row
local List = {}
List.__index = List

---@param name string
---@param key paging.field[]
---@return paging.list
function paging.list(name, key)
  return setmetatable({ name = name, key = key }, List)
end

--- The sort key where a page begins: after_<column> of the row before it; nil for the first page.
---@param cursor? string
---@return table<string, any>?
function List:after(cursor)
  if cursor == nil then return nil end
  return read(self.name, self.key, cursor) or moonpool.fail("VALIDATION_ERROR",
    "cursor: must be the nextCursor of an earlier page of this list", { status = 400 })
end

--- One page of `rows`, of which there is one more than `limit` where a further page follows.
---@param rows moonpool.row[]
---@param limit integer
---@return moonpool.row[] page
---@return string? next_cursor
function List:page(rows, limit)
  local page = json.array {}
  for i = 1, math.min(#rows, limit) do page[i] = rows[i] end
  if #rows <= limit then return page, nil end
  local content = json.array { self.name }
  for i, field in ipairs(self.key) do content[i + 1] = page[limit][field.name] end
  return page, encode(json.encode(content))
end

return paging
