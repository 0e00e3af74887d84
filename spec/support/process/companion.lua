-- A process beside a spec that obeys lines on its stdin and answers each with a line.
local command = require "spec.support.process.command"

local companion = {}
companion.__index = companion

--- `make(fifo)` gives the shell's command; its answers go to the FIFO of that path.
---@param make fun(fifo: string): string
---@return { ask: fun(self, line: string): string; hear: fun(self): string; stop: fun(self) }
function companion.start(make)
  local self = setmetatable({ folder = command.folder {} }, companion)
  local fifo = self.folder.path .. "/answers"
  assert(os.execute("mkfifo '" .. fifo .. "'"))
  self.orders = assert(io.popen(make(fifo), "w"))
  self.orders:setvbuf "line"
  self.answers = assert(io.open(fifo, "r"))
  return self
end

--- The next line that it says.
function companion:hear()
  return (assert(self.answers:read "l", "the process beside the spec has ended"))
end

function companion:say(line) self:type(line .. "\n") end

--- Without a line's end: keys, if it has a terminal.
function companion:type(keys)
  self.orders:write(keys)
  self.orders:flush()
end

function companion:ask(line)
  self:say(line)
  return self:hear()
end

--- Ends it and waits for its end.
function companion:stop()
  self.orders:close()
  self.answers:close()
  self.folder.remove()
end

return companion
