-- moonpool.cli.explain_report: what two runs of an operation have shown, as one table of round
-- trips, and that table as text.
local json  = require "moonpool.json"
local lanes = require "moonpool.operation.lanes"

local report = {}

-- ---- gathering -----------------------------------------------------------------------------

-- A number of a plan, which may be a decimal.
local function number(value) return tonumber(tostring(value or 0)) end

-- A count; since PostgreSQL 18 a mean over the loops, with decimals.
local function count_of(value) return math.floor(number(value) + 0.5) end

-- What a plan says in short: its time, its rows, its nodes.
local function add_node(nodes, plan, depth)
  local loops = count_of(plan["Actual Loops"] or 1)
  local node = {
    depth = depth, what = plan["Node Type"], table = plan["Relation Name"],
    index = plan["Index Name"], rows = count_of(number(plan["Actual Rows"]) * loops),
    ms = number(plan["Actual Total Time"]) * loops, loops = loops > 1 and loops or nil,
    removed = count_of(plan["Rows Removed by Filter"]), operation = plan["Operation"],
  }
  nodes[#nodes + 1] = node
  for _, child in ipairs(plan["Plans"] or {}) do add_node(nodes, child, depth + 1) end
end

-- Rows that a statement gave or changed: ModifyTable without RETURNING gives none itself.
local function rows_of(plan)
  local rows, child = count_of(plan["Actual Rows"]), plan["Plans"] and plan["Plans"][1]
  if plan["Node Type"] ~= "ModifyTable" or rows > 0 then return rows end
  return child and count_of(child["Actual Rows"]) or 0
end

local function measured(entry)
  local nodes, plan = json.array(), entry.plan
  if plan then add_node(nodes, plan["Plan"], 0) end
  return {
    place = entry.place, method = entry.method, sql = entry.sql, nodes = plan and nodes,
    rows = plan and rows_of(plan["Plan"]), ms = plan and number(plan["Execution Time"]),
    locks = entry.locks and json.array { table.unpack(entry.locks) },
  }
end

-- Takes the first statement of the second run that was made at the place.
local function take(list, place)
  for i, entry in ipairs(list) do
    if entry.place == place then return table.remove(list, i) end
  end
  return nil
end

local at_once = { query = true, first = true, value = true, count = true }

-- Why the script waited for this round trip.
local function reason(trip, last)
  if trip.commit then return "travels with COMMIT" end
  if last and at_once[last.method] then
    return ("tx:%s gives its result at once"):format(last.method)
  end
  if last then return "the script read a row, or waited" end
  return "the host's own"
end

-- gather(op, seen, list) -> { operation, round_trips = { { number, ms, with, why, statements } },
-- waits, statements, adds }
function report.gather(op, seen, list)
  local costs = { operation = op.name, round_trips = json.array(), waits = json.array(),
                  adds = json.array(), statements = 0 }
  local trip
  for _, note in ipairs(seen.call.notes) do
    if note.kind == "sent" then
      trip = { number = #costs.round_trips + 1, at = note.at, with = note.text,
               statements = json.array(), commit = #costs.round_trips >= seen.trips or nil }
      costs.round_trips[trip.number] = trip
    elseif note.kind == "answered" and trip then
      trip.ms = note.at - trip.at
    elseif note.kind == "statement" and trip then
      local count = note.n or 1
      for _ = 1, note.text and count or 0 do
        local entry = take(list, note.text)
        local one = entry and measured(entry) or { place = note.text, sql = note.query }
        one.together = count > 1 and count or nil
        trip.statements[#trip.statements + 1] = one
        costs.statements = costs.statements + 1
      end
      if not note.text then
        trip.statements[#trip.statements + 1] = { sql = note.query, host = true }
      end
    elseif note.kind == "queued" or note.kind == "blocked" then
      costs.waits[#costs.waits + 1] = { at = note.at, why = note.text }
    end
  end
  if #costs.round_trips == seen.trips then
    costs.round_trips[seen.trips + 1] = { number = seen.trips + 1, commit = true,
                                          statements = json.array() }
  end
  for _, one in ipairs(costs.round_trips) do
    local last
    for _, statement in ipairs(one.statements) do
      if not statement.host then last = statement end
    end
    one.why = reason(one, last)
  end
  local function adds(text, ...) costs.adds[#costs.adds + 1] = text:format(...) end
  adds("BEGIN (%s%s), in the first round trip", op.isolation, op.read_only and ", read only" or "")
  if seen.tenant then adds("the tenant for row level security, behind BEGIN") end
  if op.lane then
    adds("its turn in the lane %s, which costs no connection", lanes.shown(op.lane))
  end
  if op.witness ~= false and not op.read_only then
    adds "a witness in front of COMMIT, if it changed anything: so a lost COMMIT's outcome is known"
  end
  adds("COMMIT, in the last round trip")
  return costs
end

-- ---- text ----------------------------------------------------------------------------------

local function one_line(text) return (text:gsub("%s+", " ")) end

local function node_text(node)
  local text = ("  "):rep(node.depth) .. node.what
  if node.operation then text = text .. " " .. node.operation end
  if node.table then text = text .. " on " .. node.table end
  if node.index then text = text .. " by " .. node.index end
  text = ("%s: %d rows, %.3f ms"):format(text, node.rows, node.ms)
  if node.loops then text = text .. (", %d times"):format(node.loops) end
  if node.removed > 0 then
    text = text .. (", %d rows read and dropped"):format(node.removed)
  end
  return text
end

local function add_statement(add, one)
  if one.host then return add("  (the host's own)  %s", one_line(one.sql)) end
  add("  %s  %s", one.place, one_line(one.sql))
  if one.ms then
    add("      %.3f ms on the server, %d %s%s", one.ms, one.rows, one.rows == 1 and "row" or "rows",
        one.together and (", sent as one statement with %d others"):format(one.together - 1) or "")
  end
  for _, node in ipairs(one.nodes or {}) do add("        %s", node_text(node)) end
  local locks = {}
  for i, lock in ipairs(one.locks or {}) do locks[i] = lock.what .. " " .. lock.mode end
  if locks[1] then add("      locks: %s", table.concat(locks, ", ")) end
end

-- "1 statement", "2 statements"
local function counted(n, what) return ("%d %s%s"):format(n, what, n == 1 and "" or "s") end

function report.text(costs)
  local lines = {}
  local function add(text, ...) lines[#lines + 1] = text:format(...) end
  add("%s: %s, %s; rolled back, nothing is stored", costs.operation,
      counted(#costs.round_trips, "round trip"), counted(costs.statements, "statement"))
  for _, wait in ipairs(costs.waits) do add("waited: %s", wait.why) end
  for _, trip in ipairs(costs.round_trips) do
    add("\nround trip %d%s: %s", trip.number, trip.ms and (", %.3f ms"):format(trip.ms) or "",
        trip.why)
    for _, one in ipairs(trip.statements) do add_statement(add, one) end
  end
  add "\nThe host adds:"
  for _, text in ipairs(costs.adds) do add("  %s", text) end
  return table.concat(lines, "\n")
end

return report
