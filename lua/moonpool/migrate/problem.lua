-- moonpool.migrate.problem: an error that the user can solve. It is printed unchanged, without a
-- traceback. Also helps to write messages.
local problem = {}

local metatable = { __tostring = function(self) return self.message end }

--- Raises a problem.
function problem.raise(format, ...)
  error(setmetatable({ message = string.format(format, ...) }, metatable), 0)
end

function problem.is(value)
  return getmetatable(value) == metatable
end

function problem.plural(count, noun)
  return string.format("%d %s%s", count, noun,
                       count == 1 and "" or (noun:match "x$" and "es" or "s"))
end

return problem
