-- A `moonpool serve` that listens for HTTP, and requests to it with a token.
local command  = require "spec.support.command"
local http     = require "spec.support.http"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local serving  = require "spec.support.serving"

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

--- A new token of the specs' database; `args` as on the command line.
---@return string token, string id
function service.token(args)
  local output, code = command.run("token create --json " .. (args or ""), { dir = moonpool.app_dir })
  assert(code == 0, output)
  local made = json.decode(output)
  return made.token, made.id
end

--- One request; options: token, headers, body (text), json (a value). The answer has `json` if its body is JSON.
function service.ask(host, method, path, options)
  options = options or {}
  local headers = {}
  for name, value in pairs(options.headers or {}) do headers[name] = value end
  if options.token then headers.Authorization = "Bearer " .. options.token end
  local body = options.body or options.json ~= nil and json.encode(options.json) or nil
  if body and not headers["Content-Type"] then headers["Content-Type"] = "application/json" end
  local answer = assert(http.request(host.port, method, path, { headers = headers, body = body }), "no answer")
  if (answer.headers["content-type"] or ""):find "^application/json" and answer.body ~= "" then
    answer.json = json.decode(answer.body)
  end
  return answer
end

return service
