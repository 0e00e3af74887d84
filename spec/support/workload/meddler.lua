-- Runs an operation's script with a `tx` that can be meddled with at its n-th call.
local moonpool = require "moonpool"
local registry = require "moonpool.operation.registry"

local meddler = {}

local statements = { one = true, insert = true, query = true, first = true, value = true,
                     count = true, exec = true }

local taken_over = { "input", "output", "tenant", "actor", "isolation", "timeout", "lane",
                     "errors" }

-- The tx, with `meddle(n, tx, name)` called in front of its n-th call.
local function wrap(tx, counts, meddle)
  return setmetatable({}, {
    __index = function(_, name)
      local value = tx[name]
      if type(value) ~= "function" or not counts(name) then
        if type(value) ~= "function" then return value end
        return function(_, ...) return value(tx, ...) end
      end
      return function(self, ...)
        local state = getmetatable(self)
        state.calls = state.calls + 1
        meddle(state.calls, tx, name)
        return value(tx, ...)
      end
    end,
    calls = 0,
  })
end

--- The operation `name` with a tx that calls `meddle(n, tx, method)` in front of each call of a
--- method, or with `only_statements` in front of each statement; n counts from 1 in each attempt.
function meddler.operation(name, meddle, only_statements)
  local original = registry.get(name)
  local function counts(method) return not only_statements or statements[method] end
  local definition = {
    run = function(tx, input) return original.run(wrap(tx, counts, meddle), input) end,
  }
  for _, field in ipairs(taken_over) do definition[field] = original[field] end
  return moonpool.operation(definition)
end

--- How many calls an undisturbed run makes.
function meddler.count(name, input, only_statements)
  local most = 0
  moonpool.call(meddler.operation(name, function(n) most = n end, only_statements), input)
  return most
end

return meddler
