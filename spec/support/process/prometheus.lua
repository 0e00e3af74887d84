-- A Prometheus (Debian's) that scrapes a host with the files of scripts/monitoring, faster than
-- they say.
local command  = require "spec.support.process.command"
local http     = require "spec.support.client.http"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local uv       = require "luv"

local prometheus = {}
prometheus.__index = prometheus

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function free_port()
  local tcp = uv.new_tcp()
  tcp:bind("127.0.0.1", 0)
  local port = tcp:getsockname().port
  tcp:close()
  uv.run "nowait"
  return port
end

--- Runs promtool; its output, and whether it was content.
function prometheus.tool(args)
  local pipe = assert(io.popen("promtool " .. args .. " 2>&1"))
  local said = pipe:read "a"
  return said, pipe:close() == true
end

--- Starts one that scrapes 127.0.0.1:port with the token.
function prometheus.start(port, token)
  local monitoring = moonpool.app_dir .. "/scripts/monitoring/"
  local self = setmetatable({ port = free_port() }, prometheus)
  local function quick(text) return (text:gsub("(%l+): %d+s\n", "%1: 200ms\n")) end
  local config, count = quick(read(monitoring .. "prometheus.yml")):gsub("127%.0%.0%.1:5000",
    "127.0.0.1:" .. port)
  assert(count == 1)
  self.folder = command.folder { ["prometheus.yml"] = config,
                                 ["rules.yml"] = quick(read(monitoring .. "rules.yml")),
                                 token = token }
  assert(
    os.execute(("cd '%s' && { prometheus --config.file=prometheus.yml --storage.tsdb.path=data " ..
    "--web.listen-address=127.0.0.1:%d > log 2>&1 & echo $! > pid; }"):format(self.folder.path,
      self.port)))
  self.pid = tonumber(read(self.folder.path .. "/pid"))
  self:await("its own start", function()
    local client = http.connect(self.port)
    if not client then return false end
    client.close()
    return http.request(self.port, "GET", "/-/ready").status == 200
  end)
  return self
end

--- Waits until fn() is true; what it has logged is told if that is never so.
function prometheus:await(what, fn)
  local ok, e = pcall(scratch.await, "Prometheus: " .. what, function()
    moonpool.sleep(0.02)
    return fn()
  end)
  if ok then return e end
  local log = self:log()
  self:kill()
  error(tostring(e) .. "\n" .. log, 2)
end

function prometheus:log() return read(self.folder.path .. "/log") end

--- GET /api/v1/PATH; params are escaped. -> data
function prometheus:get(path, params)
  local query = {}
  for name, value in pairs(params or {}) do
    query[#query + 1] = name .. "=" .. value:gsub("[^%w]", function(c)
      return ("%%%02X"):format(c:byte())
    end)
  end
  local answer = assert(
    http.request(self.port, "GET", "/api/v1/" .. path .. "?" .. table.concat(query, "&")))
  local body = json.decode(answer.body)
  assert(body.status == "success",
         (body.error or "no answer") .. ": " .. (params and params.query or path))
  return body.data
end

--- The series that an expression gives now.
function prometheus:query(expression) return self:get("query", { query = expression }).result end

function prometheus:kill()
  os.execute(("kill -KILL %d 2>/dev/null"):format(self.pid))
  self.folder.remove()
end

function prometheus:stop()
  os.execute(("kill -TERM %d 2>/dev/null"):format(self.pid))
  self:await("its end", function()
    return not os.execute(("kill -0 %d 2>/dev/null"):format(self.pid))
  end)
  self.folder.remove()
end

return prometheus
