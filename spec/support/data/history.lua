-- Judges a history of transactions that append values to lists and read lists: was there an order
-- in which they could have run one after the other? Every value is appended once, so a list that
-- was read tells the order of all who wrote it, and with it who depends on whom:
--   ww  a value stands behind another's              (the other was first)
--   wr  a list that was read ends with a value       (its writer was first)
--   rw  a list that was read ends before a value     (the reader was first)
-- A cycle among them is a history that no order explains.
local history = {}

--- A transaction: `ok` true: it was told committed, false: told that nothing was stored, nil:
--- it is not known. A read's value is the list that it saw.
---@class spec.history.transaction
---@field ok boolean?
---@field ops { kind: "append"|"read", key: any, value: any }[]

-- value -> its transaction; and what is appended by whom in which order within one transaction.
local function writers_of(transactions)
  local writers, last_of = {}, {}
  for _, t in ipairs(transactions) do
    local last = {}
    for _, op in ipairs(t.ops) do
      if op.kind == "append" then
        assert(not writers[op.value], "a value was appended twice by the workload")
        writers[op.value] = t
        last[op.key] = op.value
      end
    end
    last_of[t] = last
  end
  return writers, last_of
end

-- key -> the longest list that anybody saw: all others must be its beginnings.
local function orders_of(transactions, final)
  local orders = {}
  local function see(key, list)
    if not orders[key] or #list > #orders[key] then orders[key] = list end
  end
  for key, list in pairs(final) do see(key, list) end
  for _, t in ipairs(transactions) do
    for _, op in ipairs(t.ops) do
      if op.kind == "read" and t.ok ~= false then see(op.key, op.value) end
    end
  end
  return orders
end

-- Strongly connected components with more than one member (Tarjan, without recursion).
local function cycles_of(transactions, edges)
  local index, low, on_stack, stack, found, next_index = {}, {}, {}, {}, {}, 1
  for _, root in ipairs(transactions) do
    local work = not index[root] and { { root } } or {}
    while #work > 0 do
      local frame = work[#work]
      local t = frame[1]
      if not frame.successors then
        index[t], low[t], next_index = next_index, next_index, next_index + 1
        stack[#stack + 1], on_stack[t] = t, true
        frame.successors, frame.at = {}, 0
        for other in pairs(edges[t] or {}) do table.insert(frame.successors, other) end
      elseif frame.child then
        low[t] = math.min(low[t], low[frame.child])
        frame.child = nil
      end
      frame.at = frame.at + 1
      local other = frame.successors[frame.at]
      if other and not index[other] then
        frame.child = other
        work[#work + 1] = { other }
      elseif other then
        if on_stack[other] then low[t] = math.min(low[t], index[other]) end
      else
        if low[t] == index[t] then
          local component = {}
          repeat
            local member = table.remove(stack)
            on_stack[member] = nil
            component[#component + 1] = member
          until member == t
          if #component > 1 then found[#found + 1] = component end
        end
        work[#work] = nil
      end
    end
  end
  return found
end

--- What is wrong with the history; all counts are 0 when it is serializable. `final`: the lists in
--- the end, by key.
---   cycles         groups of transactions in a circle of any dependencies
---   write_cycles   among them, those by ww and wr alone (no isolation level allows them)
---   aborted        values of a failed transaction that somebody saw
---   intermediate   a list seen between two appends of one transaction
---   incompatible   two reads of a list that no one list explains
---   repeated       a value twice in a list
---   lost           committed values that are not in the final list
---@param transactions spec.history.transaction[]
---@param final table<any, any[]>
---@return table<string, integer>
---@return string[] details
function history.check(transactions, final)
  local report = { cycles = 0, write_cycles = 0, aborted = 0, intermediate = 0, incompatible = 0,
                   repeated = 0, lost = 0 }
  local details = {}
  local function fault(kind, text, ...)
    report[kind] = report[kind] + 1
    if #details < 20 then details[#details + 1] = kind .. ": " .. text:format(...) end
  end

  local writers, last_of = writers_of(transactions)
  local orders = orders_of(transactions, final)
  local writes, all = {}, {}
  local function edge(graph, from, to)
    if not from or not to or from == to then return end
    graph[from] = graph[from] or {}
    graph[from][to] = true
  end

  for key, list in pairs(orders) do
    local seen, in_the_end = {}, {}
    for i, value in ipairs(list) do
      if seen[value] then fault("repeated", "%s in list %s", value, key) end
      seen[value] = true
      local writer = writers[value]
      if not writer then fault("aborted", "nobody appended %s to list %s", value, key)
      elseif writer.ok == false then fault("aborted", "%s of a failed transaction is in list %s",
                                           value, key) end
      for _, graph in ipairs { writes, all } do edge(graph, writers[list[i - 1]], writer) end
    end
    for _, value in ipairs(final[key] or {}) do in_the_end[value] = true end
    for value in pairs(seen) do
      if not in_the_end[value] then
        fault("lost", "%s was seen in list %s and is gone", value, key)
      end
    end
  end
  for _, t in ipairs(transactions) do
    for _, op in ipairs(t.ops) do
      local order = orders[op.key] or {}
      if op.kind == "append" and t.ok then
        local there = false
        for _, value in ipairs(final[op.key] or {}) do there = there or value == op.value end
        if not there then fault("lost", "%s is not in list %s", op.value, op.key) end
      elseif op.kind == "read" and t.ok ~= false then
        for i, value in ipairs(op.value) do
          if value ~= order[i] then
            fault("incompatible", "a list %s has %s where the longest has %s", op.key, value,
                  tostring(order[i]))
            break
          end
        end
        local n = #op.value
        local writer = writers[op.value[n]]
        if writer and writer ~= t and last_of[writer][op.key] ~= op.value[n] then
          fault("intermediate", "list %s was read behind %s", op.key, op.value[n])
        end
        for _, graph in ipairs { writes, all } do edge(graph, writer, t) end
        edge(all, t, writers[order[n + 1]])
      end
    end
  end

  for _, component in ipairs(cycles_of(transactions, writes)) do
    fault("write_cycles", "%d transactions", #component)
  end
  for _, component in ipairs(cycles_of(transactions, all)) do
    fault("cycles", "%d transactions", #component)
  end
  return report, details
end

return history
