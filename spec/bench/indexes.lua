-- What the indexes are worth: the two lists of deals that the report measured, on a private durable
-- cluster with the project's own schema and many deals of dealerships of very different sizes. As
-- the application role, with row level security, in prepared statements; time is taken at the
-- client, from the statement to its last row in Lua, and once by the server itself, without the way
-- of the rows to the client, as the report took it.
--   moonpool bench indexes [--deals 500000] [--dealerships 50] [--runs 15]
-- Each list is read in three states of the table:
--   no index   without any index that begins with the dealership: the original's keys, on the id
--              alone, were like that
--   keys       with the keys that this schema has for its own sake: (dealership_id, id) and
--              (dealership_id, deal_number)
--   indexes    with the migrations' indexes
local moonpool = require "moonpool"
package.path   = moonpool.app_dir .. "/spec/?.lua;" .. package.path

local db      = require "moonpool.db"
local host    = require "moonpool.host"
local cluster = require "bench.lib.cluster"
local options = require "bench.lib.options"
local process = require "bench.lib.process"

local given = options({ deals = 500000, dealerships = 50, runs = 15, db = "" }, ...)
local deal_count, dealership_count = math.tointeger(given.deals), math.tointeger(given.dealerships)
if not deal_count or deal_count < 1 then options.refuse "--deals is a whole number above 0" end
if not dealership_count or dealership_count < 1 then
  options.refuse "--dealerships is a whole number above 0"
end

local lists = {
  { name = "by state", claim = "900x", what = "a dealership's approved deals",
    sql = "select * from deals where dealership_id = $d and deal_state = 'APPROVED'" },
  { name = "newest 50", claim = "33x", what = "a dealership's newest deals",
    sql = "select * from deals where dealership_id = $d order by created_at desc limit 50" },
}

local function progress(format, ...)
  io.stderr:write(string.format(format, ...), "\n")
end

-- The database -----------------------------------------------------------------------------------

local function executable()
  local path = os.getenv "MOONPOOL_BIN" or "build/moonpool"
  return path:sub(1, 1) == "/" and path or moonpool.app_dir .. "/" .. path
end

local function run_moonpool(pg, ...)
  local words = { "env", "DATABASE_URL=" .. pg:url("bench", "moonpool_app"),
                  "MOONPOOL_OWNER_URL=" .. pg:url("bench", "moonpool_owner"), executable(), ... }
  return process.run("cd " .. process.quoted(moonpool.app_dir) .. " && " .. process.command(words))
end

-- The first dealerships have most of the deals: the k-th about 1/k of what the first has.
local seed = ([[
  set session_replication_role = replica;
  create function pg_temp.id(kind integer, n bigint) returns uuid language sql immutable
    as $$ select (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(kind::text, 12, '0'))::uuid
      $$;
  insert into dealership_settings (id, dealership_name)
    select pg_temp.id(0, d), 'Dealership ' || d from generate_series(1, DEALERSHIPS) d;
  insert into users (dealership_id, id, username, email, full_name)
    select pg_temp.id(0, d), pg_temp.id(1, d * 20 + i), format('seller-%s-%s', d, i),
      format('s%s.%s@example.org', d, i), 'Seller'
      from generate_series(1, DEALERSHIPS) d, generate_series(0, 19) i;
  insert into customers (dealership_id, id, first_name, last_name)
    select pg_temp.id(0, d), pg_temp.id(2, d * 500 + i), 'First', 'Last'
      from generate_series(1, DEALERSHIPS) d, generate_series(0, 499) i;
  select setseed(0.5);
  insert into deals (dealership_id, id, deal_number, deal_state, salesperson_id, customer_id,
    customer_attached_at, created_at)
    select pg_temp.id(0, d), pg_temp.id(4, n),
      '2020-0101-' || lpad(n::text, greatest(4, length(n::text)), '0'),
           case when s < 0.80 then 'DELIVERED' when s < 0.95 then 'CANCELLED'
             when s < 0.97 then 'IN_PROGRESS'
                when s < 0.98 then 'APPROVED' else 'DRAFT' end,
           pg_temp.id(1, d * 20 + n % 20), pg_temp.id(2, d * 500 + n % 500), at, at
      from (select n, floor(power(DEALERSHIPS + 1, random()))::integer as d, random() as s,
                   timestamptz '2020-01-01' + n * interval '5 minutes' as at
              from generate_series(1, DEALS) n offset 0) as deal]])
  :gsub("DEALERSHIPS", tostring(dealership_count)):gsub("DEALS", tostring(deal_count))

-- The indexes of deals that are no constraint's, taken away and put back.
local index_definitions = [[
  select pg_get_indexdef(indexrelid) from pg_index
   where indrelid = 'deals'::regclass and
     not exists (select from pg_constraint where conindid = indexrelid)
   order by indexrelid::regclass::text]]
local drop_indexes = [[
  do $$
  declare
    index regclass;
  begin
    for index in select indexrelid from pg_index
                  where indrelid = 'deals'::regclass and
                    not exists (select from pg_constraint where conindid = indexrelid) loop
      execute format('drop index %s', index);
    end loop;
  end $$]]
local drop_keys =
  "alter table deals drop constraint deals_pkey cascade, drop constraint deals_number_key"

local function vacuum(pg)
  pg:psql("bench", "vacuum (analyze) deals", "checkpoint")
end

-- A run ------------------------------------------------------------------------------------------

local function median(values)
  table.sort(values)
  local half = #values // 2
  return #values % 2 == 1 and values[half + 1] or (values[half] + values[half + 1]) / 2
end

--- Reads a list of a dealership; once before it counts, so that the statement is prepared and the
--- rows are in memory.
local function measure(app, list, dealership)
  return app.transaction({ tenant = dealership }, function(tx)
    local times, rows = {}, nil
    for i = 0, given.runs do
      local began = host.clock()
      rows = #tx:query(list.sql, { d = dealership })
      if i > 0 then times[i] = (host.clock() - began) * 1000 end
    end
    local plan = {}
    for _, row in ipairs(tx:query("explain (analyze, timing off) " .. list.sql,
                                  { d = dealership })) do
      plan[#plan + 1] = "    " .. row["QUERY PLAN"]
    end
    local text = table.concat(plan, "\n")
    return { ms = median(times), rows = rows, plan = text,
             server_ms = tonumber(text:match "Execution Time: ([%d.]+) ms") }
  end)
end

local states = { "no index", "keys", "indexes" }

do
  local pg <close> = cluster.new()
  progress("PostgreSQL %s: preparing %d deals of %d dealerships", pg.version, deal_count,
           dealership_count)
  pg:psql("postgres", "create database bench")
  pg:psql("bench", run_moonpool(pg, "db", "roles"))
  run_moonpool(pg, "migrate", "up", "--quiet")
  local definitions = pg:psql("bench", index_definitions)
  pg:psql("bench", drop_indexes)
  pg:psql("bench", seed)

  local of_size = pg:psql("bench",
                          "select dealership_id, count(*) from deals group by 1 order by 2 desc, 1")
  local function nth(n) return { id = of_size[2 * n - 1], deals = tonumber(of_size[2 * n]) } end
  local found = #of_size // 2
  local dealerships = { nth(1), nth((found + 1) // 2), nth(found) }

  local results = {}
  local function read(state)
    progress("reading: %s", state)
    vacuum(pg)
    -- Opened anew each time, with the host's clock set first: while other programs are waited for,
    -- the host stands still, and a connection that is being made would seem to have taken all that
    -- time.
    moonpool.sleep(0.01)
    local app = db.open { url = pg:url("bench", "moonpool_app"), max = 1 }
    results[state] = {}
    for l, list in ipairs(lists) do
      results[state][l] = {}
      for d, dealership in ipairs(dealerships) do
        results[state][l][d] = measure(app, list, dealership.id)
      end
    end
    app.close()
  end

  read "keys"
  local began = host.clock()
  for _, definition in ipairs(definitions) do
    pg:psql("bench", (definition:gsub("^(CREATE [UNIQUE ]*INDEX) ", "%1 CONCURRENTLY ")))
  end
  local build_s = host.clock() - began
  read "indexes"
  pg:psql("bench", drop_indexes, drop_keys)
  read "no index"

  print(
    string.format(
      "%d deals of %d dealerships; %d indexes of deals built concurrently in %.1f s; medians of \z
        %d runs, in ms",
                  deal_count, found, #definitions, build_s, given.runs))
  for l, list in ipairs(lists) do
    print(string.format("\n%s: %s (the report claims %s)", list.name, list.what, list.claim))
    print(string.format("  %10s %8s %10s %10s %10s   %s", "deals", "rows", "no index", "keys",
                        "indexes",
                        "no index/indexes  keys/indexes"))
    for d, dealership in ipairs(dealerships) do
      local ms = {}
      for i, state in ipairs(states) do ms[i] = results[state][l][d].ms end
      print(string.format("  %10d %8d %10.3f %10.3f %10.3f   %15.1fx %12.1fx", dealership.deals,
                          results.indexes[l][d].rows, ms[1], ms[2], ms[3], ms[1] / ms[3],
                          ms[2] / ms[3]))
    end
    local middle = {}
    for i, state in ipairs(states) do middle[i] = results[state][l][2].server_ms end
    print(string.format("  the middle one, on the server: %10.3f %10.3f %10.3f   %15.1fx %12.1fx",
                        middle[1], middle[2],
                        middle[3], middle[1] / middle[3], middle[2] / middle[3]))
  end
  print "\nPlans, of the dealership in the middle:"
  for l, list in ipairs(lists) do
    for _, state in ipairs(states) do
      print(string.format("\n  %s, %s\n%s", list.name, state, results[state][l][2].plan))
    end
  end
end
