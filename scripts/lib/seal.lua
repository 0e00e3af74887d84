-- Sealing of the audit log, and its verification. What a seal is stands in
-- migrations/0004_audit_sealing.sql: the database makes seals; here they are computed again from
-- what the tables hold, with other code.
local host = require "moonpool.host"

local seal = {}

--- Entries that one seal covers at most.
seal.batch = 1000

--- What is sealed of an entry, in the order of the encoding.
seal.columns = {
  "dealership_id", "id", "user_id", "action", "entity_type", "entity_id", "deal_id", "scenario_id",
  "field_name", "old_value",
  "new_value", "metadata", "timestamp", "created_at",
}

-- Sealing -----------------------------------------------------------------------------------------

-- The same in all hosts: whoever holds this advisory lock is the one that seals.
local lock = "1836019571, 1934975340"

--- All dealerships, in the order of their ids.
---@param query fun(sql: string): moonpool.row[]
function seal.dealerships(query)
  local ids = {}
  for i, row in ipairs(query "select id from system.dealerships() as id") do ids[i] = row.id end
  return ids
end

-- One dealership, until nothing is left: the number of entries.
local function seal_one(conn, dealership_id, batch, on_seal)
  local entries = 0
  while true do
    local made = conn.query("select seal, sealed from system.seal_audit_log($1, $2)", dealership_id,
                            batch)[1]
    if made.sealed > 0 then on_seal(dealership_id, made.seal, made.sealed) end
    entries = entries + made.sealed
    if made.sealed < batch then return entries end
  end
end

---@class seal.pass
---@field entries integer
---@field failures { dealership_id: string, reason: any }[]  dealerships left for the next pass

--- Seals what all dealerships have. Gives nothing when another host is at it.
---@param database moonpool.db
---@param on_seal? fun(dealership_id: string, seal: integer, entries: integer)
---@param batch? integer
---@return seal.pass?
function seal.seal_all(database, on_seal, batch)
  return database.lease(function(conn)
    if not conn.value("select pg_try_advisory_lock(" .. lock .. ")") then return nil end
    local pass = { entries = 0, failures = {} }
    local ok, failure = pcall(function()
      for _, id in ipairs(seal.dealerships(conn.query)) do
        local sealed, result = pcall(seal_one, conn, id, batch or seal.batch,
                                     on_seal or function() end)
        if sealed then pass.entries = pass.entries + result
        else table.insert(pass.failures, { dealership_id = id, reason = result }) end
      end
    end)
    -- On a connection that broke there is no lock any more.
    pcall(conn.exec, "select pg_advisory_unlock(" .. lock .. ")")
    if not ok then error(failure, 0) end
    return pass
  end, { timeout = 0 })
end

-- The encoding ------------------------------------------------------------------------------------

local function field(value)
  return value == nil and "-" or #value .. ":" .. value
end

--- What a seal tells of an entry: its digest and its marks, in hex. `values`: column -> text.
function seal.entry(values)
  local fields, marks = {}, {}
  for i, column in ipairs(seal.columns) do
    fields[i] = field(values[column])
    marks[i] = host.sha256(fields[i]):sub(1, 4)
  end
  return host.sha256("moonpool audit entry 1," .. table.concat(fields, ",")), table.concat(marks)
end

-- The hash of a seal with what it lists, all as text.
local function seal_hash(dealership_id, made, listed)
  local fields = {}
  for _, value in ipairs { dealership_id, tostring(made.seq), made.prev_hash, made.sealed_us,
                           made.horizon_us,
                           tostring(made.entry_count) } do
    fields[#fields + 1] = field(value)
  end
  for _, entry in ipairs(listed) do
    for _, name in ipairs { "sealed_id", "sealed_us", "digest", "marks" } do
      fields[#fields + 1] = field(entry[name])
    end
  end
  return host.sha256("moonpool audit seal 1," .. table.concat(fields, ","))
end

local function us(column)
  return ("trim_scale(extract(epoch from %s) * 1000000)::text"):format(column)
end

-- Microseconds as text -> a number that can be compared; infinity too.
local function number(text)
  return math.tointeger(tonumber(text)) or (text:sub(1, 1) == "-" and -math.huge or math.huge)
end

local function readable(text)
  local at = number(text)
  if math.type(at) ~= "integer" or math.abs(at) > 200000000000000000 then
    return text .. " us after 1970"
  end
  return os.date("!%Y-%m-%dT%H:%M:%S", at // 1000000) .. (".%06dZ"):format(at % 1000000)
end

-- Verification ------------------------------------------------------------------------------------

local seals_after = [[
select seq, entry_count, encode(prev_hash, 'hex') as prev_hash, encode(hash, 'hex') as hash,
       ]] .. us "sealed_at" .. " as sealed_us, " .. us "horizon" .. [[ as horizon_us,
       first_at is not distinct from (select min(t) from unnest(times) as t)
         and last_at is not distinct from (select max(t) from unnest(times) as t)
         and created_at = sealed_at as sound
  from audit_seals where dealership_id = $dealership_id and seq > $seq order by seq limit 100]]

local listed_by = [[
select s.seq, e.id::text as sealed_id, ]] .. us "e.at" ..
  [[ as sealed_us, encode(e.digest, 'hex') as digest,
       encode(e.marks, 'hex') as marks, a.id is null as missing,
       a.dealership_id::text as dealership_id, a.id::text as id, a.user_id::text as user_id,
       a.action, a.entity_type, a.entity_id::text as entity_id, a.deal_id::text as deal_id,
       a.scenario_id::text as scenario_id, a.field_name, a.old_value, a.new_value,
       a.metadata::text as metadata,
       ]] .. us "a.timestamp" .. " as timestamp, " .. us "a.created_at" .. [[ as created_at
  from audit_seals s
 cross join unnest(s.entries, s.times, s.digests, s.marks)
       with ordinality as e (id, at, digest, marks, n)
  left join audit_log a on a.dealership_id = s.dealership_id and a.id = e.id
 where s.dealership_id = $dealership_id and s.seq between $first and $last
 order by s.seq, e.n]]

-- A head that was moved back must not hide what its seals tell.
local not_sealed = [[
select distinct on (inserted) a.id::text as id, ]] .. us "a.timestamp" ..
  [[ as us, a.timestamp < h.horizon as inserted,
       ]] .. us "h.horizon" .. [[ as horizon_us,
         count(*) over (partition by a.timestamp < h.horizon) as entries
  from audit_log a
 cross join (select greatest((select horizon from system.audit_heads
   where dealership_id = $dealership_id),
                             (select max(horizon) from audit_seals
                               where dealership_id = $dealership_id), '-infinity')
                    as horizon) as h
 where a.dealership_id = $dealership_id
   and not exists (select from (select unnest(entries) as id from audit_seals
     where dealership_id = $dealership_id) as s
                    where s.id = a.id)
 order by inserted, a.timestamp, a.id]]

--- The dealership's newest seal as the head has it.
---@return { seq: integer, hash: string, horizon_us: string }?
function seal.head(query, dealership_id)
  return query("select seq, encode(hash, 'hex') as hash, " .. us "horizon" .. [[ as horizon_us
                  from system.audit_heads where dealership_id = $dealership_id]],
               { dealership_id = dealership_id })[1]
end

---@class seal.fault
---@field kind "altered"|"missing"|"inserted"|"seal"|"head"
---@field text string       what is wrong, with the entry's id and time
---@field entry? string     id
---@field time? string
---@field columns? string[] that were altered
---@field seal? integer

---@class seal.report
---@field seals integer
---@field entries integer      that are sealed
---@field pending integer      entries that wait for a seal
---@field chain? seal.fault    the first fault of the seals and their head
---@field entry? seal.fault    the first entry, by its time, that is altered, missing or inserted
---@field faults integer       entries that are

-- The report, with what the walk along the chain knows.
local Check = {}
Check.__index = Check

function Check:chain_fault(kind, seq, text, ...)
  self.report.chain = self.report.chain or { kind = kind, seal = seq, text = text:format(...) }
end

function Check:entry_fault(at, id, fault)
  local report, first = self.report, self.first
  report.faults = report.faults + 1
  local moment = number(at)
  if first and (first.moment < moment or first.moment == moment and first.id < id) then return end
  self.first = { moment = moment, id = id }
  fault.entry, fault.time = id, readable(at)
  fault.text = ("entry %s of %s %s"):format(id, fault.time, fault.text)
  report.entry = fault
end

function Check:compare(seq, listed)
  if listed.missing then
    self:entry_fault(listed.sealed_us, listed.sealed_id, { kind = "missing", seal = seq,
      text = ("is missing: seal %d covers it"):format(seq) })
    return
  end
  local digest, marks = seal.entry(listed)
  if digest == listed.digest then return end
  local columns = {}
  for i, column in ipairs(seal.columns) do
    if marks:sub(4 * i - 3, 4 * i) ~= listed.marks:sub(4 * i - 3, 4 * i) then
      columns[#columns + 1] = column
    end
  end
  self:entry_fault(listed.sealed_us, listed.sealed_id,
                   { kind = "altered", seal = seq, columns = columns,
    text = ("was altered: %s (seal %d has another)")
      :format(columns[1] and table.concat(columns, ", ") or "a column", seq) })
end

-- A seal in its place, with its entries.
function Check:one(made, listed)
  local report, seq, expected = self.report, made.seq, self.expected
  report.seals = report.seals + 1
  if seq < 1 then
    self:chain_fault("seal", seq, "seal %d was added: the first one is 1", seq)
    return
  end
  if seq > self.seq + 1 then
    local from = self.seq + 1
    self:chain_fault("seal", from, seq == from + 1 and "seal %d is missing"
                     or "seals %d to %d are missing", from, seq - 1)
  end
  local intact = made.sound and seal_hash(self.dealership_id, made, listed) == made.hash
  if not intact then
    self:chain_fault("seal", seq, "seal %d was altered: its hash is not that of what it lists", seq)
  elseif made.prev_hash ~= self.hash then
    if seq == 1 then self:chain_fault("seal", 1, "seal 1 is not the first that was made: it \z
      follows another")
    else self:chain_fault("seal", seq - 1, "seal %d was rewritten: seal %d was made upon another",
                          seq - 1, seq) end
  end
  if expected and seq == expected.seq and made.hash ~= expected.hash then
    self:chain_fault("seal", seq,
                     "seal %d or one before it was rewritten: it is not the head that was kept \z
                       elsewhere", seq)
  end
  if intact then
    report.entries = report.entries + #listed
    for _, entry in ipairs(listed) do self:compare(seq, entry) end
    if number(made.horizon_us) > number(self.horizon_us) then self.horizon_us = made.horizon_us end
  end
  self.seq, self.hash = seq, made.hash
end

-- Seals whose entries are together no more than a few batches.
function Check:some(seals)
  local lists = {}
  for _, entry in ipairs(
    self.query(listed_by, { dealership_id = self.dealership_id, first = seals[1].seq,
                            last = seals[#seals].seq })) do
    lists[entry.seq] = lists[entry.seq] or {}
    table.insert(lists[entry.seq], entry)
  end
  for _, made in ipairs(seals) do self:one(made, lists[made.seq] or {}) end
end

function Check:walk()
  local after = math.mininteger
  while true do
    local page = self.query(seals_after, { dealership_id = self.dealership_id, seq = after })
    local some, entries = {}, 0
    for i, made in ipairs(page) do
      some[#some + 1] = made
      entries = entries + made.entry_count
      if entries >= seal.batch or i == #page then
        self:some(some)
        some, entries = {}, 0
      end
    end
    if #page < 100 then return end
    after = page[#page].seq
  end
end

function Check:compare_head()
  local head, expected, last = seal.head(self.query, self.dealership_id), self.expected, self.seq
  if not head then
    if last > 0 then
      self:chain_fault("head", nil, "the head is missing: there are %d seals", last)
    end
  elseif head.seq > last then
    self:chain_fault("seal", last + 1,
                     head.seq == last + 1 and "seal %d is missing: it was cut off the end"
      or "seals %d to %d are missing: they were cut off the end", last + 1, head.seq)
  elseif head.seq < last then
    self:chain_fault("head", head.seq,
                     "the head was altered, or seals were added: it ends at seal %d, the seals \z
                       at %d",
      head.seq, last)
  elseif head.hash ~= self.hash then
    self:chain_fault("head", last,
                     "the seals up to %d were rewritten, or the head was: they do not match", last)
  elseif number(head.horizon_us) < number(self.horizon_us) then
    self:chain_fault("head", last, "the head was altered: its horizon is earlier than the seals'")
  end
  if expected and expected.seq > last then
    self:chain_fault("seal", last + 1,
                     "seals %d to %d are missing: the head that was kept elsewhere has them",
                     last + 1,
      expected.seq)
  end
end

function Check:compare_rest()
  local chain = self.report.chain
  for _, row in ipairs(self.query(not_sealed, { dealership_id = self.dealership_id })) do
    if not row.inserted then
      self.report.pending = row.entries
    elseif not chain or chain.kind == "head" then
      -- Where a seal is missing or altered, its own entries would be taken for inserted ones.
      self:entry_fault(row.us, row.id, { kind = "inserted",
        text = ("was inserted: no seal covers it, and all is sealed up to %s")
          :format(readable(row.horizon_us)) })
      self.report.faults = self.report.faults + row.entries - 1
    end
  end
end

--- Verifies one dealership. `query` must see one state of the tables: a transaction with isolation
--- repeatable read.
---@param query fun(sql: string, params: table): moonpool.row[]
---@param dealership_id string
---@param expected? { seq: integer, hash: string }  a head that was kept elsewhere
---@return seal.report
function seal.check(query, dealership_id, expected)
  local check = setmetatable({
    query = query, dealership_id = dealership_id, expected = expected, seq = 0,
    hash = ("0"):rep(64),
    horizon_us = "-Infinity", report = { seals = 0, entries = 0, pending = 0, faults = 0 },
  }, Check)
  check:walk()
  check:compare_head()
  check:compare_rest()
  return check.report
end

return seal
