-- A host of its own, started with `moonpool run`: calls operations as it is told.
-- Argument: the FIFO that gets the answers. Each line on stdin is JSON; each is answered with a
-- line of JSON:
--   { "name": …, "input": …, "options": … }   call it: { ok, result | error, info }
--   { "name": …, "inputs": [ … ] }            call it with all inputs at once: a list of these
--     "fields": { … }                         of its definition, to be replaced: "group",
--                                             "isolation"
--   { "insert": table, "values": {…}, "options": {…} }
--                                             db.transaction with these options, inserts a row
--   { "cold": true }                          wait until it has no connection: { ok }
-- Waiting for orders it blocks, so that nothing happens in it but what it is told.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local json     = require "moonpool.json"
local registry = require "moonpool.operation.registry"

local out = assert(io.open(..., "w"))
out:setvbuf "line"

-- Of a row only its id and number: the rest may hold what JSON cannot.
local function brief(result)
  local brief_result = {}
  for _, name in ipairs { "deal", "customer" } do
    local row = type(result) == "table" and result[name]
    if row then
      brief_result[name] = { id = row.id, number = name == "deal" and row.deal_number or nil }
    end
  end
  return brief_result
end

local function failed(result)
  local told = {}
  for _, field in ipairs { "code", "message", "sqlstate", "attempts", "retryable",
                           "outcome_unknown" } do
    told[field] = type(result) == "table" and rawget(result, field) or nil
  end
  if type(result) ~= "table" then told.message = tostring(result) end
  return { ok = false, error = told }
end

local function call(operation, input, options)
  local ok, result, info = pcall(moonpool.call_info, operation, input, options)
  return ok and { ok = true, result = brief(result), info = info } or failed(result)
end

local function insert(order)
  local ok, result = pcall(db.transaction, order.options, function(tx)
    tx:insert(order.insert, order.values)
    return tx.attempt
  end)
  return ok and { ok = true, attempt = result } or failed(result)
end

local changed = {}

-- The operation of scripts/, with other fields.
local function operation_of(order)
  local name, fields = order.name, order.fields
  if not fields then return name end
  if not changed[name] then
    local definition = {}
    for field, value in pairs(registry.get(name)) do definition[field] = value end
    for _, made in ipairs { "name", "grouping", "lanes", "limited", "plan", "unguarded" } do
      definition[made] = nil
    end
    for field, value in pairs(fields) do definition[field] = value end
    changed[name] = moonpool.operation(definition)
  end
  return changed[name]
end

local function call_together(order)
  local operation, answers, tasks = operation_of(order), {}, {}
  for i, input in ipairs(order.inputs) do
    tasks[i] = function() answers[i] = call(operation, input) end
  end
  moonpool.all(tasks)
  return answers
end

local function cold()
  while moonpool.metrics.pool().total_connections > 0 do moonpool.sleep(0) end
  return { ok = true }
end

out:write "ready\n"
for line in io.lines() do
  local order = json.decode(line)
  local answer
  if order.cold then
    answer = cold()
  elseif order.insert then
    answer = insert(order)
  elseif order.inputs then
    answer = call_together(order)
  else
    answer = call(operation_of(order), order.input, order.options)
  end
  out:write(json.encode(answer), "\n")
end
