-- Starts the proxy of proxy_process.lua in front of a database and gives it orders.
local moonpool  = require "moonpool"
local companion = require "spec.support.process.companion"

local proxy = {}
proxy.__index = proxy

--- In front of the cluster that the URL names; without one, the specs' own.
---@param url? string
function proxy.start(url)
  local self = setmetatable({}, proxy)
  local socket_dir, port = proxy.place(url or moonpool.host.app_url)
  self.process = companion.start(function(fifo)
    return ("exec lua5.4 '%s/spec/support/process/proxy_process.lua' '%s/.s.PGSQL.%s' '%s'"):format(
      moonpool.app_dir, socket_dir, port, fifo)
  end)
  self.port = assert(tonumber(self.process:hear()), "the proxy did not start")
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
  return ("%s%s@127.0.0.1:%d/%s?sslmode=disable&gssencmode=disable"):format(scheme, user, self.port,
    database)
end

--- One line of the language that proxy_process.lua describes; gives the answer.
function proxy:order(line)
  local answer = self.process:ask(line)
  assert(not answer:find "^unknown", answer)
  return answer
end

--- Forgets everything, and arms these faults: "B commit cut before", … (nil: none)
function proxy:watch(...)
  self:order "watch"
  for _, fault in pairs { ... } do self:order("at " .. fault) end
end

--- The messages since `watch`: { { side = "F", n = 1, name = "Bind", bytes = 20, command = "BEGIN"
--- }, … }
function proxy:list()
  local messages, count = {}, { F = 0, B = 0 }
  for side, name, bytes, what in self:order "list":gmatch "([FB]) (%w+) (%d+) ([^;]*)" do
    count[side] = count[side] + 1
    messages[#messages + 1] =
      { side = side, n = count[side], name = name, bytes = math.tointeger(bytes), command = what }
  end
  return messages
end

--- Ends it and waits for its end.
function proxy:stop() self.process:stop() end

return proxy
