-- What all comparisons share: a private durable cluster, a fresh copy of the same database for each
-- run, peers in turns, rounds, checks of what the tables hold afterwards; JSON lines, then a table.
local app_dir    = require "moonpool".app_dir
local cluster    = require "bench.lib.cluster"
local line       = require "bench.lib.line"
local options    = require "bench.lib.options"
local pgbench    = require "bench.lib.pgbench"
local process    = require "bench.lib.process"
local report     = require "bench.lib.report"
local versions   = require "moonpool.migrate.system_versions"

---@class bench.peer
---@field run fun(pg: bench.cluster, case: table, folder: string): table, bench.measured
---@field template? string   database to copy, `bench_seed` by default
---@field once? boolean      one run for each case, at the end, for information
---@field prepare? fun(pg: bench.cluster)   before each run

---@class bench.workload
---@field unit string                 what one op is, in the plural
---@field bases string[]              peers to whose rates all others are put in proportion
---@field cases string[]
---@field parse fun(name: string): table   a case from its name; it may refuse
---@field peers string[] | table<string, bench.peer>   names in order, and the peers by name
---@field seed fun(pg: bench.cluster)       fills the database `bench_seed`
---@field seeds? table<string, fun(pg: bench.cluster)>   further templates, if needed
---@field tables string[]             read before each run, so that they are in memory
---@field check fun(pg: bench.cluster, peer: bench.peer, commits: integer, case: table): string
---   "ok", or what is wrong with what the database holds
---@field goals table[]               see report.lua

local comparison = {}

--- Options that each comparison has, with their defaults.
comparison.defaults = { rounds = 3, seconds = 4, warmup = 1, clients = 20, noise = 8, cases = "",
                        peers = "", ["flush-ms"] = 0 }

app_dir = process.run("cd " .. process.quoted(app_dir) .. " && pwd"):match "[^\n]+"
comparison.app_dir = app_dir

local function progress(format, ...)
  io.stderr:write(string.format(format, ...), "\n")
end

local function executable()
  local path = os.getenv "MOONPOOL_BIN" or "build/moonpool"
  return path:sub(1, 1) == "/" and path or app_dir .. "/" .. path
end

--- Words of a command of the host: nothing of the caller's own database reaches it.
---@param environment string[]   NAME=value
---@return string[]
function comparison.moonpool_command(environment, ...)
  local words = { "env" }
  for _, name in ipairs { "DATABASE_URL", "MOONPOOL_OWNER_URL", "DB_POOL_MIN", "DB_POOL_MAX",
                          "PGOPTIONS" } do
    words[#words + 1] = "-u"
    words[#words + 1] = name
  end
  for _, setting in ipairs(environment) do words[#words + 1] = setting end
  for _, word in ipairs { executable(), ... } do words[#words + 1] = word end
  return words
end

-- The records of several hosts that worked beside each other, as one.
local function together(records)
  local sum = records[1]
  for i = 2, #records do
    local record = records[i]
    for _, name in ipairs { "ops", "errors", "retries", "ops_per_s", "ops_total", "cpu_s",
                            "clients", "rss_kb" } do
      sum[name] = sum[name] + record[name]
    end
    for _, name in ipairs { "p50_ms", "p99_ms", "p999_ms", "max_ms" } do
      sum[name] = math.max(sum[name], record[name])
    end
    if record.last_error ~= "" then sum.last_error = record.last_error end
  end
  return sum
end

-- $1 times the same command, each as a child that is waited for.
local beside = [[
n=$1; shift; pids=; failed=0
for _ in $(seq "$n"); do "$@" & pids="$pids $!"; done
for pid in $pids; do wait "$pid" || failed=1; done
exit $failed]]

--- A peer that is `moonpool bench NAME` on the run's database; `extra(case)` gives its further
--- arguments, and case.hosts says how many hosts share its clients and connections.
---@param name string
---@param given table    options of the comparison
---@param how? { role?: string, conns?: integer, extra?: fun(case: table): table }
---@return fun(pg: bench.cluster, case: table, folder: string): table, bench.measured
function comparison.moonpool_peer(name, given, how)
  how = how or {}
  return function(pg, case, folder)
    local hosts = case.hosts or 1
    local words = comparison.moonpool_command(
      { "DB_POOL_MAX=" .. (how.conns or 20) // hosts },
      "bench", name, "--db", pg:url("bench", how.role), "--clients",
      math.max(1, (case.clients or given.clients) // hosts),
      "--seconds", given.seconds, "--warmup", given.warmup,
      table.unpack(how.extra and how.extra(case) or {}))
    if hosts > 1 then
      words = { "bash", "-c", beside, "bash", hosts, table.unpack(words) }
    end
    local measured = process.measure(folder, words, given.warmup + given.seconds, app_dir)
    local records = {}
    for text in measured.stdout:gmatch "[^\n]+" do records[#records + 1] = line.decode(text) end
    if measured.exit == 0 and #records == hosts then return together(records), measured end
    local said = measured.stderr ~= "" and measured.stderr or measured.stdout
    return { failed = string.format("exit %s: %s", measured.exit, said:sub(-600)) }, measured
  end
end

--- A peer that is pgbench with a script of spec/bench. `how`: further fields of
--- bench.pgbench_options; `defines(case)` its variables.
---@param script string
---@param given table
---@param how? table
function comparison.pgbench_peer(script, given, how)
  how = how or {}
  return function(pg, case, folder)
    local path = script:sub(1, 1) == "/" and script or app_dir .. "/spec/bench/" .. script
    local run = { script = path, cluster = pg, folder = folder, seconds = given.seconds,
                  warmup = given.warmup,
                  clients = math.min(how.clients or case.clients or given.clients, how.conns or 20),
                  isolation = case.isolation or "rc", per_call = how.per_call,
                  defines = how.defines and how.defines(case) or {} }
    return pgbench.run(run)
  end
end

--- Makes the table by which a lost COMMIT is resolved, in the database `bench_seed`.
function comparison.seed_witness(pg)
  local statements = { "create schema moonpool" }
  for _, sql in ipairs(versions[1].statements) do
    if not sql:find ":definer" then statements[#statements + 1] = sql end
  end
  pg:psql("bench_seed", table.unpack(statements))
end

-- A run -------------------------------------------------------------------------------------------

local function run_once(workload, pg, peer, case, given, folder)
  pg:copy("bench", peer.template or "bench_seed", workload.tables)
  if peer.prepare then peer.prepare(pg) end
  local server_from, children = pg:cpu()
  local machine_from = process.machine_cpu()
  local record, measured = peer.run(pg, case, folder)
  local server_to = pg:cpu(children)
  local machine = process.machine_cpu() - machine_from
  record.foreign = 100 * math.max(0, machine - (server_to - server_from) - measured.cpu_s) / (
    (given.warmup + given.seconds) * process.cores())
  if record.failed then return record end
  record.client_us = record.cpu_s / math.max(1, record.ops) * 1e6
  record.server_us = (server_to - server_from) / math.max(1, record.ops_total) * 1e6
  record.retries_pct = 100 * record.retries / math.max(1, record.ops_total)
  record.p999_x = record.p999_ms / math.max(0.001, record.p50_ms)
  record.check = workload.check(pg, peer, record.ops_total, case)
  return record
end

local function run(workload, pg, name, case, given, round, folder)
  local best
  for attempt = 1, 2 do
    local record = run_once(workload, pg, workload.peers[name], case, given, folder)
    record.round, record.peer, record.case = round, name, case.name
    if best and (record.failed or record.foreign >= best.foreign) then break end
    best = record
    if record.failed or record.foreign <= given.noise then break end
    if attempt == 1 then
      progress("%s %s: other processes took %.0f %% of the machine; once more", case.name, name,
               record.foreign)
    end
  end
  print(line.encode(best))
  io.stdout:flush()
  progress("%s  round %d  %-12s %s", case.name, round, name, best.failed or
           string.format("%.0f %s/s, client %.0f us, server %.0f us, %s", best.ops_per_s,
                         workload.unit, best.client_us, best.server_us, best.check))
  return best
end

-- All of it ---------------------------------------------------------------------------------------

local function chosen(text, known, what)
  local names = {}
  for name in text:gmatch "[^,]+" do names[#names + 1] = name end
  if #names == 0 then return known end
  if what then
    for _, name in ipairs(names) do
      if not known[name] then
        options.refuse("unknown %s %s: these are known: %s", what, name, table.concat(known, ", "))
      end
    end
  end
  return names
end

--- Runs the comparison and prints it. Ends with an error if a run failed, or left other rows than
--- it reported.
---@param workload bench.workload
---@param given table   options: those of comparison.defaults, and what the peers read
function comparison.run(workload, given)
  local cases, peers = {}, chosen(given.peers, workload.peers, "peer")
  for i, name in ipairs(chosen(given.cases, workload.cases)) do
    cases[i] = workload.parse(name)
    cases[i].name = name
  end
  if not process.read_file(executable()) then
    error(string.format("there is no executable %s: build it, or name it in MOONPOOL_BIN",
                        executable()), 0)
  end

  local pg <close> = cluster.new(given["flush-ms"])
  progress("PostgreSQL %s on port %d, %d cores shared by server and clients", pg.version, pg.port,
           process.cores())
  local folder = pg.dir .. "/run"
  process.run("mkdir " .. process.quoted(folder))
  pg:psql("postgres", "create database bench_seed")
  workload.seed(pg)

  local records, names = {}, {}
  local function all_peers(round, once)
    for _, case in ipairs(cases) do
      for _, name in ipairs(peers) do
        if (workload.peers[name].once or false) == once then
          records[#records + 1] = run(workload, pg, name, case, given, round, folder)
        end
      end
    end
  end
  for round = 1, given.rounds do all_peers(round, false) end
  for _, name in ipairs(peers) do
    local seed = (workload.seeds or {})[workload.peers[name].template]
    if seed then seed(pg) end
  end
  all_peers(1, true)

  local bad = 0
  for i, case in ipairs(cases) do names[i] = case.name end
  for _, record in ipairs(records) do
    if record.failed or record.check ~= "ok" then bad = bad + 1 end
  end
  print("\n" .. report.text(records, names, workload))
  io.stdout:flush()
  if bad > 0 then
    error(string.format("%d of %d runs failed or left other rows than they reported: see failed \z
      and check above", bad, #records), 0)
  end
end

return comparison
