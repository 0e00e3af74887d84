-- A small operation of four statements, a transfer between two of 100,000 accounts, which are
-- locked and updated in the order of their keys; beside PL/pgSQL. A private durable cluster,
-- interleaved rounds; sum of balances and number of updates are checked; JSON lines, then a table.
--   moonpool bench transfer [--rounds 3] [--seconds 4] [--warmup 1] [--clients 20] [--noise 8]
--                           [--flush-ms 0] [--cases zipf0-1,zipf1.5-1,zipf0-5,zipf1.5-5]
--                           [--peers moonpool,witness,lane,statements,plpgsql,batch]
-- A case is zipfS-HOSTS: S is 0 (each account as often as any other) or the exponent, above 1,
-- of Zipf's law; HOSTS share the clients and 20 connections. Peers:
--   moonpool    an operation, a transaction for each transfer
--   witness     the same with a witness, so that a lost COMMIT could be resolved (no other can)
--   lane        as `moonpool`, in the lane of the first account: calls wait in memory for its lock
--   statements  the four statements by pgbench, prepared
--   plpgsql     transfer.sql: one call of a function, by pgbench: the practical upper limit
--   batch       one call of a function for 100 transfers in one transaction, all accounts locked in
--               the order of their keys: the upper limit of those who can wait for a hundred
--   moonpool bench transfer --db URL [--zipf 0] [--lane off|on] [--witness off|on]
--                           [--clients 20] [--seconds 4] [--warmup 1]
-- is one run of the operation alone, on the comparison's table: one JSON line.
local moonpool   = require "moonpool"
package.path     = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local comparison = require "bench.lib.comparison"
local is         = require "moonpool.is"
local meter      = require "bench.lib.meter"
local options    = require "bench.lib.options"

local ACCOUNTS = 100000

local schema = [[
create table accounts (id integer primary key, balance bigint not null, moves integer not null)
  with (fillfactor = 50);
insert into accounts select id, 1000, 0 from generate_series(1, 100000) as id;
create function transfer(a integer, b integer, amount bigint) returns void language plpgsql as $$
declare
  low integer := least(a, b);
  high integer := greatest(a, b);
begin
  perform balance from accounts where id = low for update;
  perform balance from accounts where id = high for update;
  update accounts set balance = balance + case when id = a then -amount else amount end,
    moves = moves + 1 where id = low;
  update accounts set balance = balance + case when id = a then -amount else amount end,
    moves = moves + 1 where id = high;
end $$;
create function transfers(a integer[], b integer[], amount bigint) returns void language plpgsql
as $$
begin
  perform from accounts where id = any (a || b) order by id for update;
  for i in 1 .. array_length(a, 1) loop
    update accounts set balance = balance - amount, moves = moves + 1 where id = a[i];
    update accounts set balance = balance + amount, moves = moves + 1 where id = b[i];
  end loop;
end $$]]

-- The operation -----------------------------------------------------------------------------------

-- A drawn number from 1 to n by Zipf's law with exponent s > 1: a draw of the continuous law that
-- lies above it, refused in proportion to what it is too much. pgbench draws the same way.
local function zipf(n, s)
  local random, floor = math.random, math.floor
  if s == 0 then
    return function() return random(n) end
  end
  local b = 2 ^ (s - 1)
  return function()
    while true do
      local x = floor((1 - random()) ^ (-1 / (s - 1)))
      local t = (1 + 1 / x) ^ (s - 1)
      if x <= n and random() * x * (t - 1) / (b - 1) <= t / b then return x end
    end
  end
end

local function transfer(given)
  return moonpool.operation {
    summary = "Move an amount from an account to another",
    input   = is.object { from = is.integer, to = is.integer, amount = is.integer,
                          low = is.integer },
    timeout = 10,
    lane    = given.lane == "on" and "account:$low" or nil,
    witness = given.witness == "on",
    run     = function(tx, input)
      local from, to, amount = input.from, input.to, input.amount
      local low, high = from, to
      if low > high then low, high, amount = high, low, -amount end
      tx:one("select balance from accounts where id = $1 for update", low)
      tx:one("select balance from accounts where id = $1 for update", high)
      tx:exec("update accounts set balance = balance - $2, moves = moves + 1 where id = $1", low,
              amount)
      tx:exec("update accounts set balance = balance + $2, moves = moves + 1 where id = $1", high,
              amount)
    end,
  }
end

local function run_operation(given)
  local operation = transfer(given)
  local one, other = zipf(ACCOUNTS, given.zipf), zipf(ACCOUNTS - 1, given.zipf)
  meter.run(given, function()
    local input = { amount = 1 }
    return function()
      local from, to = one(), other()
      if to >= from then to = to + 1 end
      input.from, input.to, input.low = from, to, math.min(from, to)
      moonpool.call(operation, input)
    end
  end, { zipf = given.zipf })
end

-- The comparison ----------------------------------------------------------------------------------

local workload = {
  unit = "transfers", bases = { "plpgsql", "statements" }, tables = { "accounts" },
  cases = { "zipf0-1", "zipf1.5-1", "zipf0-5", "zipf1.5-5" },
  goals = {
    { "zipf0-1", "moonpool", "ops_per_s", "plpgsql", at_least = 0.6 },
    { "zipf1.5-1", "moonpool", "ops_per_s", "plpgsql", at_least = 0.6 },
    { "zipf1.5-1", "lane", "ops_per_s", "plpgsql", at_least = 0.6 },
    { "zipf0-1", "moonpool", "client_us", at_most = 45 },
    { "zipf1.5-5", "moonpool", "max_ms", at_most = 500 },
  },
}

function workload.parse(name)
  local s, hosts = name:match "^zipf([%d.]+)%-(%d+)$"
  s, hosts = tonumber(s), math.tointeger(tonumber(hosts))
  if not s or not hosts or s ~= 0 and s <= 1 or hosts < 1 or hosts > 20 then
    options.refuse("unknown case %s: a case is zipfS-HOSTS, S 0 or above 1, 1 to 20 hosts", name)
  end
  return { zipf = s, hosts = hosts }
end

function workload.seed(pg)
  pg:psql("bench_seed", schema, "vacuum (freeze, analyze)")
  comparison.seed_witness(pg)
end

function workload.check(pg, _, commits)
  local found = pg:psql("bench", "select sum(balance), sum(moves) from accounts")
  if tonumber(found[1]) ~= ACCOUNTS * 1000 then return "the sum of balances is " .. found[1] end
  if tonumber(found[2]) == commits * 2 then return "ok" end
  return string.format("%d transfers reported, but %s updates found", commits, found[2])
end

-- Scripts for pgbench, from the draws of transfer.sql.
local function scripts(folder)
  local file <close> = assert(io.open(comparison.app_dir .. "/spec/bench/transfer.sql", "rb"))
  local draws = file:read "a":match "^(.*)\nselect"
  local function write(name, text)
    local path = folder .. "/" .. name
    local out <close> = assert(io.open(path, "wb"))
    out:write(text)
    return path
  end
  local update = "update accounts set balance = balance %s :amount, moves = moves + 1 \z
    where id = :%s;\n"
  local statements = draws .. "\n\\set low least(:a, :b)\n\\set high greatest(:a, :b)\n"
    .. "\\set amount case when :low = :a then 1 else -1 end\nbegin;\n"
    .. "select balance from accounts where id = :low for update;\n"
    .. "select balance from accounts where id = :high for update;\n"
    .. update:format("-", "low") .. update:format("+", "high") .. "end;\n"
  local batch, a, b = {}, {}, {}
  for i = 1, 100 do
    batch[i] = draws:gsub("%-%-[^\n]*\n", ""):gsub("(set )([ab]) ", "%1%2" .. i .. " ")
      :gsub(":([ab])%f[^%w]", ":%1" .. i)
    a[i], b[i] = ":a" .. i, ":b" .. i
  end
  return write("statements.sql", statements),
         write("batch.sql", table.concat(batch, "\n") .. "\nselect transfers(array["
               .. table.concat(a, ",") .. "]::integer[], array[" .. table.concat(b, ",")
               .. "]::integer[], 1);\n")
end

local function compare(given)
  local function operation(...)
    local more = { ... }
    return { run = comparison.moonpool_peer("transfer", given, { extra = function(case)
      return { "--zipf", case.zipf, table.unpack(more) }
    end }) }
  end
  local function by_pgbench(script, per_call)
    return { run = function(pg, case, folder)
      local path = type(script) == "number" and select(script, scripts(folder)) or script
      return comparison.pgbench_peer(path, given, { per_call = per_call, defines = function()
        return { zipf = case.zipf }
      end })(pg, case, folder)
    end }
  end
  workload.peers = {
    "moonpool", "witness", "lane", "statements", "plpgsql", "batch",
    moonpool = operation(), witness = operation("--witness", "on"),
    lane = operation("--lane", "on"),
    statements = by_pgbench(1), plpgsql = by_pgbench "transfer.sql", batch = by_pgbench(2, 100),
  }
  comparison.run(workload, given)
end

if meter.alone(...) then
  local given = options(meter.defaults { zipf = 0, lane = "off", witness = "off" }, ...)
  if given.zipf ~= 0 and given.zipf <= 1 then options.refuse("--zipf is 0 or above 1") end
  run_operation(given)
else
  compare(options(comparison.defaults, ...))
end
