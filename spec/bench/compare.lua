-- Compares the host with pgbench on the deal workload: a private durable cluster, a fresh copy of
-- the same database for each run, interleaved rounds, checks of what the tables hold afterwards;
-- JSON lines, then a table.
--   moonpool bench [compare] [--rounds 3] [--seconds 4] [--warmup 1] [--clients 20] [--noise 8]
--                            [--cases new-100-rc,new-100-ser,new-1-ser]
--                            [--peers moonpool,groups,pgbench,plpgsql,create_deal]
-- A case is workload-dealerships-isolation; on one dealership every deal needs the same row. Peers:
--   moonpool     deal.lua, the executable $MOONPOOL_BIN or build/moonpool: a transaction for each
--                deal
--   groups       the same with group = 20: calls that wait share a transaction, with rc also those
--                of other lanes (groups = 5)
--   pgbench      new.sql, statement by statement
--   plpgsql      new-func.sql, one call: the practical upper limit
--   create_deal  real.lua, the project's own operation on its own schema; once for each case, at
--                the end, for information
-- A run in which other processes took more than --noise per cent of the machine is repeated once,
-- and the quieter one counts. PGBIN names the folder of PostgreSQL's programs (15 or later), if not
-- Debian's newest.
local app_dir = (function()
  local ok, moonpool = pcall(require, "moonpool")
  return ok and moonpool.app_dir or "."
end)()
package.path = app_dir .. "/spec/?.lua;" .. package.path

local cluster      = require "bench.lib.cluster"
local line         = require "bench.lib.line"
local options      = require "bench.lib.options"
local pgbench      = require "bench.lib.pgbench"
local process      = require "bench.lib.process"
local report       = require "bench.lib.report"

local given = options({
  rounds = 3, seconds = 4, warmup = 1, clients = 20, noise = 8,
  cases = "new-100-rc,new-100-ser,new-1-ser",
  peers = "moonpool,groups,pgbench,plpgsql,create_deal",
}, ...)

app_dir = process.run("cd " .. process.quoted(app_dir) .. " && pwd"):match "[^\n]+"

local function progress(format, ...)
  io.stderr:write(string.format(format, ...), "\n")
end

local function executable()
  local path = os.getenv "MOONPOOL_BIN" or "build/moonpool"
  return path:sub(1, 1) == "/" and path or app_dir .. "/" .. path
end

local function split(text)
  local parts = {}
  for part in text:gmatch "[^,]+" do
    parts[#parts + 1] = part
    parts[part] = true
  end
  return parts
end

local function parse_case(name)
  local dealerships, isolation = name:match "^new%-(%d+)%-(%a+)$"
  dealerships = math.tointeger(tonumber(dealerships))
  if not dealerships or dealerships < 1 or dealerships > 100
      or (isolation ~= "rc" and isolation ~= "ser") then
    options.refuse(
      "unknown case %s: a case is new-DEALERSHIPS-rc or new-DEALERSHIPS-ser, with 1 to 100 \z
        dealerships", name)
  end
  return { name = name, dealerships = dealerships, isolation = isolation }
end

-- The databases -----------------------------------------------------------------------------------

local tables = { "dealership_settings", "users", "customers", "deals", "deal_scenarios",
                 "audit_log", "deal_number_sequences" }

-- Words in front of a moonpool command: nothing of the caller's own database reaches it.
local function moonpool_command(environment, ...)
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

local function seed_deal(pg)
  pg:psql("postgres", "create database bench_seed")
  pg:psql("bench_seed", "@" .. app_dir .. "/spec/bench/schema.sql", "vacuum (freeze, analyze)")
end

-- The project's own schema, as `moonpool migrate` makes it.
local function seed_real(pg)
  pg:psql("postgres", "create database real_seed")
  local roles = process.run("cd " .. process.quoted(app_dir) .. " && "
                            .. process.command(moonpool_command({}, "db", "roles")))
  pg:psql("real_seed", roles)
  process.run("cd " .. process.quoted(app_dir) .. " && " .. process.command(moonpool_command({
    "DATABASE_URL=" .. pg:url("real_seed", "moonpool_app"),
    "MOONPOOL_OWNER_URL=" .. pg:url("real_seed", "moonpool_owner"),
  }, "migrate", "up")))
  pg:psql("real_seed", "@" .. app_dir .. "/spec/bench/real.sql", "vacuum (freeze, analyze)")
  return roles
end

-- Peers -------------------------------------------------------------------------------------------

-- A peer that is a command: it prints its JSON line last.
local function run_command(words, folder)
  local measured = process.measure(folder, words, given.warmup + given.seconds, app_dir)
  local last = measured.stdout:match "([^\n]+)\n*$"
  local record = measured.exit == 0 and last and line.decode(last)
  if not record then
    local said = measured.stderr ~= "" and measured.stderr or measured.stdout
    record = { failed = string.format("exit %s: %s", measured.exit, said:sub(-600)) }
  end
  return record, measured
end

-- `grouping(case)`: what else is said.
local function moonpool_peer(script, role, grouping)
  return function(pg, case, folder)
    return run_command(moonpool_command({}, "bench", script, "--clients", given.clients, "--conns",
                                        20,
      "--seconds", given.seconds, "--warmup", given.warmup, "--dealerships", case.dealerships,
      "--isolation", case.isolation,
      "--workload", "new", "--db", pg:url("bench", role),
      table.unpack(grouping and grouping(case) or {})), folder)
  end
end

-- With a snapshot isolation only the calls of one lane share a transaction.
local function in_groups(case)
  return case.isolation == "rc" and { "--group", 20, "--groups", 5 } or { "--group", 20 }
end

local function pgbench_peer(peer, script)
  return function(pg, case, folder)
    return pgbench.run {
      peer = peer, script = app_dir .. "/spec/bench/" .. script, cluster = pg, folder = folder,
      clients = math.min(given.clients, 20), -- one connection each
      seconds = given.seconds, warmup = given.warmup, dealerships = case.dealerships,
      isolation = case.isolation,
    }
  end
end

local peers = {
  moonpool    = { name = "moonpool", run = moonpool_peer "deal", template = "bench_seed",
                  audits = 1 },
  groups      = { name = "groups", run = moonpool_peer("deal", nil, in_groups),
                  template = "bench_seed", audits = 1 },
  pgbench     = { name = "pgbench", run = pgbench_peer("pgbench", "new.sql"),
                  template = "bench_seed", audits = 1 },
  plpgsql     = { name = "plpgsql", run = pgbench_peer("plpgsql", "new-func.sql"),
                  template = "bench_seed", audits = 1 },
  create_deal = { name = "moonpool-create_deal", run = moonpool_peer("real", "moonpool_app"),
                  template = "real_seed",
                  audits = 2 }, -- the new customer has an entry of its own
}

-- A run -------------------------------------------------------------------------------------------

local counts = [[
select (select count(*) from deals) - 2000,
       (select count(*) from deal_scenarios) - 2000,
       (select count(*) from audit_log) - 2000,
       (select count(*) from customers) - 20000,
       (select sum(current_sequence) from deal_number_sequences) - 2000,
       (select count(*) from (select from deals group by dealership_id,
         deal_number having count(*) > 1) as twice),
       (select count(*) from deals d
         where not exists (select from deal_scenarios s where s.id = d.active_scenario_id
           and s.deal_id = d.id))]]

-- Does the database hold exactly what the peer says it has committed?
local function check(pg, peer, commits)
  local found = pg:psql("bench", counts)
  local wanted = { commits, commits, commits * peer.audits, commits, commits, 0, 0 }
  for i, what in ipairs { "deals", "scenarios", "audit entries", "customers", "numbers taken",
                          "duplicate numbers",
                          "deals without scenario" } do
    if tonumber(found[i]) ~= wanted[i] then
      return string.format("%d commits reported, but %s %s found, not %d", commits, found[i], what,
                           wanted[i])
    end
  end
  return "ok"
end

local function run_once(pg, peer, case, folder, prepare)
  pg:copy("bench", peer.template, tables)
  if prepare then prepare() end
  local server_from, children = pg:cpu()
  local machine_from = process.machine_cpu()
  local record, measured = peer.run(pg, case, folder)
  local server_to = pg:cpu(children)
  local machine = process.machine_cpu() - machine_from
  record.peer, record.case = peer.name, case.name
  local duration_s = given.warmup + given.seconds
  record.foreign = 100 * math.max(0, machine - (server_to - server_from) - measured.cpu_s) / (
    duration_s * process.cores())
  if record.failed then return record end
  record.client_us = record.cpu_s / math.max(1, record.ops) * 1e6
  record.server_us = (server_to - server_from) / math.max(1, record.ops_total) * 1e6
  record.check = check(pg, peer, record.ops_total)
  return record
end

local function run(pg, peer, case, round, folder, prepare)
  local best
  for attempt = 1, 2 do
    local record = run_once(pg, peer, case, folder, prepare)
    record.round = round
    if best and (record.failed or record.foreign >= best.foreign) then break end
    best = record
    if record.failed or record.foreign <= given.noise then break end
    if attempt == 1 then
      progress("%s %s: other processes took %.0f %% of the machine; once more", case.name,
               peer.name, record.foreign)
    end
  end
  print(line.encode(best))
  io.stdout:flush()
  progress("%s  round %d  %-20s %s", case.name, round, peer.name, best.failed or
           string.format("%.0f deals/s, client %.0f us, server %.0f us, %s",
                         best.ops_per_s, best.client_us, best.server_us, best.check))
  return best
end

-- All of it ---------------------------------------------------------------------------------------

local function main()
  local cases, chosen = split(given.cases), split(given.peers)
  for i, name in ipairs(cases) do cases[i] = parse_case(name) end
  for _, name in ipairs(chosen) do
    if not peers[name] then
      error("unknown peer " .. name
            .. ": these are known: moonpool, groups, pgbench, plpgsql, create_deal", 0)
    end
  end
  if (chosen.moonpool or chosen.create_deal) and not process.read_file(executable()) then
    error(string.format("there is no executable %s: build it, or name it in MOONPOOL_BIN",
                        executable()), 0)
  end

  local pg <close> = cluster.new()
  progress("PostgreSQL %s on port %d, %d cores shared by server and clients", pg.version, pg.port,
           process.cores())
  local folder = pg.dir .. "/run"
  process.run("mkdir " .. process.quoted(folder))
  seed_deal(pg)

  local records = {}
  for round = 1, given.rounds do
    for _, case in ipairs(cases) do
      for _, name in ipairs(chosen) do
        if name ~= "create_deal" then
          records[#records + 1] = run(pg, peers[name], case, round, folder)
        end
      end
    end
  end
  if chosen.create_deal then
    local ok, roles = pcall(seed_real, pg)
    if ok then
      for _, case in ipairs(cases) do
        records[#records + 1] = run(pg, peers.create_deal, case, 1, folder, function()
          pg:psql("bench", roles)
        end)
      end
    else
      progress("create_deal is left out: the project's schema could not be made: %s",
               tostring(roles))
      records[#records + 1] = { case = cases[1].name, peer = peers.create_deal.name,
                                failed = tostring(roles) }
    end
  end

  local names, bad = {}, 0
  for i, case in ipairs(cases) do names[i] = case.name end
  for _, record in ipairs(records) do
    if record.failed or record.check ~= "ok" then bad = bad + 1 end
  end
  print("\n" .. report.text(records, names))
  io.stdout:flush()
  if bad > 0 then
    error(
      string.format(
        "%d of %d runs failed or left other rows than they reported: see failed and check above",
                    bad, #records), 0)
  end
end

main()
