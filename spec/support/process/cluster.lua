-- A database cluster of a spec's own, to be harmed: the embedded one in a folder of its own,
-- migrated.
local moonpool = require "moonpool"
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"

local cluster = {}
cluster.__index = cluster

function cluster.start()
  local self = setmetatable({ folder = command.folder {} }, cluster)
  os.execute("chmod 755 '" .. self.folder.path .. "'") -- the server runs as another user than root
  self.env = { MOONPOOL_STATE = self.folder.path .. "/state", DATABASE_URL = false,
               MOONPOOL_OWNER_URL = false }
  self:run "migrate up"
  self.url = self:run("db url"):match "postgresql://%S+"
  self.owner_url = self:run("db url --owner"):match "postgresql://%S+"
  self.admin_url = self:run("db url --admin"):match "postgresql://%S+"
  return self
end

--- Runs a command of the executable on it; it must succeed.
function cluster:run(args)
  local output, code = command.run(args, { dir = moonpool.app_dir, env = self.env })
  assert(code == 0, output)
  return output
end

--- Starts a script of the project on it, in a host of its own; gives the handle that its output is
--- read from.
---@param args string
---@param env? table<string, string>
function cluster:script(args, env)
  local settings = { MOONPOOL_LOG_LEVEL = "error" }
  for _, more in ipairs { self.env, env or {} } do
    for name, value in pairs(more) do settings[name] = value end
  end
  return command.start("run " .. args, { dir = moonpool.app_dir, env = settings })
end

function cluster:postmaster()
  local file = assert(io.popen("cat $(find '" .. self.folder.path .. "' -name postmaster.pid)"))
  local pid = file:read "n"
  file:close()
  return assert(math.tointeger(pid), "the server does not run")
end

--- Ends the server at once and starts it again: QUIT is an immediate stop, KILL takes all its
--- processes.
function cluster:crash(signal)
  local pid = self:postmaster()
  -- The server's first process before the others, so that it starts no new ones; some may end by
  -- themselves.
  local others = signal == "KILL" and ("$(pgrep -P %d)"):format(pid) or ""
  os.execute(("kill -%s %d %s 2>/dev/null"):format(signal, pid, others))
  self:run "db start"
  assert(self:postmaster() ~= pid)
end

--- Asks as the superuser; while the server recovers, until it answers.
function cluster:ask(sql, ...)
  local failed
  for _ = 1, 600 do
    self.admin = self.admin or db.open { url = self.admin_url, max = 1 }
    local ok, value = pcall(self.admin.value, sql, ...)
    if ok then return value end
    failed = value
    moonpool.sleep(0.05)
  end
  error(failed, 0)
end

function cluster:stop()
  if self.admin then self.admin.close() end
  self:run "db stop"
  self.folder.remove()
end

return cluster
