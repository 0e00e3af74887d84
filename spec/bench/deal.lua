-- A deal of a car dealership, ten statements, beside pgbench and PL/pgSQL: a private durable
-- cluster, a fresh copy of the same database for each run, interleaved rounds, checks of what the
-- tables hold afterwards; JSON lines, then a table.
--   moonpool bench deal [--rounds 3] [--seconds 4] [--warmup 1] [--clients 20] [--noise 8]
--                       [--flush-ms 0] [--cases new-100-rc,new-100-ser,new-1-ser]
--                       [--peers moonpool,witness,shared,groups,pgbench,plpgsql,create_deal]
-- A case is new-DEALERSHIPS-rc or new-DEALERSHIPS-ser; on one dealership every deal needs the same
-- row. --flush-ms N: each flush of the log takes N ms more, as on a slow disk. Peers:
--   moonpool     a transaction for each deal
--   witness      the same with a witness, so that a lost COMMIT could be resolved (no other can)
--   shared       with a witness and flush = "shared": many COMMITs share one flush of the log
--   groups       group = 20: calls that wait share a transaction, with rc also those of other lanes
--                (groups = 5)
--   pgbench      new.sql, statement by statement
--   plpgsql      new-func.sql, one call of a function: the practical upper limit
--   create_deal  `moonpool bench real`: the project's own operation on its own schema; once for
--                each case, at the end, for information
-- A run in which other processes took more than --noise per cent of the machine is repeated once,
-- and the quieter one counts. PGBIN names the folder of PostgreSQL's programs (15 or later), if not
-- Debian's newest; MOONPOOL_BIN the executable, if not build/moonpool.
--   moonpool bench deal --db URL [--clients 20] [--seconds 4] [--warmup 1] [--dealerships 100]
--                       [--isolation rc|ser] [--group 1] [--groups 0] [--lanes 0]
--                       [--witness off|on] [--flush own|shared]
-- is one run of the operation alone, on the tables of schema.sql: one JSON line. --group: calls
-- that may share a transaction, with --groups N those of other lanes too; --lanes N: dealerships
-- share N lanes instead of having their own.
local moonpool   = require "moonpool"
package.path     = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local comparison = require "bench.lib.comparison"
local is         = require "moonpool.is"
local meter      = require "bench.lib.meter"
local options    = require "bench.lib.options"
local process    = require "bench.lib.process"

-- The operation -----------------------------------------------------------------------------------

-- Ten statements as those of new.sql, in two round trips.
local function create_deal(given)
  return moonpool.operation {
    summary   = "Create a deal with a new customer, its number, default scenario and audit entry",
    input     = is.object { dealership_id = is.uuid, salesperson_id = is.uuid, lane = is.integer },
    isolation = given.level,
    timeout   = 10,
    retries   = 10, -- as many as the other peers have
    lane      = given.lanes > 0 and "deals:$lane" or "deal_number:$dealership_id",
    group     = given.group > 1 and given.group or nil,
    groups    = given.groups > 0 and given.groups or nil,
    witness   = given.witness == "on",
    flush     = given.flush,

    run = function(tx, input)
      local customer_id, deal_id, scenario_id = tx:uuid(), tx:uuid(), tx:uuid()

      -- Round trip 1: BEGIN and all that comes before something must be known.
      tx:one("select id from dealership_settings where id = $dealership_id", input,
             "Dealership not found: $dealership_id")
      local seller = tx:one("select id, dealership_id, role from users where id = $salesperson_id",
                            input,
                            "Salesperson not found: $salesperson_id")
      local customer = tx:insert("customers", {
        id            = customer_id,
        dealership_id = input.dealership_id,
        first_name    = "Jane",
        last_name     = "Doe",
        email         = "jane@example.org",
        phone         = "(512) 555-0199",
        address       = "1 Main St",
        city          = "Austin",
        state         = "TX",
        zip_code      = "78701",
        county        = "Travis",
      })
      local number = tx:one([[
        insert into deal_number_sequences as s (dealership_id, current_sequence)
        values ($dealership_id, 1)
        on conflict (dealership_id) do update set current_sequence = s.current_sequence + 1,
          updated_at = now()
        returning to_char(now(), 'YYYY-MMDD-')
                  || lpad(current_sequence::text, greatest(4, length(current_sequence::text)), '0')
        as text]], input)

      if seller.dealership_id ~= input.dealership_id then
        moonpool.fail("RESOURCE_NOT_FOUND", "Salesperson not found: " .. input.salesperson_id,
                      { status = 404 })
      end

      -- Round trip 2: the rest, and COMMIT.
      local deal = tx:insert("deals", {
        id                   = deal_id,
        dealership_id        = input.dealership_id,
        deal_number          = number.text,
        customer_id          = customer_id,
        salesperson_id       = input.salesperson_id,
        deal_state           = "DRAFT",
        customer_attached_at = tx:now(),
      })
      local scenario = tx:insert("deal_scenarios", {
        id                   = scenario_id,
        deal_id              = deal_id,
        name                 = "Scenario 1",
        scenario_type        = "FINANCE_DEAL",
        vehicle_price        = 0,
        down_payment         = 0,
        trade_allowance      = 0,
        trade_payoff         = 0,
        term                 = 60,
        apr                  = 8.9,
        total_tax            = 0,
        total_fees           = 0,
        monthly_payment      = 0,
        aftermarket_products = "[]",
      })
      tx:exec("update deals set active_scenario_id = $1, updated_at = now() where id = $2",
              scenario_id, deal_id)
      tx:exec([[
        insert into audit_log (deal_id, user_id, action, entity_type, entity_id, metadata)
        values ($deal_id, $user_id, 'create', 'deal', $deal_id, $metadata)]], {
        deal_id  = deal_id,
        user_id  = input.salesperson_id,
        metadata = { dealNumber = number.text, hasCustomer = true, hasVehicle = false },
      })
      return { deal = deal, scenario = scenario, customer = customer }
    end,
  }
end

local function run_operation(given)
  local operation = create_deal(given)
  local dealerships, sellers = meter.ids(given.dealerships)
  meter.run(given, function()
    local input = {}
    return function()
      local d = math.random(#dealerships)
      input.lane = given.lanes > 0 and d % given.lanes or d
      input.dealership_id, input.salesperson_id = dealerships[d], sellers[d][math.random(5)]
      moonpool.call(operation, input)
    end
  end, { peer = "moonpool", workload = "new", dealerships = given.dealerships })
end

-- The comparison ----------------------------------------------------------------------------------

local workload = {
  unit = "deals", bases = { "pgbench", "plpgsql" },
  cases = { "new-100-rc", "new-100-ser", "new-1-ser" },
  tables = { "dealership_settings", "users", "customers", "deals", "deal_scenarios", "audit_log",
             "deal_number_sequences" },
  goals = {
    { "new-100-rc", "moonpool", "ops_per_s", "plpgsql", at_least = 0.9 },
    { "new-100-rc", "witness", "client_us", at_most = 100 },
    { "new-100-ser", "moonpool", "ops_per_s", "plpgsql", at_least = 0.95 },
    { "new-100-ser", "moonpool", "p99_ms", "new-100-rc/moonpool", at_most = 1.5 },
    { "new-100-ser", "moonpool", "retries_pct", at_most = 3 },
    { "new-100-ser", "shared", "ops_per_s", "plpgsql", at_least = 0.95 },
    { "new-100-ser", "shared", "p99_ms", "new-100-rc/shared", at_most = 1.5 },
    { "new-100-ser", "shared", "retries_pct", at_most = 3 },
    { "new-1-ser", "moonpool", "ops_per_s", "plpgsql", at_least = 3 },
    { "new-1-ser", "groups", "ops_per_s", "plpgsql", at_least = 7 },
    { "new-1-ser", "groups", "p99_ms", "moonpool", at_most = 1 },
  },
}

function workload.parse(name)
  local dealerships, isolation = name:match "^new%-(%d+)%-(%a+)$"
  dealerships = math.tointeger(tonumber(dealerships))
  if not dealerships or dealerships < 1 or dealerships > 100
      or (isolation ~= "rc" and isolation ~= "ser") then
    options.refuse(
      "unknown case %s: a case is new-DEALERSHIPS-rc or new-DEALERSHIPS-ser, with 1 to 100 \z
        dealerships", name)
  end
  return { dealerships = dealerships, isolation = isolation }
end

function workload.seed(pg)
  pg:psql("bench_seed", "@" .. comparison.app_dir .. "/spec/bench/schema.sql",
          "vacuum (freeze, analyze)")
  comparison.seed_witness(pg)
end

local roles -- SQL that makes the roles of the project

-- The project's own schema, as `moonpool migrate` makes it.
workload.seeds = { real_seed = function(pg)
  local function moonpool_here(environment, ...)
    return process.run("cd " .. process.quoted(comparison.app_dir) .. " && "
                       .. process.command(comparison.moonpool_command(environment, ...)))
  end
  pg:psql("postgres", "create database real_seed")
  roles = moonpool_here({}, "db", "roles")
  pg:psql("real_seed", roles)
  moonpool_here({ "DATABASE_URL=" .. pg:url("real_seed", "moonpool_app"),
                  "MOONPOOL_OWNER_URL=" .. pg:url("real_seed", "moonpool_owner") }, "migrate", "up")
  pg:psql("real_seed", "@" .. comparison.app_dir .. "/spec/bench/real.sql",
          "vacuum (freeze, analyze)")
end }

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
function workload.check(pg, peer, commits)
  local found = pg:psql("bench", counts)
  local wanted = { commits, commits, commits * (peer.audits or 1), commits, commits, 0, 0 }
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

local function compare(given)
  local function moonpool_peer(name, role, more)
    return comparison.moonpool_peer(name, given, { role = role, extra = function(case)
      return { "--dealerships", case.dealerships, "--isolation", case.isolation,
               table.unpack(more and more(case) or {}) }
    end })
  end
  local function pgbench_peer(script)
    return comparison.pgbench_peer(script, given, { defines = function(case)
      return { dealerships = case.dealerships }
    end })
  end
  workload.peers = {
    "moonpool", "witness", "shared", "groups", "pgbench", "plpgsql", "create_deal",
    moonpool    = { run = moonpool_peer "deal" },
    witness     = { run = moonpool_peer("deal", nil, function() return { "--witness", "on" } end) },
    shared      = { run = moonpool_peer("deal", nil, function()
      return { "--witness", "on", "--flush", "shared" }
    end) },
    groups      = { run = moonpool_peer("deal", nil, function(case)
      -- With a snapshot isolation only the calls of one lane share a transaction.
      return { "--group", 20, "--groups", case.isolation == "rc" and 5 or 0 }
    end) },
    pgbench     = { run = pgbench_peer "new.sql" },
    plpgsql     = { run = pgbench_peer "new-func.sql" },
    create_deal = { run = moonpool_peer("real", "moonpool_app"), template = "real_seed",
                    once = true, audits = 2, -- the new customer has an entry of its own
                    prepare = function(pg) pg:psql("bench", roles) end },
  }
  comparison.run(workload, given)
end

if meter.alone(...) then
  local given = options(meter.defaults { dealerships = 100, group = 1, groups = 0, lanes = 0,
                                         witness = "off", flush = "own", conns = 20,
                                         workload = "new" }, ...)
  given.level = meter.level(given)
  run_operation(given)
else
  compare(options(comparison.defaults, ...))
end
