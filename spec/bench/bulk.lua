-- Many rows in one transaction: a loop of `tx:insert`, beside the same loop statement by statement,
-- and COPY. A private durable cluster, interleaved rounds, checks; JSON lines, then a table.
--   moonpool bench bulk [--rounds 3] [--seconds 4] [--warmup 1] [--clients 1] [--noise 8]
--                       [--flush-ms 0] [--cases 10,100,1000]
--                       [--peers moonpool,one-by-one,exec,copy,psql-copy]
-- A case is the number of rows in one transaction. Peers:
--   moonpool    an operation with a loop of tx:insert, which goes as few statements of many rows
--   one-by-one  the same with `merge = false`: one statement for each row, in the same pipeline
--   exec        the same loop with tx:exec, which gives no rows back
--   copy        db.copy_in of the same rows, by the host
--   psql-copy   COPY of a text file by psql, which has nothing to compute
--   moonpool bench bulk --db URL --rows N [--way insert|one-by-one|exec|copy] [--clients 1]
--                       [--seconds 4] [--warmup 1]
-- is one run of the first four on a database that has the table bulk_rows: one JSON line.
local db         = require "moonpool.db"
local moonpool   = require "moonpool"
package.path     = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local comparison = require "bench.lib.comparison"
local meter      = require "bench.lib.meter"
local options    = require "bench.lib.options"
local process    = require "bench.lib.process"

local schema = [[
create table bulk_rows (
  id bigint generated always as identity primary key, deal_no integer not null, kind text not null,
  description text, price numeric(12, 2) not null, quantity integer not null,
  taxed boolean not null,
  created_at timestamptz not null default now())]]

-- The operations ----------------------------------------------------------------------------------

local kinds = { "fee", "accessory", "warranty", "discount" }

local function row_of(i)
  return { deal_no = i, kind = kinds[i % 4 + 1], description = "Line item number " .. i,
           price = (i % 900) + 0.25, quantity = i % 7 + 1, taxed = i % 2 == 0 }
end

local ways = {}

local function insert(rows, merge)
  local store = moonpool.operation {
    summary = "Rows by tx:insert", timeout = 30, merge = merge,
    run = function(tx)
      for i = 1, rows do tx:insert("bulk_rows", row_of(i)) end
    end,
  }
  return function() moonpool.call(store) end
end

ways.insert = insert
ways["one-by-one"] = function(rows) return insert(rows, false) end

function ways.exec(rows)
  local store = moonpool.operation {
    summary = "Rows by tx:exec", timeout = 30,
    run = function(tx)
      for i = 1, rows do
        tx:exec([[insert into bulk_rows (deal_no, kind, description, price, quantity, taxed)
          values ($deal_no, $kind, $description, $price, $quantity, $taxed)]], row_of(i))
      end
    end,
  }
  return function() moonpool.call(store) end
end

function ways.copy(rows)
  return function()
    local i = 0
    db.copy_in("bulk_rows (deal_no, kind, description, price, quantity, taxed)", function()
      if i == rows then return nil end
      i = i + 1
      local row = row_of(i)
      return { row.deal_no, row.kind, row.description, row.price, row.quantity, row.taxed }
    end)
  end
end

-- The comparison ----------------------------------------------------------------------------------

local workload = {
  unit = "transactions", bases = { "one-by-one", "copy", "psql-copy" },
  cases = { "10", "100", "1000" }, tables = { "bulk_rows" },
  goals = {
    { "1000", "moonpool", "ops_per_s", "one-by-one", at_least = 4 },
    { "1000", "moonpool", "ops_per_s", "copy", at_least = 0.5 },
    { "1000", "moonpool", "ops_per_s", "psql-copy", at_least = 0.5 },
  },
}

function workload.parse(name)
  local rows = math.tointeger(tonumber(name))
  if not rows or rows < 1 or rows > 10000 then
    options.refuse("unknown case %s: a case is a number of rows, 1 to 10000", name)
  end
  return { rows = rows }
end

function workload.seed(pg) pg:psql("bench_seed", schema, "vacuum (freeze, analyze)") end

function workload.check(pg, _, commits, case)
  local found = tonumber(pg:psql("bench", "select count(*) from bulk_rows")[1])
  local wanted = commits * case.rows
  if found == wanted then return "ok" end
  return string.format("%d rows reported, but %d found", wanted, found)
end

-- psql with a file of \copy commands, as many as it does within the time. Its quantiles are the
-- mean.
local function psql_copy(given)
  return function(pg, case, folder)
    local rows = {}
    for i = 1, case.rows do
      local row = row_of(i)
      rows[i] = table.concat({ row.deal_no, row.kind, row.description, row.price, row.quantity,
                               row.taxed and "t" or "f" }, "\t")
    end
    local function write(name, text)
      local file <close> = assert(io.open(folder .. "/" .. name, "wb"))
      file:write(text)
    end
    write("rows.txt", table.concat(rows, "\n") .. "\n")
    write("copy.sql", ("\\copy bulk_rows (deal_no, kind, description, price, quantity, taxed) "
                       .. "from 'rows.txt'\n"):rep(200000))
    write("start", "")
    local total_s = given.seconds + given.warmup
    -- The file is long enough: psql ends by the time limit, and says COPY for each command it did.
    local measured = process.measure(folder, {
      "timeout", "-s", "INT", total_s, pg.bin .. "/psql", "-XAt", "-h", "127.0.0.1", "-p", pg.port,
      "-U", "postgres", "-d", "bench", "-f", folder .. "/copy.sql" }, total_s, folder)
    local done = select(2, measured.stdout:gsub("COPY %d", ""))
    if done == 0 then return { failed = measured.stderr:sub(-300) }, measured end
    local each_ms = total_s / done * 1000
    return { clients = 1, ops = done, ops_total = tonumber(
               pg:psql("bench", "select count(*) from bulk_rows")[1]) // case.rows,
             errors = 0, retries = 0, seconds = total_s,
             ops_per_s = done / total_s, p50_ms = each_ms, p99_ms = each_ms, p999_ms = each_ms,
             max_ms = each_ms, cpu_s = measured.cpu_s, rss_kb = measured.rss_kb,
             last_error = "" }, measured
  end
end

local function compare(given)
  local function way(name)
    return { run = comparison.moonpool_peer("bulk", given, { extra = function(case)
      return { "--rows", case.rows, "--way", name }
    end }) }
  end
  workload.peers = {
    "moonpool", "one-by-one", "exec", "copy", "psql-copy",
    moonpool       = way "insert",
    ["one-by-one"] = way "one-by-one",
    exec           = way "exec",
    copy           = way "copy",
    ["psql-copy"]  = { run = psql_copy(given) },
  }
  comparison.run(workload, given)
end

if meter.alone(...) then
  local given = options(meter.defaults { rows = 1000, way = "insert", clients = 1 }, ...)
  local make = ways[given.way]
    or options.refuse("--way is insert, one-by-one, exec or copy, not %s", given.way)
  local once = make(given.rows)
  meter.run(given, function() return once end, { rows = given.rows, way = given.way })
else
  local defaults = { clients = 1 }
  for name, value in pairs(comparison.defaults) do defaults[name] = defaults[name] or value end
  compare(options(defaults, ...))
end
