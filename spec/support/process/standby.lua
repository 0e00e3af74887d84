-- A hot standby of a cluster of spec/support/process/cluster.lua, made by pg_basebackup.
local command = require "spec.support.process.command"

local BIN = "/usr/lib/postgresql/15/bin/"

local standby = {}
standby.__index = standby

local function run(line)
  local handle = assert(io.popen("{ " .. line .. "; } 2>&1; echo status=$?"))
  local output = handle:read "a"
  handle:close()
  if not output:find "status=0\n$" then error(line .. "\n" .. output, 0) end
end

local function as_owner(pid, line)
  local file = assert(io.popen("ps -o user= -p " .. pid))
  local user = file:read "l"
  file:close()
  local me = io.popen "id -un":read "l"
  if user == me then return line end
  return ("su -s /bin/sh %s -c \"cd /; %s\""):format(user, line)
end

--- Starts one of the running `primary`; its socket is in `dir`/run.
function standby.of(primary)
  local self = setmetatable({ pid = primary:postmaster(), folder = command.folder {} }, standby)
  self.dir = self.folder.path
  local function own(line) run(as_owner(self.pid, line)) end
  self.own = own
  run(("mkdir -p '%s/run' && chmod 755 '%s' && chown -R --reference=/proc/%d '%s'")
    :format(self.dir, self.dir, self.pid, self.dir))
  own(("%spg_basebackup -d '%s' -D '%s/data' -R -X stream -c fast"):format(BIN, primary.admin_url,
    self.dir))
  own(
    ("%spg_ctl -D '%s/data' -l '%s/log' -w -o '-c listen_addresses= -c \z
      unix_socket_directories=%s/run -c port=5432' start"):
    format(BIN, self.dir, self.dir, self.dir))
  return self
end

--- Makes it a primary; gives back control when it takes writes.
function standby:promote()
  self.own(("%spg_ctl -D '%s/data' -w promote"):format(BIN, self.dir))
end

function standby:stop()
  pcall(self.own, ("%spg_ctl -D '%s/data' -m immediate stop"):format(BIN, self.dir))
  self.folder.remove()
end

return standby
