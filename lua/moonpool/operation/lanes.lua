-- moonpool.operation.lanes: the field `lane` of a definition, and the lanes of one call. The host
-- keeps calls to them (src/rules/lane.h).
local errors  = require "moonpool.errors"
local nearest = require "moonpool.is.nearest"

local lanes = {}

local MOST    = 4 -- lanes of one call: MP_LANES_OF_CALL
local SECONDS = { s = 1, min = 60, h = 3600, d = 86400 }

local function integer(from, to)
  return function(value)
    if math.type(value) == "integer" and value >= from and value <= to then return nil end
    return ("must be an integer from %d to %d"):format(from, to)
  end
end

-- "100/min" -> seconds between two calls, calls each second; or nil.
local function parse_rate(rate)
  if type(rate) ~= "string" then return nil end
  local count, unit = rate:match "^(%d+)/(%a+)$"
  count = tonumber(count)
  if not count or count < 1 or count > 1000000 or not SECONDS[unit] then return nil end
  return SECONDS[unit] / count, count / SECONDS[unit]
end

local parts = {
  key = function(value)
    return (type(value) ~= "string" or value == "") and "must be a text, such as \"supplier:$id\""
      or nil
  end,
  width = integer(1, 100000),
  rate = function(value)
    return not parse_rate(value) and "must be a text such as \"100/min\" (s, min, h, d)" or nil
  end,
  burst = integer(1, 1000000),
  priority = function(value)
    return not (type(value) == "string" and value:find "^%$[%a_][%w_]*$")
      and "must name an input field, such as \"$priority\"" or nil
  end,
  limit = integer(1, 1000000),
}

local function fault_of(lane)
  if type(lane) == "string" then return nil end
  if type(lane) ~= "table" then return "must be a text, or a table with a `key`" end
  for name, value in pairs(lane) do
    local part = parts[name]
    if not part then
      local near = nearest(tostring(name), parts)
      return ("has no `%s`%s"):format(name, near and ("; did you mean `%s`?"):format(near) or "")
    end
    local fault = part(value)
    if fault then return ("%s %s"):format(name, fault) end
  end
  if not lane.key then return "needs a `key`" end
  if lane.burst and not lane.rate then return "burst needs a `rate`" end
  return nil
end

local function list_of(value)
  return type(value) == "table" and value[1] ~= nil and value or { value }
end

--- nil, or what is wrong with a `lane`.
---@return string?
function lanes.fault(value)
  local list = list_of(value)
  local prioritized = 0
  if #list > MOST then return ("names %d lanes; %d is the most"):format(#list, MOST) end
  for key in pairs(type(value) == "table" and list == value and list or {}) do
    if math.type(key) ~= "integer" then
      return ("is a list; `%s` has no place in it"):format(key)
    end
  end
  for _, lane in ipairs(list) do
    local fault = fault_of(lane)
    if fault then return fault end
    if type(lane) == "table" and lane.priority then prioritized = prioritized + 1 end
  end
  return prioritized > 1 and "may have one `priority`: it holds for all lanes of the call" or nil
end

-- "invoice_number:$company_id" as its pieces: texts at odd places, names of input fields at even
-- places.
local function pieces_of(lane)
  local pieces, from = {}, 1
  for at, name, behind in lane:gmatch "()%$([%a_][%w_]*)()" do
    pieces[#pieces + 1] = lane:sub(from, at - 1)
    pieces[#pieces + 1] = name
    from = behind
  end
  pieces[#pieces + 1] = lane:sub(from)
  return pieces
end

--- What the host needs of a `lane` that has no fault: a list with `pieces`, and the terms as
--- src/ops/call_lua.c reads them. `plain`: one lane of width 1 without other terms.
function lanes.made(value)
  if value == nil then return nil end
  local made = { plain = type(value) == "string" }
  for i, lane in ipairs(list_of(value)) do
    if type(lane) == "string" then lane = { key = lane } end
    local interval, per_second = parse_rate(lane.rate)
    made[i] = { key = lane.key, pieces = pieces_of(lane.key), width = lane.width or 1,
      interval = interval, limit = lane.limit,
      -- Calls are started each few milliseconds: a rate needs some that may come at once.
      burst = lane.burst or math.max(1, math.floor((per_second or 0) / 10)) }
    made.priority = made.priority or lane.priority and lane.priority:sub(2)
  end
  return made
end

--- Calls fn(field) for each input field that the lanes name.
function lanes.each_field(made, fn)
  for _, lane in ipairs(made or {}) do
    for i = 2, #lane.pieces, 2 do fn(lane.pieces[i]) end
  end
  if made and made.priority then fn(made.priority) end
end

--- The lanes as people read them, or nil.
---@return string?
function lanes.shown(value)
  if value == nil then return nil end
  local texts = {}
  for i, lane in ipairs(list_of(value)) do
    if type(lane) == "string" then lane = { key = lane } end
    local terms = {}
    if lane.width then terms[#terms + 1] = "width " .. lane.width end
    if lane.rate then terms[#terms + 1] = lane.rate end
    if lane.limit then terms[#terms + 1] = "limit " .. lane.limit end
    texts[i] = lane.key .. (#terms > 0 and (" (%s)"):format(table.concat(terms, ", ")) or "")
  end
  return table.concat(texts, ", ")
end

local function key_of(op, lane, input)
  local pieces = lane.pieces
  local key = pieces[1]
  for i = 2, #pieces, 2 do
    local value = input[pieces[i]]
    if value == nil then
      error(errors.new { code = "SCRIPT_ERROR", status = 500, operation = op.name,
        message = ("the lane %q of %s names `%s`, which is not a field of the input")
          :format(lane.key, op.name, pieces[i]) }, 0)
    end
    key = key .. tostring(value) .. pieces[i + 1]
  end
  return key
end

local function priority_of(op, field, input)
  local value = input[field]
  if value == nil then return 0 end
  if math.type(value) == "integer" and value >= -100 and value <= 100 then return value end
  error(errors.new { code = "VALIDATION_ERROR", status = 400, operation = op.name,
    message = ("the priority `%s` of %s is an integer from -100 to 100")
      :format(field, op.name) }, 0)
end

--- The lanes of a call, for host.transact: a text, or a list of texts with `priority`; nil: none.
--- And the text of the lane if its calls run one at a time: one worker should have them all, so
--- that one call can hand its connection to the next.
function lanes.of(op, input)
  local made = op.lanes
  if not made then return nil end
  local first = key_of(op, made[1], input)
  if made.plain then return first, first end
  local alone = #made == 1 and made[1].width == 1 and first or nil
  local list = { first, priority = made.priority and priority_of(op, made.priority, input) or 0 }
  for i = 2, #made do list[i] = key_of(op, made[i], input) end
  return list, alone
end

return lanes
