-- moonpool.errors: the error objects of the host. An error object is a table with `code`,
-- `message`, `status` and any of these: sqlstate, detail, hint, constraint, table, column, query,
-- line, attempts, operation, generation, retryable, outcome_unknown, traceback.

local errors = {}

local metatable = { __name = "moonpool.error" }
errors.metatable = metatable

-- A text as one line: control characters become blanks.
local function line(text)
  return (tostring(text):gsub("%c+", " "))
end

--- From now on each error object of this Lua state has `generation`, the number of its generation.
function errors.set_generation(number) metatable.__index = { generation = number } end

-- CODE: message (SQLSTATE 23505, constraint users_email_key) at scripts/create_user.lua:12
function metatable:__tostring()
  local text = line(rawget(self, "code") or "ERROR")
  local message = rawget(self, "message")
  if message ~= nil and message ~= "" then text = text .. ": " .. line(message) end
  local more = {}
  local sqlstate, constraint = rawget(self, "sqlstate"), rawget(self, "constraint")
  if sqlstate ~= nil then more[#more + 1] = "SQLSTATE " .. line(sqlstate) end
  if constraint ~= nil then more[#more + 1] = "constraint " .. line(constraint) end
  if more[1] then text = text .. " (" .. table.concat(more, ", ") .. ")" end
  local place = rawget(self, "line")
  if place ~= nil then text = text .. " at " .. line(place) end
  return text
end

--- Makes an error object from a copy of `fields`; `code` and `status` have defaults.
function errors.new(fields)
  local object = { code = "ERROR", status = 500 }
  for name, value in pairs(fields or {}) do object[name] = value end
  return setmetatable(object, metatable)
end

--- True if `value` is an error object.
function errors.is(value)
  return type(value) == "table" and getmetatable(value) == metatable
end

--- Returns the error object of a raised value. A text becomes SCRIPT_ERROR, except Lua's own text
--- for refused memory.
function errors.of(value)
  if errors.is(value) then return value end
  local text = tostring(value)
  if type(value) == "string" and text:find("not enough memory", 1, true) == 1 then
    return require("moonpool.host").refused_memory() -- made later than this module
  end
  return errors.new { code = "SCRIPT_ERROR", message = text }
end

return errors
