-- moonpool.operation.output: whether a result is what the operation's `output` says. `output.mode`
-- says what happens if it is not: "refuse" in specs and `moonpool call`; "tell" in a host that
-- serves, where a warning in the log is enough; nil elsewhere: it is not looked at.
local errors   = require "moonpool.errors"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local schema   = require "moonpool.is.schema"
local spelling = require "moonpool.is.spelling"

local output = { mode = nil }

-- A host that serves looks at the first results of each operation, and at no long ones.
local MOST_RESULTS, MOST_BYTES = 20, 64 << 10

local seen = setmetatable({}, { __mode = "k" }) -- definition -> results that were looked at

local function fault_of(op, text)
  local ok, value = pcall(json.decode, text, { decimals = true, max_bytes = #text + 1 })
  if not ok then return nil end -- deeper, or with longer numbers, than Lua values may be
  return schema.result_fault(schema.of(op.output), value)
end

local function words(op, fault)
  return ("the result of %s is not what its `output` says: %s"):format(op.name, fault)
end

-- -> the fault if this result is looked at and does not fit
local function look(op, text)
  if not (output.mode and op.output) then return nil end
  if output.mode == "tell" then
    seen[op] = (seen[op] or 0) + 1
    if seen[op] > MOST_RESULTS or #text > MOST_BYTES then return nil end
  end
  return fault_of(op, text)
end

local function handle(op, fault, more)
  if output.mode == "refuse" then
    error(errors.new { code = "SCRIPT_ERROR", status = 500, operation = op.name,
      message = words(op, fault) .. more }, 0)
  end
  seen[op] = MOST_RESULTS -- told once
  host.log("warn", words(op, fault))
end

--- Judges a result as JSON text, with the names of the border; before COMMIT, so that a result that
--- is refused undoes its work.
function output.judge(op, text)
  local fault = look(op, text)
  if fault then handle(op, fault, "") end
end

local function fault_of_value(op, value)
  local marked = spelling.mark(op.output, value)
  return look(op, json.encode(marked == nil and json.null or marked,
                              { camel = true, decimal_strings = true }))
end

--- Judges a result that a caller in Lua gets, after its work was stored. If that fails (for lack of
--- memory, say), the result counts as right: the call is done.
function output.judge_value(op, value)
  if output.mode ~= "refuse" or not op.output then return end
  local ok, fault = pcall(fault_of_value, op, value)
  if ok and fault then handle(op, fault, " (its work is stored)") end
end

return output
