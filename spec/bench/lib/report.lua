-- The table at the end of a comparison: medians over the rounds, and ratios.
local report = {}

local function median(values)
  if #values == 0 then return nil end
  table.sort(values)
  local half = #values // 2
  return #values % 2 == 1 and values[half + 1] or (values[half] + values[half + 1]) / 2
end

local function column(records, name)
  local values = {}
  for i, record in ipairs(records) do values[i] = record[name] end
  return values
end

local function sum(records, name)
  local total = 0
  for _, record in ipairs(records) do total = total + record[name] end
  return total
end

-- Rows of cells as text, the first row being the head: the first column to the left, the others to
-- the right.
local function layout(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  local lines = {}
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = string.format("%" .. (i == 1 and "-" or "") .. widths[i] .. "s", cell)
    end
    lines[#lines + 1] = "  " .. table.concat(cells, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

local function ratio(value, base)
  return value and base and base > 0 and string.format("%.2f", value / base) or "-"
end

--- Groups the records of a case by peer, those that failed left out; keeps the order of their first
--- run.
local function by_peer(records, case)
  local peers = {}
  for _, record in ipairs(records) do
    if record.case == case then
      if not peers[record.peer] then
        peers[record.peer] = { failed = {} }
        peers[#peers + 1] = record.peer
      end
      local list = record.failed and peers[record.peer].failed or peers[record.peer]
      list[#list + 1] = record
    end
  end
  return peers
end

local function table_of(records, case)
  local peers = by_peer(records, case)
  local rate = {}
  for _, peer in ipairs(peers) do rate[peer] = median(column(peers[peer], "ops_per_s")) end
  local rows = { { case, "deals/s", "min-max", "x pgbench", "x plpgsql", "p50 ms", "p99 ms",
                   "client us", "server us", "retries",
                   "errors", "MB", "others %", "runs", "check" } }
  for _, peer in ipairs(peers) do
    local runs = peers[peer]
    if #runs == 0 then
      rows[#rows + 1] = { peer, "failed" }
    else
      local rates, check = column(runs, "ops_per_s"), "ok"
      table.sort(rates)
      for _, record in ipairs(runs) do
        if record.check ~= "ok" then check = record.check end
      end
      rows[#rows + 1] = {
        peer, string.format("%.0f", rate[peer]),
        string.format("%.0f-%.0f", rates[1], rates[#rates]),
        ratio(rate[peer], rate.pgbench), ratio(rate[peer], rate.plpgsql),
        string.format("%.1f", median(column(runs, "p50_ms"))),
        string.format("%.1f", median(column(runs, "p99_ms"))),
        string.format("%.0f", median(column(runs, "client_us"))),
        string.format("%.0f", median(column(runs, "server_us"))),
        string.format("%d", sum(runs, "retries")), string.format("%d", sum(runs, "errors")),
        string.format("%.0f", median(column(runs, "rss_kb")) / 1024),
        string.format("%.0f", median(column(runs, "foreign"))),
        tostring(#runs), check,
      }
    end
  end
  return layout(rows)
end

local note = [[
Medians of the runs. client us, server us: CPU microseconds (user and system) for each deal, of the
client's process and of the whole cluster; others %: what further processes took of the machine.
Retries and errors are sums over the runs.]]

--- What the numbers are held against, for the case that says most.
local function goals(records, peer_name)
  local peers = by_peer(records, "new-100-rc")
  local function value(peer, name) return peers[peer] and median(column(peers[peer], name)) end
  local mine = value(peer_name, "ops_per_s")
  if not mine then return nil end
  local rows = { { "new-100-rc, " .. peer_name, "goal", "now", "" } }
  local function goal(what, bound, now, format, higher)
    local met = now and (higher and now >= bound or not higher and now <= bound)
    rows[#rows + 1] = { what, (higher and ">= " or "<= ") .. string.format(format, bound),
                        now and string.format(format, now) or "-",
                        now and (met and "met" or "NOT MET") or "" }
  end
  local pgbench, plpgsql = value("pgbench", "ops_per_s"), value("plpgsql", "ops_per_s")
  goal("deals/s, x pgbench", 2.2, pgbench and mine / pgbench, "%.2f", true)
  goal("deals/s, x plpgsql", 0.95, plpgsql and mine / plpgsql, "%.2f", true)
  goal("client CPU us per deal", 120, value(peer_name, "client_us"), "%.0f", false)
  return layout(rows)
end

--- The whole report as text.
---@param records table[]   lines of all runs, each with case, round and check
---@param cases string[]
function report.text(records, cases)
  local parts = {}
  for _, case in ipairs(cases) do parts[#parts + 1] = table_of(records, case) end
  parts[#parts + 1] = note
  for _, peer in ipairs { "moonpool", "groups" } do parts[#parts + 1] = goals(records, peer) end
  return table.concat(parts, "\n\n")
end

return report
