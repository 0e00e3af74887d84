-- One row by its key, each read a transaction of its own: 64 callers of `db.one` on 20 connections,
-- beside pgbench. A private cluster, interleaved rounds; JSON lines, then a table.
--   moonpool bench select [--rounds 3] [--seconds 4] [--warmup 1] [--noise 8]
--                         [--flush-ms 0] [--cases 1,8,64] [--peers moonpool,pgbench,pgbench64]
-- A case is the number of callers. Peers:
--   moonpool   db.one, which takes a connection for each read
--   pgbench    select.sql with prepared statements, a connection for each caller, at most 20
--   pgbench64  the same with at most 64 connections
--   moonpool bench select --db URL [--clients 64] [--seconds 4] [--warmup 1]
-- is one run of the first on the comparison's table: one JSON line.
local db         = require "moonpool.db"
local moonpool   = require "moonpool"
package.path     = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local comparison = require "bench.lib.comparison"
local meter      = require "bench.lib.meter"
local options    = require "bench.lib.options"

local ITEMS = 100000

local schema = [[
create table items (id integer primary key, name text not null, kind text not null,
  price numeric(12, 2) not null, quantity integer not null, active boolean not null,
  created_at timestamptz not null, note text);
insert into items select id, 'item ' || id, 'kind ' || id % 7, id % 900 + 0.25, id % 50, id % 2 = 0,
  timestamptz '2026-01-01' + id * interval '1 minute', null from generate_series(1, 100000) as id]]

local function run_reads(given)
  local random = math.random
  meter.run(given, function()
    return function()
      local id = random(ITEMS)
      local item = db.one("select * from items where id = $1", id)
      if item.id ~= id or item.quantity ~= id % 50 then
        error("the row of " .. id .. " is another's: " .. item.id)
      end
    end
  end)
end

local workload = {
  unit = "reads", bases = { "pgbench", "pgbench64" }, tables = { "items" },
  cases = { "1", "8", "64" },
  goals = {
    { "64", "moonpool", "ops_per_s", "pgbench", at_least = 1 },
    { "64", "moonpool", "ops_per_s", "pgbench64", at_least = 1 },
    { "64", "moonpool", "p999_x", at_most = 10 },
  },
}

function workload.parse(name)
  local clients = math.tointeger(tonumber(name))
  if not clients or clients < 1 or clients > 1000 then
    options.refuse("unknown case %s: a case is a number of callers, 1 to 1000", name)
  end
  return { clients = clients }
end

function workload.seed(pg) pg:psql("bench_seed", schema, "vacuum (freeze, analyze)") end

function workload.check() return "ok" end -- each read checks its row

if meter.alone(...) then
  run_reads(options(meter.defaults { clients = 64 }, ...))
else
  local given = options(comparison.defaults, ...)
  workload.peers = {
    "moonpool", "pgbench", "pgbench64",
    moonpool  = { run = comparison.moonpool_peer("select", given) },
    pgbench   = { run = comparison.pgbench_peer("select.sql", given) },
    pgbench64 = { run = comparison.pgbench_peer("select.sql", given, { conns = 64 }) },
  }
  comparison.run(workload, given)
end
