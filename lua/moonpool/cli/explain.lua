-- `moonpool explain NAME [JSON]`: what a call of an operation costs. It is run twice, and rolled
-- back both times. The first run is the real call, with its batching: the recorder has its round
-- trips. In the second run each statement is sent alone, behind EXPLAIN ANALYZE of the same
-- statement in a savepoint: that gives times, rows, plans and locks.
local border     = require "moonpool.operation.border"
local calls      = require "moonpool.calls"
local db         = require "moonpool.db"
local definition = require "moonpool.operation.definition"
local errors     = require "moonpool.errors"
local failed     = require "moonpool.cli.failed"
local json       = require "moonpool.json"
local operation  = require "moonpool.operation.call"
local read_input = require "moonpool.cli.input"
local registry   = require "moonpool.operation.registry"
local report     = require "moonpool.cli.explain_report"
local sorted     = require "moonpool.script.sorted"

-- What rolls a run back: an error of the caller's kind, which is not retried and not reported.
local DONE = "EXPLAINED"

local function done() error(errors.new { code = DONE, status = 400, own_message = true }, 0) end

-- ---- a tx in front of the real one ---------------------------------------------------------

-- own: methods that replace those of the real tx.
local function in_front(tx, own)
  return setmetatable({}, { __index = function(_, name)
    if own[name] then return own[name] end
    local value = tx[name]
    if type(value) ~= "function" then return value end
    return function(_, ...) return value(tx, ...) end -- a tail call: the script is the caller
  end })
end

-- Hooks belong to an end that does not come.
local function without_hooks()
  return { after_commit = function() end, on_rollback = function() end }
end

-- How many segments the newest call has sent so far.
local function sent()
  local count = 0
  for _, note in ipairs(calls.find(calls.recent { limit = 1 }[1].id).notes) do
    if note.kind == "sent" then count = count + 1 end
  end
  return count
end

-- ---- the first run ---------------------------------------------------------------------------

-- -> the call's notes, what the second run needs; or nil and the error
local function run_as_it_is(op, input, options)
  local seen = {}
  local own = {}
  for name, value in pairs(op) do own[name] = value end
  own.on, own.output = nil, nil -- a subscriber is called with its message
  own.run = function(tx, checked)
    seen.input, seen.tenant, seen.caller = checked, tx.tenant, tx.caller
    op.run(in_front(tx, without_hooks()), checked)
    seen.trips = sent()
    tx:flush() -- what would have travelled with COMMIT
    done()
  end
  local ok, e = pcall(operation.call, own, input, { border = true, shown = true,
    tenant = options.tenant, as = options.as })
  assert(not ok)
  if not (errors.is(e) and e.code == DONE) then return nil, e end
  seen.call = calls.find(e.call_id)
  return seen
end

-- ---- the second run --------------------------------------------------------------------------

local LOCKS = [[
  select coalesce(c.oid::regclass::text, l.locktype) as what, l.mode
  from pg_locks l left join pg_class c on c.oid = l.relation and c.relkind in ('r', 'p', 'm')
  where l.pid = pg_backend_pid() and l.granted
    and (c.oid is not null or l.locktype = 'advisory')
    and c.relnamespace is distinct from 'pg_catalog'::regnamespace]]

-- The locks that are new since the last look.
local function new_locks(tx, known)
  local list = {}
  for _, row in ipairs(tx:query(LOCKS)) do
    local key = row.what .. " " .. row.mode
    if not known[key] then
      known[key] = true
      list[#list + 1] = { what = row.what, mode = row.mode }
    end
  end
  table.sort(list, function(a, b) return a.what .. a.mode < b.what .. b.mode end)
  return list
end

-- The plan of a statement that was carried out and undone; nil: it has none, or fails.
local function plan_of(tx, text, ...)
  local given, plan = table.pack(...), nil
  pcall(tx.savepoint, tx, function()
    plan = tx:value("explain (analyze, buffers, format json) " .. text,
                    table.unpack(given, 1, given.n))
    error("undone", 0)
  end)
  return plan and plan[1]
end

-- The statement of tx:insert.
local function insert_text(name, values)
  local columns, parameters = sorted(values), {}
  for i, column in ipairs(columns) do
    parameters[i], columns[i] = "$" .. column, '"' .. column .. '"'
  end
  return ("insert into %s (%s) values (%s) returning *"):format(name, table.concat(columns, ", "),
    table.concat(parameters, ", "))
end

-- Methods that carry a statement out at once and keep what it cost in `list`.
local function measuring(tx, list)
  local own, known = without_hooks(), {}
  local function measured(name, text, ...)
    local at = debug.getinfo(3, "Sl")
    local entry = { method = name, sql = text, plan = plan_of(tx, text, ...),
                    place = ("%s:%d"):format(at.short_src, at.currentline) }
    list[#list + 1] = entry
    return entry
  end
  for _, name in ipairs { "one", "query", "first", "value", "count", "exec" } do
    own[name] = function(_, text, ...)
      local entry = measured(name, text, ...)
      local results = table.pack(tx[name](tx, text, ...))
      entry.locks = new_locks(tx, known)
      return table.unpack(results, 1, results.n)
    end
  end
  own.insert = function(_, name, values)
    local entry = measured("insert", insert_text(name, values), values)
    local row = tx:insert(name, values)
    entry.locks = new_locks(tx, known)
    return row
  end
  return own
end

local function run_measured(op, seen)
  local list = {}
  local ok, e = pcall(db.transaction, { isolation = op.isolation, read_only = op.read_only,
    retries = 0, timeout = 600, tenant = seen.tenant }, function(tx)
    local own = measuring(tx, list)
    own.savepoint = nil
    local front = in_front(tx, own)
    local shown = setmetatable({}, { __index = function(_, name)
      if name == "caller" then return seen.caller end
      return front[name]
    end })
    op.run(shown, seen.input)
    done()
  end)
  assert(not ok)
  if errors.is(e) and e.code == DONE then return list end
  return nil, e
end

local function explain(options)
  local op = definition.of(registry.get(options.name)) or registry.get(options.name)
  local seen, fault = run_as_it_is(op, border.decode(read_input(options.input)), options)
  if not seen then error(fault, 0) end
  local list, why = run_measured(op, seen)
  local costs = report.gather(op, seen, list or {})
  if options.people then
    print(report.text(costs))
  else
    print(json.encode(costs, { sorted = true, pretty = options.pretty }))
  end
  if why then error(why, 0) end
  return 0
end

return function(options)
  local ok, code = pcall(explain, options)
  if ok then return code end
  return failed(code, { name = options.name, why = true, people = options.people })
end
