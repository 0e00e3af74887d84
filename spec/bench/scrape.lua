-- What a scrape costs the host's loop: CPU time of the thread that runs it, from the request to the
-- last byte, of a real `moonpool serve`; beside that of GET /health, which is what the same request
-- costs without a page.
--   moonpool bench scrape [--series 1000] [--scrapes 2000]
local moonpool = require "moonpool"
local cluster  = require "spec.support.process.cluster"
local http     = require "spec.support.client.http"
local json     = require "moonpool.json"
local service  = require "spec.support.process.http_service"
package.path   = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local process  = require "bench.lib.process"
local given    = require "bench.lib.options"({ series = 1000, scrapes = 2000 }, ...)

-- Counters of a script's own, and histograms, of a hundred series each, until the page has enough.
local fill = [[
local moonpool, metrics = require "moonpool", require "moonpool.metrics"
return moonpool.operation { summary = "more series", run = function(tx, input)
  local name = "bench_" .. input.number .. "_total"
  local counter = metrics.counter(name, { help = "Of the bench.", labels = { "kind" } })
  for i = 1, input.count do counter:add(i * 1.5, { kind = "kind " .. i }) end
end }]]

local own = cluster.start()
local _ <close> = setmetatable({}, { __close = function() own:stop() end })
local env = {}
for name, value in pairs(own.env) do env[name] = value end
local host = service.start({ ["scripts/fill.lua"] = fill }, { env = env })
local _ <close> = setmetatable({}, { __close = function() host:stop() end })
local token = json.decode(own:run "token create --scopes ops:*,monitor --json":match "{.*}").token

local function page() return service.ask(host, "GET", "/metrics", { token = token }).body end
local function series_of(text) return select(2, text:gsub("\n[^#\n]", "")) end

local number, last = 0, page()
while series_of(last) < given.series do
  number = number + 1
  local input = { number = number, count = math.min(100, given.series - series_of(last)) }
  assert(service.ask(host, "POST", "/api/ops/fill", { token = token, json = input }).status == 200)
  last = page()
end

-- Of the thread that runs the loop: µs on a CPU.
local function loop_us()
  local ns = process.read_file(("/proc/%d/task/%d/schedstat"):format(host:pid(), host:pid()))
    :match "^%d+"
  return tonumber(ns) / 1000
end

local client = assert(http.connect(host.port))
local function cost(path, times)
  local request = ("GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n"):format(path,
    token)
  for _ = 1, times // 10 do assert(client.send(request).answer().status == 200) end
  local before, took = loop_us(), {}
  for i = 1, times do
    local from = moonpool.host.clock()
    client.send(request).answer()
    took[i] = (moonpool.host.clock() - from) * 1e6
  end
  local us = (loop_us() - before) / times
  table.sort(took)
  print(("%-10s %6.0f µs of the loop each; seen by a client: median %.0f µs, p99 %.0f µs")
    :format(path, us, took[times // 2],
    took[math.ceil(times * 0.99)]))
end

print(("%d series, %d bytes, %d scrapes one after another"):format(series_of(last), #last,
  given.scrapes))
cost("/metrics", given.scrapes)
cost("/health", given.scrapes)
client.close()
