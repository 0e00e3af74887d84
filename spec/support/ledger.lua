-- The ledger of a fault experiment with create_deal, kept outside of the database: what each caller was told. In the end it
-- is compared with what is stored.
--
-- A call is known by its key, which is the last name of the customer that it creates.
local ledger = {}
ledger.__index = ledger

--- `path`: a file that gets each line when it is known; without it, only memory.
---@param path? string
function ledger.new(path)
  return setmetatable({ calls = {}, places = {}, file = path and assert(io.open(path, "w")) }, ledger)
end

--- The id of a dealership that calls are made for.
function ledger:place(id) self.places[#self.places + 1] = id end

--- What the caller was told: "made" with the deal's id and number, "failed" (nothing is stored) or "unknown".
---@param told "made"|"failed"|"unknown"
function ledger:tell(key, told, id, number)
  assert(not self.calls[key], "a call was answered twice: " .. key)
  self.calls[key] = { told = told, id = id, number = number }
  if self.file then
    self.file:write(key, " ", told, " ", id or "-", " ", number or "-", "\n")
    self.file:flush()
  end
end

local stored_sql = [[
  select c.last_name as key, d.dealership_id, d.id, d.deal_number, c.id as customer_id,
         substring(d.deal_number from '\d+$')::int as sequence,
         (select count(*) from deal_scenarios s where s.dealership_id = d.dealership_id and s.deal_id = d.id
                                                  and s.id = d.active_scenario_id) as scenarios,
         (select count(*) from audit_log a where a.dealership_id = d.dealership_id and a.entity_id = d.id) as entries
    from customers c left join deals d on d.dealership_id = c.dealership_id and d.customer_id = c.id
   where c.dealership_id = any($1::uuid[])]]

local places_sql = [[
  select p.id,
         (select count(*) from deals where dealership_id = p.id) as deals,
         (select count(distinct deal_number) from deals where dealership_id = p.id) as numbers,
         (select count(*) from deals d where d.dealership_id = p.id
             and not exists (select from customers c where c.dealership_id = p.id and c.id = d.customer_id)) as strays,
         (select count(*) from deal_scenarios where dealership_id = p.id) as scenarios,
         (select count(*) from audit_log where dealership_id = p.id and entity_type = 'deal') as entries,
         (select coalesce(max(substring(deal_number from '\d+$')::int), 0) from deals where dealership_id = p.id) as highest,
         coalesce((select max(current_sequence) from deal_number_sequences where dealership_id = p.id), 0) as sequence
    from unnest($1::uuid[]) as p (id)]]

--- Compares with the database, as its owner. Every count but the first five must be 0 when nobody lied:
---   calls, made, failed, unknown, stored
---   lost        told made, and not stored so
---   duplicated  stored more than once
---   orphaned    half of a deal, a number twice, a gap in the numbers
---   denied      told failed, and stored
---   unresolved  told that nobody knows
---@param db moonpool.db
---@return table<string, integer> report
---@return string[] details the first 20 faults
function ledger:check(db)
  local report = { calls = 0, made = 0, failed = 0, unknown = 0, stored = 0,
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
      fault("orphaned", "deal %s has %d scenarios and %d audit entries", row.deal_number, row.scenarios, row.entries)
    end
  end
  for _, place in ipairs(db.query(places_sql, self.places)) do
    if place.numbers ~= place.deals or place.highest ~= place.deals or place.sequence ~= place.deals then
      fault("orphaned", "%d deals, %d numbers, the highest %d, the sequence at %d in %s", place.deals, place.numbers,
        place.highest, place.sequence, place.id)
    end
    if place.strays ~= 0 or place.scenarios ~= place.deals or place.entries ~= place.deals then
      fault("orphaned", "%d deals, %d scenarios, %d audit entries, %d without a customer in %s", place.deals,
        place.scenarios, place.entries, place.strays, place.id)
    end
  end

  for key, call in pairs(self.calls) do
    report.calls = report.calls + 1
    report[call.told] = report[call.told] + 1
    local row = stored[key]
    if call.told == "made" and not (row and row.id == call.id and row.deal_number == call.number) then
      fault("lost", "call %s was told of deal %s, number %s", key, call.id, call.number)
    elseif call.told == "failed" and row then
      fault("denied", "call %s was told that it failed, and is stored", key)
    elseif call.told == "unknown" then
      fault("unresolved", "call %s, which is %sstored", key, row and "" or "not ")
    end
  end
  return report, details
end

return ledger
