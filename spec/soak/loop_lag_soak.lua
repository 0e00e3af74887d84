-- The worst inputs that are known for each place where the host works for a call, one after the
-- other: no turn of the event loop may keep others waiting for longer than LIMIT_MS.
local bodies  = require "spec.support.bodies"
local http    = require "spec.support.http"
local page    = require "spec.support.metrics_page"
local service = require "spec.support.http_service"

local LIMIT_MS, AT_ONCE = 20, tonumber(os.getenv "MP_AT_ONCE") or 100

describe("the longest turn of the loop", function()
  local names = {}
  for name in pairs(bodies.all) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it(("with %d bodies of %s at once"):format(AT_ONCE, name), function()
      local host = service.start(bodies.scripts)
      local token = service.token "--scopes ops:*,monitor"
      local text = (
        "POST /api/ops/bodies HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: \z
          %d\r\n\r\n%s")
        :format(token, #bodies.all[name], bodies.all[name])
      service.ask(host, "POST", "/api/ops/hello", { token = token, body = "{}" })
      local clients = {}
      for i = 1, AT_ONCE do clients[i] = assert(http.connect(host.port)).send(text) end
      local statuses = {}
      for _, client in ipairs(clients) do
        local status = assert(client.answer()).status
        statuses[status] = (statuses[status] or 0) + 1
        client.close()
      end
      local seen = page.read(service.ask(host, "GET", "/metrics", { token = token }).body)
      host:stop()
      local longest = seen:value("moonpool_loop_lag_longest_seconds") * 1000
      local told = {}
      for status, count in pairs(statuses) do
        told[#told + 1] = ("%d x %d"):format(count, status)
      end
      print(("\n%-14s longest turn %.1f ms; %s"):format(name, longest, table.concat(told, ", ")))
      assert.is_true(longest <= LIMIT_MS, longest .. " ms")
    end)
  end
end)
