-- Starts the proxy of proxy_process.lua in front of the specs' cluster and gives it orders.
local moonpool = require "moonpool"
local command  = require "spec.support.command"

local proxy = {}
proxy.__index = proxy

---@return { url: fun(self, url: string): string, order: fun(self, line: string): string, stop: fun(self) }
function proxy.start()
  local self = setmetatable({ folder = command.folder {} }, proxy)
  local socket_dir, port = proxy.place(moonpool.host.app_url)
  local fifo = self.folder.path .. "/answers"
  assert(os.execute("mkfifo '" .. fifo .. "'"))
  self.orders = assert(io.popen(("exec lua5.4 '%s/spec/support/proxy_process.lua' '%s/.s.PGSQL.%s' '%s'"):format(
    moonpool.app_dir, socket_dir, port, fifo), "w"))
  self.orders:setvbuf "line"
  self.answers = assert(io.open(fifo, "r"))
  self.port = assert(tonumber(self.answers:read "l"), "the proxy did not start")
  return self
end

--- The folder of the server's socket and its port, as a URL of the cluster names them.
function proxy.place(url)
  local query = url:match "%?(.*)$" or ""
  local dir = query:match "host=([^&]*)" or url:match "@([^/?]*)"
  dir = dir:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  return dir, query:match "port=(%d+)" or "5432"
end

--- The same database through the proxy.
function proxy:url(url)
  local scheme, rest = url:match "^(%a+://)(.*)$"
  local user, database = rest:match "^([^@/]*)@[^/]*/([^?]*)"
  if not user then user, database = rest:match "user=([^&]*)" or "", rest:match "^[^/]*/([^?]*)" end
  return ("%s%s@127.0.0.1:%d/%s?sslmode=disable&gssencmode=disable"):format(scheme, user, self.port, database)
end

function proxy:order(line)
  self.orders:write(line, "\n")
  self.orders:flush()
  local answer = assert(self.answers:read "l", "the proxy has ended")
  assert(not answer:find "^unknown", answer)
  return answer
end

--- Ends it and waits for its end.
function proxy:stop()
  self.orders:close()
  self.answers:close()
  self.folder.remove()
end

return proxy
