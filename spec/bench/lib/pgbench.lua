-- Peers that are pgbench with a script (statement by statement, or one call of a function):
-- prepared statements, its transaction log read for the quantiles. It tries a transaction again at
-- once, at most ten times.
local process = require "bench.lib.process"

local pgbench = {}

local function quantile(sorted, q)
  return #sorted > 0 and sorted[math.min(#sorted, math.floor(q * #sorted) + 1)] or 0.0
end

-- Each line: client, number, microseconds or why it failed, script, second and microsecond of its
-- end, retries.
local function read_log(path)
  local done, failed, retries, first_us = {}, 0, 0, math.huge
  for text in io.lines(path) do
    local took, second, micro, again = text:match "^%d+ %d+ (%S+) %d+ (%d+) (%d+) ?(%d*)"
    retries = retries + (tonumber(again) or 0)
    took = tonumber(took)
    if took then
      local ended = tonumber(second) * 1000000 + tonumber(micro)
      done[#done + 1] = { ended = ended, took = took }
      first_us = math.min(first_us, ended - took)
    else
      failed = failed + 1
    end
  end
  return done, failed, retries, first_us
end

-- The levels as PGOPTIONS wants them: a blank inside of a value has a backslash.
local levels = { rc = "read\\ committed", ser = "serializable" }

---@class bench.pgbench_options
---@field script string
---@field cluster bench.cluster
---@field folder string
---@field clients integer
---@field seconds number
---@field warmup number
---@field defines table<string, number>   variables of the script
---@field per_call? integer               ops that one transaction of the script is
---@field isolation "rc" | "ser"

--- Runs pgbench with a script on the database `bench`.
---@param options bench.pgbench_options
---@return table record
---@return bench.measured
function pgbench.run(options)
  local total_s = math.max(1, math.floor(options.seconds + options.warmup + 0.5))
  process.run("rm -f " .. process.quoted(options.folder) .. "/log.*")
  local words = {
    "env", "PGOPTIONS=-c default_transaction_isolation=" .. levels[options.isolation],
    options.cluster.bin .. "/pgbench", "-n", "-M", "prepared", "-h", "127.0.0.1", "-p",
    options.cluster.port, "-U", "postgres",
    "-c", options.clients, "-j", 1, "-T", total_s, "--max-tries", 11,
    "-l", "--log-prefix", options.folder .. "/log", "-f", options.script,
  }
  for name, value in pairs(options.defines) do
    words[#words + 1] = "-D"
    words[#words + 1] = name .. "=" .. value
  end
  words[#words + 1] = "bench"
  local measured = process.measure(options.folder, words, total_s, options.folder)
  if measured.exit ~= 0 then return { failed = measured.stderr:sub(-300) }, measured end

  local path = process.run("ls " .. process.quoted(options.folder) .. "/log.*"):match "[^\n]+"
  local done, failed, retries, first_us = read_log(path)
  local from, to = first_us + options.warmup * 1e6,
    first_us + (options.warmup + options.seconds) * 1e6
  local latencies = {}
  for _, entry in ipairs(done) do
    if entry.ended >= from and entry.ended <= to then
      latencies[#latencies + 1] = entry.took / 1000
    end
  end
  table.sort(latencies)
  local last_error = ""
  for text in measured.stderr:gmatch "[^\n]+" do
    if text:lower():find "error" or text:lower():find "abort" then
      failed, last_error = failed + 1, text:sub(1, 200)
    end
  end
  local per = options.per_call or 1
  return {
    clients = options.clients, isolation = options.isolation, ops = #latencies * per,
    errors = failed, retries = retries, seconds = options.seconds,
    ops_per_s = #latencies * per / options.seconds,
    p50_ms = quantile(latencies, 0.5), p99_ms = quantile(latencies, 0.99),
    p999_ms = quantile(latencies, 0.999), max_ms = latencies[#latencies] or 0.0,
    ops_total = #done * per, cpu_s = measured.cpu_s * options.seconds / total_s,
    rss_kb = measured.rss_kb, last_error = last_error,
  }, measured
end

return pgbench
