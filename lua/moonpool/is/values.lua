-- moonpool.is.values: schemas of single values. A message must not contain the value, which may be
-- a secret.
local read_uuid = require "moonpool.host".read_uuid
local json = require "moonpool.json"
local decimal = require "moonpool.decimal"
local schema = require "moonpool.is.schema"
local calendar = require "moonpool.is.calendar"

local values = {}
local null = schema.null
local DEFAULT_MAX_LENGTH = 10000

local function set(...)
  local s = {}
  for _, name in ipairs { ... } do s[name] = true end
  return s
end

local function characters(n) return ("%d character%s"):format(n, n == 1 and "" or "s") end

-- Returns the text and its length in characters if both PostgreSQL and JSON can hold it. Otherwise
-- reports a failure and returns nil.
local function check_text(value, run)
  if type(value) ~= "string" then
    run:fail("must be a string")
    return nil
  end
  local length = utf8.len(value)
  if not length then
    run:fail("must be valid UTF-8")
  elseif value:find("\0", 1, true) then
    run:fail("must not contain a NUL character")
    length = nil
  end
  return length and value, length
end

values.string = schema.new("string", {
  allows = set("min", "max", "pattern"),
  convert = function(self, value, run)
    local text, length = check_text(value, run)
    if not text then return nil end
    local min, max = self.min_value, self.max_value or DEFAULT_MAX_LENGTH
    if min and length < min then
      if length == 0 and min == 1 then return run:fail("must not be empty") end
      return run:fail("must be at least " .. characters(min) .. " long")
    end
    if length > max then return run:fail("must be at most " .. characters(max) .. " long") end
    if self.lua_pattern and not text:find(self.lua_pattern) then
      return run:fail("must look like " .. (self.pattern_text or self.lua_pattern))
    end
    return text
  end,
})

local function format(kind, what, read)
  return schema.new(kind, {
    convert = function(_, value, run)
      local text = check_text(value, run)
      if not text then return nil end
      local copy, wrong = read(text)
      if not copy then run:fail("must " .. what .. (wrong and ": " .. wrong or "")) end
      return copy
    end,
  })
end

values.uuid = schema.new("uuid", {
  convert = function(_, value, run)
    if type(value) ~= "string" then return run:fail("must be a string") end
    return read_uuid(value)
      or check_text(value, run) and run:fail("must be a UUID: hexadecimal digits as 8-4-4-4-12")
  end,
})

-- something@domain.tld: finds typing errors only. Only a message that arrives shows that an address
-- exists.
values.email = format("email", "look like an e-mail address", function(text)
  if #text > 254 or text:find("[%c%s\"<>(),;:\\]") then return nil end
  local user, domain = text:match("^([^@]+)@([^@]+)$")
  if not user or #user > 64 or user:find("^%.") or user:find("%.$") or user:find("..", 1, true) then
    return nil
  end
  if not domain:find("^[%w\x80-\xff.-]+%.[%w\x80-\xff-]+$") or #domain:match("[^.]+$") < 2 then
    return nil
  end
  for label in (domain .. "."):gmatch("([^.]*)%.") do
    if label == "" or #label > 63 or label:find("^%-") or label:find("%-$") then return nil end
  end
  return text
end)

values.date = format("date", "be a date such as 2024-02-29", calendar.date)
values.timestamp = format("timestamp", "be a time with its zone, such as 2024-02-29T13:45:00Z",
  calendar.timestamp)

values.boolean = schema.new("boolean", {
  convert = function(_, value, run)
    if type(value) ~= "boolean" then return run:fail("must be true or false") end
    return value
  end,
})

-- is.enum { "NEW", "USED" }
function values.enum(list)
  local known, names = {}, {}
  for i, name in ipairs(list) do
    if type(name) ~= "string" then error("is.enum: the values must be strings", 2) end
    known[name], names[i] = true, name
  end
  if #names == 0 then error("is.enum: at least one value is needed", 2) end
  local message = "must be one of " .. table.concat(names, ", ")
  return schema.new("enum", {
    names = names,
    convert = function(_, value, run)
      if type(value) ~= "string" or not known[value] then return run:fail(message) end
      return value
    end,
  })
end

-- -- numbers --------------------------------------------------------------------------------------

local function in_range(self, value, run)
  local min, max = self.min_value, self.max_value
  if min and value < min then return run:fail("must be at least " .. tostring(min)) end
  if max and value > max then return run:fail("must be at most " .. tostring(max)) end
  return value
end

local function integer_bound(n)
  if math.type(n) ~= "integer" then error("the bound of is.integer must be an integer", 3) end
  return n
end

values.integer = schema.new("integer", {
  allows = set("min", "max"),
  bound = integer_bound,
  convert = function(self, value, run)
    local i, kind = nil, math.type(value)
    if kind == "integer" then
      i = value
    elseif kind then
      i = math.tointeger(value)
    elseif decimal.is(value) then -- 3.0 or 3e0 in JSON
      local ok, integral = pcall(value.tointeger, value)
      i = ok and integral or nil
    end
    if not i then return run:fail("must be an integer") end
    if not (self.min_value or self.max_value) then return i end
    return in_range(self, i, run)
  end,
})

values.number = schema.new("number", {
  allows = set("min", "max"),
  bound = function(n)
    if type(n) ~= "number" then error("the bound of is.number must be a number", 3) end
    return n
  end,
  convert = function(self, value, run)
    if decimal.is(value) then value = value:tonumber() end
    if type(value) ~= "number" then return run:fail("must be a number") end
    if value ~= value or value == math.huge or value == -math.huge then
      return run:fail("must be a finite number")
    end
    return in_range(self, value, run)
  end,
})

local function to_decimal(value)
  -- a JSON number becomes an ordinary decimal
  if decimal.is(value) then return decimal(value) end
  if math.type(value) == "integer" then return decimal(value) end
  if type(value) ~= "string" or not (value:find("^%-?%d+$") or value:find("^%-?%d+%.%d+$")) then
    return nil
  end
  local ok, d = pcall(decimal, value)
  return ok and d or nil
end

-- For money and rates. Accepts a decimal, an integer, or a string in plain notation. Refuses a
-- float, which is not exact.
values.decimal = schema.new("decimal", {
  allows = set("min", "max", "scale", "precision"),
  bound = decimal,
  convert = function(self, value, run)
    local d = to_decimal(value)
    if not d then
      if math.type(value) == "float" then
        return run:fail("must be a decimal; floats are not exact")
      end
      return run:fail("must be a decimal number such as \"28500.00\"")
    end
    if not d:is_finite() then return run:fail("must be a finite number") end
    local scale, precision = self.max_scale, self.max_precision
    if scale and d:scale() > scale then
      local rounded = d:round(scale)
      if rounded ~= d then
        return run:fail(scale == 0 and "must have no digits after the point"
          or ("must have at most %d digit%s after the point"):format(scale,
            scale == 1 and "" or "s"))
      end
      d = rounded
    end
    if precision then
      local before = precision - (scale or d:scale())
      if before < 0 or d:abs() >= decimal(10) ^ before then
        return run:fail(("must have at most %d digits in front of the point")
          :format(math.max(before, 0)))
      end
    end
    return in_range(self, d, run)
  end,
})

-- -- any data and rows ----------------------------------------------------------------------------

local function check_data_text(text, run)
  if not utf8.len(text) then run:fail("must be valid UTF-8 throughout") end
  if text:find("\0", 1, true) then
    run:fail("must not contain a NUL character (U+0000): it cannot be stored")
  end
end

-- Copies any data, for jsonb. Names keep their spelling in input and output.
local function copy_any(value, run, depth)
  local kind = type(value)
  if kind == "string" then
    check_data_text(value, run)
    return value
  elseif kind == "table" then
    if depth > 64 then return run:fail("is nested deeper than 64 levels, or contains itself") end
    local copy = {}
    for k, v in next, value do
      if type(k) ~= "string" and math.type(k) ~= "integer" then
        return run:fail("has a key that is not a string")
      end
      if type(k) == "string" then check_data_text(k, run) end
      local at = run.depth + 1
      run.depth, run[at] = at, k
      copy[k] = copy_any(v, run, depth + 1)
      run.depth = at - 1
      if run.failures then return nil end
    end
    -- the copy of an array is an array even if empty; other metatables are not copied
    if json.is_array(value) then json.array(copy) end
    return json.raw(copy)
  elseif kind == "function" or kind == "thread" then
    return run:fail("must be data, not a " .. kind)
  end
  return value
end

values.any = schema.new("any", {
  takes_null = true,
  convert = function(_, value, run) return copy_any(value, run, 1) end,
})

-- A database row, or a table in its place. The value is passed on unread: to read a row waits for
-- the database.
values.row = schema.new("row", {
  allows = set("of"),
  convert = function(self, value, run)
    local kind = type(value)
    if value == null or (kind ~= "table" and kind ~= "userdata") or decimal.is(value) then
      return run:fail("must be a row")
    end
    if run.of_result and self.columns then -- JSON
      for _, name in ipairs(self.columns) do
        if rawget(value, json.camel(name)) == nil then
          run:fail(("has no column `%s`, which its `output` names"):format(name))
        end
      end
    end
    return value
  end,
})

return values
