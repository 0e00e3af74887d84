-- moonpool.operation.border: how a call looks from outside: JSON in, JSON out, and what a caller
-- may see of an error.
local codes  = require "moonpool.script.codes"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"
local json   = require "moonpool.json"

local border = {}

local NO_MEMORY = "not enough memory" -- what Lua raises

-- The value of a JSON text. Raises VALIDATION_ERROR if the text is not JSON.
function border.decode(text)
  local ok, value = pcall(json.decode, text, { decimals = true, max_values = host.body_values })
  if ok then return value end
  if errors.is(value) then -- too large, or no memory for it
    if value.status == 413 then value.message = value.message .. " (MOONPOOL_BODY_VALUES)" end
    error(value, 0)
  end
  if value == NO_MEMORY then
    local e = errors.of(value)
    if e.code ~= "OUT_OF_MEMORY" then error(e, 0) end
    error(errors.new { code = "CONTENT_TOO_LARGE", status = 413,
      message = "the input needs more memory than a call may have (MOONPOOL_TASK_MEMORY)" }, 0)
  end
  local message = tostring(value):gsub("^.-:%d+: ", "")
  error(errors.new { code = "VALIDATION_ERROR", status = 400,
                     message = "the input is not JSON: " .. message }, 0)
end

-- A result as JSON: names in camelCase, decimals as strings.
function border.encode(value)
  if value == nil then value = json.null end
  return json.encode(value, { camel = true, decimal_strings = true, sorted = true })
end

-- What a user on this machine may see of an error: never SQL, DETAIL or a traceback.
function border.public(e)
  e = errors.of(e)
  return { code = e.code, message = e.message, status = e.status, fields = e.fields,
           attempts = e.attempts,
           operation = e.operation, call_id = e.call_id, outcome_unknown = e.outcome_unknown,
           line = e.line,
           generation = e.generation }
end

-- The message for a remote caller. A message of the server or of the host is replaced by the text
-- of its code (codes.c); a message of a script is passed on unchanged.
local function told_of(e)
  if e.told or e.own_message then return e.told or e.message end
  local info = codes[e.code]
  -- The code is the script's, but the message is the server's.
  if not info and e.sqlstate then info = codes.DATABASE_ERROR end
  return info and info.told or e.message
end

-- What a caller over the network may see: code, message, status and ids; and the names of faulty
-- fields, if they are fields of the caller's own input.
function border.far(e)
  e = errors.of(e)
  local told = { code = e.code, status = e.status, message = told_of(e), fields = e.fields,
                 call_id = e.call_id }
  if e.parameter and e.status < 500 and not e.own_message then
    told.fields = json.array { { path = json.camel(e.parameter), message = told.message } }
    told.message = ("%s: %s"):format(json.camel(e.parameter), told.message)
  end
  return told
end

-- Changes an error so that it can be written as JSON, whatever a script has put into it.
function border.writable(told)
  if pcall(border.encode, told) then return told end
  told.fields = nil
  if type(told.message) ~= "string" then told.message = told.code end
  if not utf8.len(told.message) then told.message = told.message:gsub("[\x80-\xFF]", "?") end
  return told
end

local SHOWN_BYTES = 64 << 10 -- of a message; of a longer one only the length is logged

-- True for a value that has only letters, _ and spaces. The messages of the host and of scripts use
-- the same words, so such a value is hidden only where a message quotes it.
local function is_words(value) return not value:find "[^%a_ ]" end

-- Adds to `found` the input's texts and numbers that `text` repeats. Values of less than 4 bytes
-- are left out: they are not secrets, and any text may contain them. A key made of words only is
-- the name of a field; any other key may be data.
local function repeated(input, text, found, seen)
  if type(input) == "table" then
    for name, value in next, input do
      if not (type(name) == "string" and is_words(name)) then repeated(name, text, found, seen) end
      repeated(value, text, found, seen)
    end
  elseif type(input) ~= "boolean" then
    local value = tostring(input)
    if #value < 4 or #value > #text or seen[value] then return end
    seen[value] = true
    if text:find(value, 1, true) then found[#found + 1] = value end
  end
end

-- True if the bytes from `at` to `to` are at a place where a message quotes a value.
local function is_quoted(text, at, to)
  local before, behind = text:sub(math.max(at - 12, 1), at - 1), text:sub(to + 1, to + 1)
  if before:find "%(%l+ '$" then return false end -- Lua's own wording: (field 'name')
  local opened = before:find "[\"'`=(<%[{]$" or before:find ": $"
  return opened and (behind == "" or behind:find "[\"'`)>%]},;.\n]")
end

local function replaced(text, value)
  local pieces, from, words = {}, 1, is_words(value)
  while true do
    local at, to = text:find(value, from, true)
    if not at then
      pieces[#pieces + 1] = text:sub(from)
      return table.concat(pieces)
    end
    local hide = not words or is_quoted(text, at, to)
    pieces[#pieces + 1] = hide and text:sub(from, at - 1) .. "(hidden)" or text:sub(from, to)
    from = to + 1
  end
end

local function without(text, input)
  if #text > SHOWN_BYTES then return ("(a message of %d bytes)"):format(#text) end
  local decoded, value = true, input
  if type(input) == "string" then decoded, value = pcall(border.decode, input) end
  if not decoded then return text end
  local found = {}
  repeated(value, text, found, {})
  table.sort(found, function(a, b) return #a > #b end) -- one value may contain another
  for _, item in ipairs(found) do text = replaced(text, item) end
  return text
end

-- All that is known of an error, for the log: text and traceback. Values of `input` (a value, or
-- JSON text) that the message repeats are hidden.
function border.detail(e, input)
  if not errors.is(e) then return without(tostring(e), input) end
  local copy = {}
  for name, field in next, e do copy[name] = field end
  copy.message = without(tostring(e.message), input)
  local text = tostring(errors.new(copy))
  return e.traceback and text .. "\n" .. e.traceback or text
end

-- The error of an operation whose result cannot be written as JSON. The error has its own code,
-- because the caller's next step depends on the work. Mostly the fault is found before COMMIT, and
-- the work was undone (`undone`). A part of the result that came with COMMIT's answer is found too
-- late: the work is stored, and a repeated call would do it twice.
function border.unwritable(name, fault, undone)
  local why = errors.is(fault) and fault.message or (tostring(fault):gsub("^[^ ]-:%d+: ", ""))
  -- The connection was lost at COMMIT: the work is stored, but a row of the result did not arrive.
  local lost = errors.is(fault) and fault.code == "CONNECTION_LOST"
  local told = name .. (undone and " was undone: its result cannot be written as JSON"
    or lost and " is done and stored, but a part of its result was lost with a connection"
    or " is done and stored, but its result cannot be written as JSON")
  return errors.new { code = "RESULT_UNWRITABLE", status = 500, operation = name,
    message = told .. ": " .. why, told = told }
end

return border
