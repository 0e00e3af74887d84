-- moonpool.test.trace: where an error in a spec is told to be: at the spec's own line, not at that
-- of the host's module which raised it; and an error of a call as `moonpool call` shows it.
local errors = require "moonpool.errors"
local told   = require "moonpool.cli.told"

-- True for a frame that is nobody's: C, luassert, busted, the host's own modules.
local function is_inside(info, busted_dir)
  return info.what == "C" or info.short_src:find "^moonpool/" ~= nil
    or info.short_src:find "luassert[/\\].*%.lua$" ~= nil
    or info.source:sub(1, #busted_dir + 1) == "@" .. busted_dir
end

-- Changes an instance of busted.
return function(busted)
  local get_trace, rewrite = busted.getTrace, busted.rewriteMessage
  local busted_dir = debug.getinfo(get_trace, "S").source:match "^@(.*[/\\])" or "\0"

  -- `level` counts from this function, as busted's own.
  busted.getTrace = function(element, level, message)
    level = level or 3
    local info = debug.getinfo(level, "Sl")
    while info and is_inside(info, busted_dir) do
      level = level + 1
      info = debug.getinfo(level, "Sl")
    end
    if not info then return get_trace(element, 4, message) end
    local trace = debug.traceback("", level)
    info.traceback, info.message = trace:sub(1, (trace:find "\n%s*%[C]")), message
    return info
  end

  busted.rewriteMessage = function(element, message, trace)
    if not errors.is(message) then return rewrite(element, message, trace) end
    trace = trace or busted.getTrace(element, 3, message)
    local place = ("%s:%d"):format(trace.short_src, trace.currentline)
    local text = told(message, { name = message.operation, why = true })
    return text:sub(1, #place + 1) == place .. ":" and text or place .. ": " .. text
  end
end
