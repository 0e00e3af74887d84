-- An HTTP server of a spec's own, for requests that a host makes: it notes each, and answers as the
-- spec says. On luv's loop, which turns only while the spec waits; the host's own loop turns as
-- well then.
local uv       = require "luv"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local receiver = {}
receiver.__index = receiver

-- A whole request at the front of `text`, and the rest.
local function take(text)
  local head, rest = text:match "^(.-\r\n)\r\n(.*)$"
  if not head then return nil end
  local request = { headers = {} }
  request.method, request.path = head:match "^(%S+) (%S+) HTTP/1%.1\r\n"
  for name, value in head:gmatch "\n([^:\r\n]+): ([^\r\n]*)" do
    request.headers[name:lower()] = value
  end
  local length = tonumber(request.headers["content-length"] or 0)
  if #rest < length then return nil end
  request.body = rest:sub(1, length)
  return request, rest:sub(length + 1)
end

--- `answer(n, request)` gives the status of the nth request, or bytes, or nil: none comes.
---@param answer fun(n: integer, request: table): integer|string|nil
function receiver.start(answer)
  local self = setmetatable({ requests = {}, clients = {}, server = uv.new_tcp() }, receiver)
  self.server:bind("127.0.0.1", 0)
  self.port = self.server:getsockname().port
  self.server:listen(16, function()
    local client, received = uv.new_tcp(), ""
    self.server:accept(client)
    self.clients[#self.clients + 1] = client
    client:read_start(function(err, chunk)
      if err or not chunk then
        if not client:is_closing() then client:close() end
        return
      end
      received = received .. chunk
      if received:byte() == 0x16 then client:write "no TLS here" end -- a client's hello
      local request, rest = take(received)
      if not request then return end
      received = rest
      self.requests[#self.requests + 1] = request
      local said = answer(#self.requests, request)
      if math.type(said) then
        said = ("HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok"):format(said)
      end
      if said then client:write(said) end
    end)
  end)
  return self
end

--- Turns both loops until fn() is true.
function receiver.await(what, fn)
  return scratch.await(what, function()
    uv.run "nowait"
    local value = fn()
    if not value then moonpool.sleep(0.002) end
    return value
  end)
end

--- The nth request, when it has come.
function receiver:hear(n)
  return self.await(("request %d"):format(n), function() return self.requests[n] end)
end

function receiver:stop()
  self.server:close()
  for _, client in ipairs(self.clients) do
    if not client:is_closing() then client:close() end
  end
  uv.run "nowait"
end

return receiver
