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

local function table_of(records, case, workload)
  local peers = by_peer(records, case)
  local rate, bases = {}, {}
  for _, peer in ipairs(peers) do rate[peer] = median(column(peers[peer], "ops_per_s")) end
  local head = { case, workload.unit .. "/s", "min-max" }
  for _, name in ipairs(workload.bases) do
    if rate[name] then
      bases[#bases + 1] = name
      head[#head + 1] = "x " .. name
    end
  end
  for _, name in ipairs { "p50 ms", "p99 ms", "p99.9 ms", "max ms", "client us", "server us",
                          "retries %", "errors", "MB", "others %", "runs", "check" } do
    head[#head + 1] = name
  end
  local rows = { head }
  for _, peer in ipairs(peers) do
    local runs = peers[peer]
    local row = { peer }
    local function add(format, value) row[#row + 1] = string.format(format, value) end
    if #runs == 0 then
      row[2] = "failed"
    else
      local rates, check = column(runs, "ops_per_s"), "ok"
      table.sort(rates)
      for _, record in ipairs(runs) do
        if record.check ~= "ok" then check = record.check end
      end
      add("%.0f", rate[peer])
      row[#row + 1] = string.format("%.0f-%.0f", rates[1], rates[#rates])
      for _, name in ipairs(bases) do row[#row + 1] = ratio(rate[peer], rate[name]) end
      for _, name in ipairs { "p50_ms", "p99_ms", "p999_ms", "max_ms" } do
        add("%.2f", median(column(runs, name)))
      end
      add("%.0f", median(column(runs, "client_us")))
      add("%.0f", median(column(runs, "server_us")))
      add("%.1f", median(column(runs, "retries_pct")))
      add("%d", sum(runs, "errors"))
      add("%.0f", median(column(runs, "rss_kb")) / 1024)
      add("%.0f", median(column(runs, "foreign")))
      add("%d", #runs)
      row[#row + 1] = check
    end
    rows[#rows + 1] = row
  end
  return layout(rows)
end

local note = [[
Medians of the runs. client us, server us: CPU microseconds (user and system) for each of the
%s, of the client's process and of the whole cluster; retries %%: of all that ended; others
%%: what further processes took of the machine. Errors are sums over the runs.]]

-- A goal: { case, peer, field, base, at_least = N } or { …, at_most = N }: the median of the field,
-- in proportion to that of `base` ("PEER", or "CASE/PEER") if there is one.
local function goals(records, workload)
  local function value(case, peer, field)
    local runs = by_peer(records, case)[peer]
    return runs and median(column(runs, field))
  end
  local rows = { { "goals", "goal", "now", "" } }
  for _, goal in ipairs(workload.goals) do
    local case, peer, field, base = table.unpack(goal, 1, 4)
    local now, what = value(case, peer, field), string.format("%s, %s: %s", case, peer, field)
    if base then
      local base_case, base_peer = base:match "^(.*)/(.*)$"
      local against = value(base_case or case, base_peer or base, field)
      now = now and against and against > 0 and now / against or nil
      what = what .. " x " .. base
    end
    if now then
      local bound = goal.at_least or goal.at_most
      local met = goal.at_least and now >= bound or goal.at_most and now <= bound
      rows[#rows + 1] = { what, string.format("%s %.4g", goal.at_least and ">=" or "<=", bound),
                          string.format("%.2f", now), met and "met" or "NOT MET" }
    end
  end
  return #rows > 1 and layout(rows) or nil
end

--- The whole report as text.
---@param records table[]   lines of all runs, each with case, round and check
---@param cases string[]
---@param workload bench.workload
function report.text(records, cases, workload)
  local parts = {}
  for _, case in ipairs(cases) do parts[#parts + 1] = table_of(records, case, workload) end
  parts[#parts + 1] = note:format(workload.unit)
  parts[#parts + 1] = goals(records, workload)
  return table.concat(parts, "\n\n")
end

return report
