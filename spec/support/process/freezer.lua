-- Stops processes of a server with SIGSTOP, as a machine that hangs does: its sockets stay open
-- and nothing answers.
local freezer = {}
freezer.__index = freezer

local function children(pid)
  local list = assert(io.popen("pgrep -P " .. pid))
  local pids = {}
  for line in list:lines() do pids[#pids + 1] = line end
  list:close()
  return pids
end

--- Stops the server's first process, so that it starts no others, and then all that it has started.
---@param postmaster integer
function freezer.server(postmaster)
  local self = setmetatable({ pids = { postmaster } }, freezer)
  os.execute("kill -STOP " .. postmaster)
  for _, pid in ipairs(children(postmaster)) do self.pids[#self.pids + 1] = pid end
  os.execute("kill -STOP " .. table.concat(self.pids, " ") .. " 2>/dev/null")
  return self
end

--- Stops one process.
function freezer.one(pid)
  assert(os.execute("kill -STOP " .. pid))
  return setmetatable({ pids = { pid } }, freezer)
end

--- Lets them go on. Any number of times.
function freezer:thaw()
  if #self.pids > 0 then
    os.execute("kill -CONT " .. table.concat(self.pids, " ") .. " 2>/dev/null")
  end
  self.pids = {}
end

return freezer
