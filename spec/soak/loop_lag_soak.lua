-- The worst inputs that are known for each place where the host works for a call, one after the
-- other: no turn of the event loop may keep others waiting for longer than LIMIT_MS, on a quiet
-- machine. Where others use the machine too, the limit is as much longer as work of this process
-- takes there (`stretched`).
local bodies  = require "spec.support.data.bodies"
local clock   = require "moonpool.host".clock
local http    = require "spec.support.client.http"
local page    = require "spec.support.client.metrics_page"
local service = require "spec.support.process.http_service"

local LIMIT_MS, AT_ONCE = 20, tonumber(os.getenv "MP_AT_ONCE") or 100

local BURST_MS, BURSTS = 10, 50

-- How many times longer than its CPU time a burst of work has taken at worst.
local function stretched()
  local worst = 1
  for _ = 1, BURSTS do
    local cpu, began = os.clock(), clock()
    repeat until os.clock() - cpu >= BURST_MS / 1000
    worst = math.max(worst, (clock() - began) * 1000 / BURST_MS)
  end
  return worst
end

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
      local clients, before = {}, stretched()
      for i = 1, AT_ONCE do clients[i] = assert(http.connect(host.port)).send(text) end
      local statuses = {}
      for _, client in ipairs(clients) do
        local status = assert(client.answer()).status
        statuses[status] = (statuses[status] or 0) + 1
        client.close()
      end
      local seen = page.read(service.ask(host, "GET", "/metrics", { token = token }).body)
      host:stop()
      local stretch = math.max(before, stretched())
      local longest = seen:value("moonpool_loop_lag_longest_seconds") * 1000
      local told = {}
      for status, count in pairs(statuses) do
        told[#told + 1] = ("%d x %d"):format(count, status)
      end
      print(("\n%-14s longest turn %.1f ms, work takes %.1f times as long here; %s"):format(name,
        longest, stretch, table.concat(told, ", ")))
      assert.is_true(longest <= LIMIT_MS * stretch, longest .. " ms")
    end)
  end
end)
