-- A host of its own, started with `moonpool run`: calls operations, one after the other, as it is told.
-- Argument: the FIFO that gets the answers. Each line on stdin is JSON; each is answered with a line of JSON:
--   { "name": …, "input": …, "options": … }   call it: { ok, result | error, info }
--   { "cold": true }                          wait until it has no connection: { ok }
-- Waiting for orders it blocks, so that nothing happens in it but what it is told.
local moonpool = require "moonpool"
local json     = require "moonpool.json"

local answers = assert(io.open(..., "w"))
answers:setvbuf "line"

-- Of a row only its id and number: the rest may hold what JSON cannot.
local function brief(result)
  local brief_result = {}
  for _, name in ipairs { "deal", "customer" } do
    local row = type(result) == "table" and result[name]
    if row then brief_result[name] = { id = row.id, number = name == "deal" and row.deal_number or nil } end
  end
  return brief_result
end

local function call(order)
  local ok, result, info = pcall(moonpool.call_info, order.name, order.input, order.options)
  if ok then return { ok = true, result = brief(result), info = info } end
  local told = {}
  for _, field in ipairs { "code", "message", "sqlstate", "attempts", "retryable", "outcome_unknown" } do
    told[field] = type(result) == "table" and rawget(result, field) or nil
  end
  if type(result) ~= "table" then told.message = tostring(result) end
  return { ok = false, error = told }
end

local function cold()
  while moonpool.metrics.pool().total_connections > 0 do moonpool.sleep(0) end
  return { ok = true }
end

answers:write "ready\n"
for line in io.lines() do
  local order = json.decode(line)
  answers:write(json.encode(order.cold and cold() or call(order)), "\n")
end
