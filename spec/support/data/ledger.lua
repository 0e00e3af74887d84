-- The ledger of a fault experiment with create_deal, kept outside of the database: what each caller
-- was told. In the end it is compared with what is stored.
--
-- A call is known by its key, which is the last name of the customer that it creates.
local ledger = {}
ledger.__index = ledger

--- `path`: a file that gets each line when it is known; without it, only memory.
---@param path? string
function ledger.new(path)
  return setmetatable({ calls = {}, places = {}, file = path and assert(io.open(path, "w")) },
                      ledger)
end

--- The id of a dealership that calls are made for.
function ledger:place(id) self.places[#self.places + 1] = id end

--- What the caller was told: "made" with the deal's id and number, "failed" (nothing is stored),
--- "unknown", or "refused": it failed, and that was its own fault.
---@param told "made"|"failed"|"unknown"|"refused"
function ledger:tell(key, told, id, number)
  assert(not self.calls[key], "a call was answered twice: " .. key)
  self.calls[key] = { told = told, id = id, number = number }
  if self.file then
    self.file:write(key, " ", told, " ", id or "-", " ", number or "-", "\n")
    self.file:flush()
  end
end

-- Joins of whole sets: the tables grow too fast for the planner to know their size.
local stored_sql = [[
  with c as materialized (select id, dealership_id, last_name from customers
    where dealership_id = any($1::uuid[])),
       d as materialized (select id, dealership_id, customer_id, deal_number, active_scenario_id
         from deals
                           where dealership_id = any($1::uuid[])),
       s as materialized (select id, deal_id from deal_scenarios
         where dealership_id = any($1::uuid[])),
       a as materialized (select entity_id, count(*) as n from audit_log
                           where dealership_id = any($1::uuid[]) and entity_type = 'deal'
                             group by entity_id)
  select c.last_name as key, d.id, d.deal_number, (s.id is not null)::int as scenarios,
    coalesce(a.n, 0) as entries
    from c left join d on d.customer_id = c.id and d.dealership_id = c.dealership_id
           left join s on s.deal_id = d.id and s.id = d.active_scenario_id
           left join a on a.entity_id = d.id]]

local places_sql = [[
  select p.id, coalesce(d.n, 0) as deals, coalesce(d.numbers, 0) as numbers,
    coalesce(d.highest, 0) as highest,
         coalesce(c.n, 0) as customers, coalesce(s.n, 0) as scenarios, coalesce(a.n, 0) as entries,
         coalesce(q.current_sequence, 0) as sequence
    from unnest($1::uuid[]) as p (id)
    left join (select dealership_id, count(*) as n, count(distinct deal_number) as numbers,
                      max(substring(deal_number from '\d+$')::int) as highest
                 from deals group by 1) d on d.dealership_id = p.id
    left join (select dealership_id, count(distinct customer_id) as n from deals group by 1) c
      on c.dealership_id = p.id
    left join (select dealership_id, count(*) as n from deal_scenarios group by 1) s
      on s.dealership_id = p.id
    left join (select dealership_id, count(*) as n from audit_log where entity_type = 'deal'
      group by 1) a
           on a.dealership_id = p.id
    left join deal_number_sequences q on q.dealership_id = p.id]]

--- Compares with the database, as its owner. Every count but the first six must be 0 when nobody
--- lied:
---   calls, made, failed, unknown, refused, stored
---   lost        told made, and not stored so
---   duplicated  stored more than once
---   orphaned    half of a deal, a number twice, a gap in the numbers
---   denied      told failed, and stored
---   unresolved  told that nobody knows
---@param db moonpool.db
---@return table<string, integer> report
---@return string[] details the first 20 faults
function ledger:check(db)
  local report = { calls = 0, made = 0, failed = 0, unknown = 0, refused = 0, stored = 0,
                   lost = 0, duplicated = 0, orphaned = 0, denied = 0, unresolved = 0 }
  local details = {}
  local function fault(kind, text, ...)
    report[kind] = report[kind] + 1
    if #details < 20 then details[#details + 1] = kind .. ": " .. text:format(...) end
  end

  local stored = {}
  for _, row in ipairs(db.query(stored_sql, self.places)) do
    report.stored = report.stored + 1
    if stored[row.key] then fault("duplicated", "call %s is stored twice", row.key) end
    stored[row.key] = row
    if not row.id then
      fault("orphaned", "call %s left a customer and no deal", row.key)
    elseif row.scenarios ~= 1 or row.entries ~= 1 then
      fault("orphaned", "deal %s has %d scenarios and %d audit entries", row.deal_number,
            row.scenarios, row.entries)
    end
  end
  for _, place in ipairs(db.query(places_sql, self.places)) do
    if place.numbers ~= place.deals or place.highest ~= place.deals
        or place.sequence ~= place.deals then
      fault("orphaned", "%d deals, %d numbers, the highest %d, the sequence at %d in %s",
            place.deals, place.numbers,
        place.highest, place.sequence, place.id)
    end
    if place.customers ~= place.deals or place.scenarios ~= place.deals
        or place.entries ~= place.deals then
      fault("orphaned", "%d deals, %d of their customers, %d scenarios, %d audit entries in %s",
            place.deals,
        place.customers, place.scenarios, place.entries, place.id)
    end
  end

  for key, call in pairs(self.calls) do
    report.calls = report.calls + 1
    report[call.told] = report[call.told] + 1
    local row = stored[key]
    if call.told == "made"
        and not (row and row.id == call.id and row.deal_number == call.number) then
      fault("lost", "call %s was told of deal %s, number %s", key, call.id, call.number)
    elseif (call.told == "failed" or call.told == "refused") and row then
      fault("denied", "call %s was told that it failed, and is stored", key)
    elseif call.told == "unknown" then
      fault("unresolved", "call %s, which is %sstored", key, row and "" or "not ")
    end
  end
  return report, details
end

return ledger
