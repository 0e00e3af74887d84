-- The measuring loop of the peers that are operations of the host: N client tasks call, and one
-- JSON line tells.
local moonpool = require "moonpool"
local host     = require "moonpool.host"
local metrics  = require "moonpool.metrics"
local line     = require "bench.lib.line"
local options  = require "bench.lib.options"
local process  = require "bench.lib.process"

local meter = {}

local levels = { rc = "read committed", ser = "serializable" }

--- A peer's options, with their defaults; each has these, and `more`.
---@param more table<string, string | number>
---@return table
function meter.defaults(more)
  local all = { clients = 20, seconds = 4, warmup = 1, isolation = "rc", db = "" }
  for name, value in pairs(more) do all[name] = value end
  return all
end

--- True if the arguments name a database, so that the bench is one run of the operation there.
function meter.alone(...)
  for _, word in ipairs { ... } do
    if word == "--db" then return true end
  end
  return false
end

--- The isolation of `--isolation` as operations spell it.
function meter.level(given)
  return levels[given.isolation]
    or options.refuse("--isolation is rc or ser, not %s", given.isolation)
end

--- The ids of the seed as text, made once: dealerships[d] and sellers[d][i].
function meter.ids(dealership_count)
  local dealerships, sellers = {}, {}
  for d = 1, dealership_count do
    dealerships[d] = string.format("00000000-0000-0000-0000-%012d", 1000000 + d)
    sellers[d] = {}
    for i = 1, 5 do
      sellers[d][i] = string.format("00000000-0000-0000-0000-%012d", 2000000 + (d - 1) * 5 + i)
    end
  end
  return dealerships, sellers
end

local function quantile(sorted, q)
  return #sorted > 0 and sorted[math.min(#sorted, math.floor(q * #sorted) + 1)] * 1000 or 0.0
end

--- Measures and prints the line. `new_client()` gives a function that does the work once; what it
--- does besides counts as the host's.
---@param given table              the options
---@param new_client fun(): fun()
---@param labels? table<string, string | number>   further fields of the line
function meter.run(given, new_client, labels)
  local clock = host.clock
  local latencies, measured, total, errors, last_error = {}, 0, 0, 0, ""
  local from = clock() + given.warmup
  local to = from + given.seconds

  local function loop(once)
    local began = clock()
    while began < to do
      once()
      local ended = clock()
      total = total + 1
      if ended >= from and ended <= to then
        measured = measured + 1
        latencies[measured] = ended - began
      end
      began = ended
    end
  end

  local tasks = {}
  for i = 1, given.clients do
    tasks[i] = moonpool.spawn(function()
      local once = new_client()
      repeat
        -- not around each call, for it would be measured with it
        local ok, failure = pcall(loop, once)
        if not ok then errors, last_error = errors + 1, tostring(failure) end
      until ok
    end)
  end
  moonpool.sleep(math.max(0, from - clock()))
  local cpu_from = host.cpu()
  moonpool.sleep(math.max(0, to - clock()))
  local cpu_to = host.cpu()
  for _, task in ipairs(tasks) do task:wait() end

  table.sort(latencies)
  local status = process.read_file "/proc/self/status" or ""
  local record = {
    clients = given.clients, isolation = given.isolation, ops = measured, errors = errors,
    retries = metrics.transactions().retried_transactions, seconds = given.seconds,
    ops_per_s = measured / given.seconds, p50_ms = quantile(latencies, 0.5),
    p99_ms = quantile(latencies, 0.99), p999_ms = quantile(latencies, 0.999),
    max_ms = quantile(latencies, 1), ops_total = total, cpu_s = cpu_to - cpu_from,
    rss_kb = math.tointeger(status:match "VmHWM:%s*(%d+)") or 0, last_error = last_error,
  }
  for name, value in pairs(labels or {}) do record[name] = value end
  print(line.encode(record))
end

return meter
