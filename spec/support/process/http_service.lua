-- A `moonpool serve` that listens for HTTP, and requests to it with a token.
local command   = require "spec.support.process.command"
local companion = require "spec.support.process.companion"
local http      = require "spec.support.client.http"
local json      = require "moonpool.json"
local moonpool  = require "moonpool"
local serving   = require "spec.support.process.serving"

local service = {}

--- As serving.start, with HTTP on a free port: host.port.
function service.start(files, options)
  options = options or {}
  options.env = options.env or {}
  options.env.MOONPOOL_LISTEN = "127.0.0.1:0"
  local host = serving.start(files, options)
  host.port = tonumber(host:log():match "listening on http://127%.0%.0%.1:(%d+)")
  return host
end

--- A new token of the specs' database, or of the one that `env` names; `args` as on the command
--- line.
---@param args? string
---@param env? table<string, string>
---@return string token, string id
function service.token(args, env)
  -- of a project of the spec's own
  local later = (args or ""):find "ops:%a" and "--allow-unknown " or ""
  local output, code = command.run("token create --json " .. later .. (args or ""),
                                   { dir = moonpool.app_dir, env = env })
  assert(code == 0, output)
  local made = json.decode(output)
  return made.token, made.id
end

--- One request; options: token, headers, body (text), json (a value). The answer has `json` if its
--- body is JSON.
function service.ask(host, method, path, options)
  options = options or {}
  local headers = {}
  for name, value in pairs(options.headers or {}) do headers[name] = value end
  if options.token then headers.Authorization = "Bearer " .. options.token end
  local body = options.body or options.json ~= nil and json.encode(options.json) or nil
  if body and not headers["Content-Type"] then headers["Content-Type"] = "application/json" end
  local answer = assert(http.request(host.port, method, path, { headers = headers, body = body }),
                        "no answer")
  if (answer.headers["content-type"] or ""):find "^application/json" and answer.body ~= "" then
    answer.json = json.decode(answer.body)
  end
  return answer
end

--- SIGTERM while clients call as fast as they are answered; each goes on until it is told that its
--- connection ends.
---@return integer answered
---@return integer dropped  requests that were sent on an open connection and got no answer
function service.stop_under_load(host, token, clients)
  local request = ("POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
    :format(token)
  local open, answered, dropped, told = {}, 0, 0, false
  for i = 1, clients do open[i] = assert(http.connect(host.port)).send(request) end
  while #open > 0 do
    for i = #open, 1, -1 do
      local client = open[i]
      local answer = client.answer()
      if answer and answer.status == 200 then answered = answered + 1 else dropped = dropped + 1 end
      if answer and answer.headers.connection ~= "close" then
        client.send(request)
      else
        client.close()
        table.remove(open, i)
      end
    end
    if not told and answered >= clients * 5 then
      assert(os.execute("kill -TERM " .. host:pid()))
      told = true
    end
  end
  return answered, dropped
end

--- Calls `hello` again and again over a few connections while `slow` others are never done
--- (slow_clients.lua), and for as long as more() says so. What the slow ones saw, with `answered`,
--- `p99_ms` and `slowest_ms` of the others. options.rude: they also come, call one of these
--- operations and leave; options.token: theirs.
function service.among_slow(host, token, slow, more, options)
  options = options or {}
  local crowd = companion.start(function(fifo)
    return (
      "ulimit -n $(ulimit -Hn); exec lua5.4 '%s/spec/support/client/slow_clients.lua' %d %d %s \z
       '%s' %s > '%s'"):format(
      moonpool.app_dir, host.port, slow, options.token or token, options.rude or "hello",
      options.rude and "rude" or "", fifo)
  end)
  assert(crowd:hear() == "ready")
  local request = ("POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
    :format(token)
  local clients, answered, took = {}, 0, {}
  for i = 1, 5 do clients[i] = assert(http.connect(host.port)) end
  repeat
    local client, from = clients[answered % #clients + 1], moonpool.host.clock()
    local answer = client.send(request).answer()
    assert(answer and answer.status == 200, answer and answer.head .. answer.body or "no answer")
    answered = answered + 1
    took[answered] = (moonpool.host.clock() - from) * 1000
  until not more(answered)
  for _, client in ipairs(clients) do client.close() end
  crowd.orders:close() -- its end is the end of its stdin
  local seen = assert(load(crowd:hear()))()
  crowd.answers:close()
  crowd.folder.remove()
  table.sort(took)
  seen.answered, seen.slowest_ms = answered, took[answered]
  seen.p99_ms = took[math.ceil(answered * 0.99)]
  return seen
end

return service
