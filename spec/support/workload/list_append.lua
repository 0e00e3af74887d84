-- A workload for the judge of histories: operations that append to lists and read lists, all at
-- once, on few lists, so that they meet. Each statement is looked at before the next, so that
-- others come in between.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local fault    = require "spec.support.workload.fault"
local history  = require "spec.support.data.history"
local random   = require "spec.support.data.random"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

local list_append = {}

-- so many are in use at once; so many values and a fresh one takes a list's place
local LISTS, APPENDS = 4, 40

local function define(schema, isolation)
  local read = ("select vals from %s.lists where key = $key"):format(schema)
  local append = ([[
    insert into %s.lists as l (key, vals) values ($key, array[$value::int8])
    on conflict (key) do update set vals = l.vals || excluded.vals]]):format(schema)
  return moonpool.operation {
    isolation = isolation, retries = 20, timeout = 60,
    run = function(tx, input)
      local reads = {}
      for i, op in ipairs(input.ops) do
        if op.kind == "read" then
          local row = tx:first(read, op)
          reads[i] = row and row.vals or {}
        else
          tx:exec(append, op)
          tx:flush()
        end
      end
      return reads
    end,
  }
end

--- Ends a backend of the application, one that is at work if there is any.
function list_append.end_a_backend()
  test.admin().value([[
    select pg_terminate_backend(pid) from (
      select pid from pg_stat_activity where usename = $1 and backend_type = 'client backend'
       order by state = 'idle', random() limit 1) b]], fault.role())
end

--- Runs it on the specs' database, in a schema of its own, and judges it.
--- The report is that of history.check, and: transactions, committed, failed, unknown, retries.
---@param options { isolation: string, transactions: integer, callers?: integer, seed: integer,
---                 fault?: fun(n: integer) }
---@return table<string, integer> report
---@return string[] details
function list_append.run(options)
  local schema_name = "lists_" .. options.isolation:gsub(" ", "_")
  local schema = scratch.schema(schema_name, {
    ("create table %s.lists (key int8 primary key, vals int8[] not null)"):format(schema_name) })
  local operation = define(schema_name, options.isolation)
  local draw, transactions, appended, value, first_list = random.new(options.seed), {}, {}, 0, 1
  local told = { committed = 0, failed = 0, unknown = 0, retries = 0 }

  -- Lists are appended to in the order of their keys: a deadlock would cost a second of waiting for
  -- its detection.
  local function ops()
    local list, from = {}, first_list
    for i = 1, 1 + draw(4) do
      local key = from + draw(first_list + LISTS - from) - 1
      if draw(2) == 1 then
        value, from = value + 1, key
        appended[key] = (appended[key] or 0) + 1
        if appended[key] == APPENDS then first_list = first_list + 1 end
        list[i] = { kind = "append", key = key, value = value }
      else
        list[i] = { kind = "read", key = first_list + draw(LISTS) - 1 }
      end
    end
    return list
  end

  local function one(n)
    local t = { ops = ops() }
    transactions[n] = t
    if options.fault then options.fault(n) end
    local ok, result, info = pcall(moonpool.call_info, operation, { ops = t.ops })
    if ok then
      t.ok = true
      told.committed, told.retries = told.committed + 1, told.retries + info.attempts - 1
      for i, op in ipairs(t.ops) do
        if op.kind == "read" then op.value = result[i] end
      end
      return
    end
    local unknown = type(result) == "table" and rawget(result, "outcome_unknown")
    if not unknown and not rawget(result, "retryable") then error(result, 0) end
    told[unknown and "unknown" or "failed"] = told[unknown and "unknown" or "failed"] + 1
    if not unknown then t.ok = false end
    for i = #t.ops, 1, -1 do -- what it read, nobody knows
      if t.ops[i].kind == "read" then table.remove(t.ops, i) end
    end
  end

  local next_n, callers = 0, {}
  for i = 1, options.callers or 10 do
    callers[i] = function()
      while next_n < options.transactions do
        next_n = next_n + 1
        one(next_n)
      end
    end
  end
  moonpool.all(callers)

  local final = {}
  for _, row in ipairs(
    schema.owner.query(("select key, vals from %s.lists"):format(schema_name))) do
    final[row.key] = row.vals
  end
  schema.drop()
  db.value "select 1"
  local report, details = history.check(transactions, final)
  for name, count in pairs(told) do report[name] = count end
  report.transactions = #transactions
  return report, details
end

return list_append
