-- A PgBouncer (Debian's) in front of a spec's own cluster.
local command  = require "spec.support.process.command"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local pgbouncer = {}
pgbouncer.__index = pgbouncer

local PORT = 6432 -- of a socket in a folder of its own

local CONFIG = [[
[databases]
* = host=%s port=%s
[pgbouncer]
pool_mode = %s
listen_addr =
listen_port = %d
unix_socket_dir = %s
unix_socket_mode = 0777
auth_type = trust
auth_file = %s/users
logfile = %s/log
pidfile = %s/pid
ignore_startup_parameters = %s
]]

--- `mode`: session or transaction; `ignored`: startup parameters that it keeps back.
---@param cluster table
---@param mode string
---@param ignored? string
function pgbouncer.start(cluster, mode, ignored)
  local folder = command.folder { users = '"moonpool_app" ""\n' }
  local self = setmetatable({ folder = folder }, pgbouncer)
  local path, url = self.folder.path, cluster.url
  local where = url:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  local socket_dir = where:match "host=([^&]+)" or where:match "@([^/?]*/[^?]-)/[^/?]*$"
  local port = where:match "port=(%d+)" or "5432"
  self.folder.write("pgbouncer.ini", CONFIG:format(socket_dir, port, mode, PORT, path, path, path,
                                                   path, ignored or "extra_float_digits"))
  -- It does not run as root.
  os.execute(("chmod 777 '%s'; chmod 644 '%s'/*"):format(path, path))
  os.execute(([[
    cd '%s'; [ "$(id -u)" = 0 ] && user="-u postgres"
    PATH=$PATH:/usr/sbin pgbouncer -q $user pgbouncer.ini > out 2>&1 & echo $! > started]])
    :format(path))
  self.url = ("postgresql://moonpool_app@/%s?host=%s&port=%d"):format(
    where:match "^[^?]*/([^/?]+)", path, PORT)
  scratch.await("pgbouncer", function()
    moonpool.sleep(0.01)
    local socket = io.popen(("ls -a '%s'"):format(path))
    local found = socket:read "a":find(".s.PGSQL", 1, true)
    socket:close()
    return found
  end)
  return self
end

function pgbouncer:stop()
  local file = assert(io.open(self.folder.path .. "/started"))
  os.execute(("kill -TERM %d 2>/dev/null"):format(file:read "n"))
  file:close()
  self.folder.remove()
end

return pgbouncer
