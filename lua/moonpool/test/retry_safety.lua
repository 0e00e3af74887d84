-- moonpool.test.retry_safety: has an operation the same effect after a retry? The code behind the
-- function test.retry_safety.
--
-- The call runs once without a failure. Then it runs once for each statement that it sent, with a
-- serialization failure (40001) before that statement, and once for each transaction with a failure
-- at COMMIT. Each run begins with the same contents of the database, and with the same tx:uuid,
-- tx:random and tx:now. The result, the statements of the last attempt and the rows of the tables
-- must be equal to those of the first run. A call that sends no statement is reported: it proves
-- nothing. The upvalues and globals of the script must not change. During a run os.time, os.date,
-- os.clock and moonpool.now make large steps inside of transactions, so that an operation that
-- depends on them gives another result.
local db       = require "moonpool.db"
local errors   = require "moonpool.errors"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local keep     = require "moonpool.test.retry_safety.keep"
local memory   = require "moonpool.test.retry_safety.memory"
local moonpool = require "moonpool"
local operation = require "moonpool.operation.call"
local registry = require "moonpool.operation.registry"
local sorted   = require "moonpool.script.sorted"

-- Current times -----------------------------------------------------------------------------------

local function days(y, m, d) -- days since 1970-01-01, Gregorian calendar
  if m <= 2 then y, m = y - 1, m + 12 end
  return 365 * y + y // 4 - y // 100 + y // 400 + (153 * (m - 3) + 2) // 5 + d - 719469
end

local function seconds(text)
  local y, m, d, H, M, S, rest = text:match "^(%d+)%-(%d+)%-(%d+)[T ](%d+):(%d+):(%d+)[%.%d]*(.*)$"
  local sign, oh, om = rest:match "^([+-])(%d%d):?(%d*)"
  local offset = sign and (oh * 3600 + (tonumber(om) or 0) * 60) * (sign == "-" and -1 or 1) or 0
  return (days(y // 1, m // 1, d // 1) * 86400 + H * 3600 + M * 60 + S) - offset
end

-- Returns the text with <now> in place of each time between `began` and the current time, 2 s more
-- on each side.
local function masked(text, began)
  local now = os.time()
  return (text:gsub("%d%d%d%d%-%d%d%-%d%d[T ]%d%d:%d%d:%d%d%.?%d*[Z%+%-]?[%d:]*", function(time)
    local at = seconds(time)
    return at >= began - 2 and at <= now + 2 and "<now>" or nil
  end))
end

-- Clocks that make large steps --------------------------------------------------------------------

-- Installs the clocks. Returns the function that restores the real ones.
local function wild_clocks()
  local time, date, clock, now = os.time, os.date, os.clock, moonpool.now
  local steps = 0
  local function skew()
    if not host.current_tx() then return 0 end
    steps = steps + 1
    return steps * 400 * 86400
  end
  rawset(os, "time", function(of) return of and time(of) or time() + skew() end)
  rawset(os, "date", function(format, at) return date(format, at or time() + skew()) end)
  rawset(os, "clock", function() return clock() + skew() end)
  rawset(moonpool, "now", function()
    local skewed = skew()
    return skewed == 0 and now() or date("!%Y-%m-%dT%H:%M:%S.000000Z", time() + skewed)
  end)
  return function()
    rawset(os, "time", time)
    rawset(os, "date", date)
    rawset(os, "clock", clock)
    rawset(moonpool, "now", now)
  end
end

-- The contents of the database --------------------------------------------------------------------

-- Returns { table = { row as text, … } }; the rows are sorted by their text.
local function tables_of(admin, options, began)
  local ignored = {}
  for _, name in ipairs(options.ignore or {}) do
    local table_name, column = name:match "^(.+)%.([^.]+)$"
    if table_name then
      ignored[table_name] = ignored[table_name] or {}
      table.insert(ignored[table_name], column)
    end
  end
  local names = options.tables
  if not names then
    names = {}
    for _, row in ipairs(admin.query [[
      select c.relname from pg_class c
       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
         and not c.relispartition
       order by 1]]) do names[#names + 1] = row.relname end
  end
  local parts = {}
  for i, name in ipairs(names) do
    local columns = table.concat(ignored[name] or {}, ",")
    parts[i] = (
      "select '%s' as name, (to_jsonb(row_.*) - string_to_array('%s', ','))::text as row from %s \z
        as row_"):format(
      name, columns, options.tables and name or ('"%s"'):format(name:gsub('"', '""')))
  end
  local state = {}
  for _, name in ipairs(names) do state[name] = {} end
  for _, row in ipairs(parts[1] and admin.query(table.concat(parts, " union all ")) or {}) do
    table.insert(state[row.name], masked(row.row, began))
  end
  for _, rows in pairs(state) do table.sort(rows) end
  return state
end

-- One call ----------------------------------------------------------------------------------------

local function outcome_of(ok, result, began)
  if ok then
    return masked(json.encode(result == nil and json.null or result,
                              { sorted = true, decimal_strings = true }), began)
  end
  if not errors.is(result) then return "error " .. masked(tostring(result), began) end
  return ("error %s: %s"):format(result.code, masked(tostring(result.message), began))
end

local function wait_for_hooks(tasks)
  local patience = host.clock() + 10
  while host.tasks and #host.tasks() > tasks and host.clock() < patience do host.sleep(0) end
end

-- Returns the message as the relay passes it to a subscriber. `given`, from the test, is a message
-- or only its payload.
local function message_of(op, given)
  local message = type(given) == "table" and given.payload ~= nil and given or { payload = given }
  local whole = { id = 1, topic = op.on, deliveries = 0,
                  published_at = "2000-01-01T00:00:00.000000Z" }
  for name, value in next, message do whole[name] = value end
  return whole
end

local function call(op, given, options)
  if not op.on then return operation.call(op, given, options) end
  return operation.deliver(op, message_of(op, given), function() end)
end

-- Runs the call once, with the failure that `order` describes (nil: without a failure).
local function run(test, op, given, options, database, order, began)
  local shot = { left = {} }
  local own_run = op.run
  local before = memory.of(own_run)
  local function look() memory.changes(before, memory.of(own_run), shot.left) end
  op.run = function(tx, input)
    if tx.attempt > 1 then look() end
    return own_run(tx, input)
  end
  local tame = wild_clocks()
  local ok, fault = pcall(test.on, database, function()
    test.fixed({ seed = 1, now = began }, function()
      local tasks = host.tasks and #host.tasks() or 0
      host.fault.order { sqlstate = order and "40001", at = order and order.at or 0, attempt = 1,
                         times = 1,
        transaction = order and order.transaction or 1, note = true }
      local fine, result = pcall(call, op, given, options.options)
      shot.outcome = outcome_of(fine, result, began)
      shot.failed = not fine
      wait_for_hooks(tasks)
      local report = host.fault.report()
      shot.hits, shot.statements = report.hits, report.statements
      test.calm()
    end)
  end)
  tame()
  op.run = own_run
  if not ok then error(fault, 0) end
  look()
  return shot
end

-- Differences -------------------------------------------------------------------------------------

local function cut(text, from, to)
  local part = text:sub(math.max(from, 1), to)
  return (from > 1 and "…" or "") .. part .. (to < #text and "…" or "")
end

-- Describes the first place at which two texts differ.
local function first_difference(a, b)
  local at = 1
  while at <= #a and a:byte(at) == b:byte(at) do at = at + 1 end
  return ("`%s` instead of `%s`"):format(cut(b, at - 40, at + 60), cut(a, at - 40, at + 60))
end

local function one_line(sql) return cut((sql:gsub("%s+", " ")), 1, 100) end

local function statement_differences(found, a, b)
  for i = 1, math.max(#a, #b) do
    local x, y = a[i], b[i]
    if not (x and y and x.sql == y.sql and x.transaction == y.transaction) then
      found(("its last attempt sends other statements: number %d is %s instead of %s"):format(i,
        y and ("`%s` (%s)"):format(one_line(y.sql), y.line) or "nothing",
        x and ("`%s` (%s)"):format(one_line(x.sql), x.line) or "nothing"))
      return
    end
  end
end

-- Returns the rows of `a` that are missing in `b`; equal rows are counted.
local function only_in(a, b)
  local rest, rows = {}, {}
  for _, row in ipairs(b) do rest[row] = (rest[row] or 0) + 1 end
  for _, row in ipairs(a) do
    if (rest[row] or 0) > 0 then rest[row] = rest[row] - 1 else rows[#rows + 1] = row end
  end
  return rows
end

local function table_differences(found, a, b)
  for _, name in ipairs(sorted(a)) do
    local missing, extra = only_in(a[name], b[name]), only_in(b[name], a[name])
    if missing[1] and extra[1] then
      found(("the table %s holds %s"):format(name, first_difference(missing[1], extra[1])))
    elseif missing[1] then
      found(("the table %s lacks %d rows, as %s"):format(name, #missing, cut(missing[1], 1, 160)))
    elseif extra[1] then
      found(("the table %s holds %d rows too many, as %s"):format(name, #extra,
        cut(extra[1], 1, 160)))
    end
  end
end

local function compare(found, whole, shot, order)
  if shot.hits == 0 and order.at > 0 then found "it did not come to that statement this time" end
  if shot.outcome ~= whole.outcome then
    found("it gives " .. first_difference(whole.outcome, shot.outcome))
  end
  statement_differences(found, whole.statements, shot.statements)
  table_differences(found, whole.tables, shot.tables)
end

-- The places where the call can fail: { { transaction =, at =, name = }, … }. at: the number of the
-- statement in its transaction; 0: COMMIT.
local function places(statements)
  local list, sent = {}, {}
  for _, statement in ipairs(statements) do
    local t = statement.transaction
    sent[t] = (sent[t] or 0) + 1
    list[#list + 1] = { transaction = t, at = sent[t],
                        name = ("statement %d%s (%s)"):format(sent[t],
      t > 1 and " of transaction " .. t or "", statement.line) }
  end
  for _, t in ipairs(sorted(sent)) do
    list[#list + 1] = { transaction = t, at = 0,
                        name = "COMMIT" .. (t > 1 and " of transaction " .. t or "") }
  end
  return list
end

-- { operation =, input =, setup =, options =, tables =, ignore = } -> findings (texts; empty: the
-- operation is safe), numbers ({ calls =, statements =, outcome =, failed =, seconds = }).
--   operation  its name or definition
--   setup      function(db, database): prepares the database of moonpool.test; each run begins in
--              that state. Its result is the default of `input`.
--   input      a table, or a function that is called with the result of setup; for a subscriber the
--              message, or only its payload
--   options    of moonpool.call: tenant, as
--   tables     the tables whose rows are compared; default: all of the schema public
--   ignore     "table.column": a column that may differ; or the name of an upvalue or global that
--              may change
return function(test, options)
  local op = registry.get(options.operation)
  local began, clock = os.time(), host.clock()
  local findings, seen = {}, {}
  local ignored = {}
  for _, name in ipairs(options.ignore or {}) do ignored[name] = true end
  local function find(text)
    if not seen[text] then findings[#findings + 1], seen[text] = text, true end
  end

  local database = test.database()
  local made = options.setup and test.on(database, options.setup)
  local given = options.input
  if type(given) == "function" then given = given(made) end
  if given == nil then given = made end
  local admin = db.open { url = database.admin_url, max = 1 }
  local restore = keep(admin)

  local function shoot(place)
    if place then restore() end
    local shot = run(test, op, given, options, database, place, began)
    shot.tables = tables_of(admin, options, began)
    return shot
  end
  local function remembered(shot)
    for _, change in ipairs(shot.left) do
      if not ignored[change.name] then
        find(("%s leaves something behind: %s"):format(op.name, change.text))
      end
    end
  end
  local whole = shoot()
  remembered(whole)
  if not whole.statements[1] then
    find(("%s sent no statement, so nothing could fail: this is no verdict; it returned %s"):format(
      op.name or "it", whole.outcome))
  end
  local numbers = { calls = 1, statements = #whole.statements, outcome = whole.outcome,
                    failed = whole.failed }
  for _, place in ipairs(op.retries > 0 and places(whole.statements) or {}) do
    local shot = shoot(place)
    numbers.calls = numbers.calls + 1
    remembered(shot)
    compare(function(text)
      find(("%s, after a 40001 at %s: %s"):format(op.name, place.name, text))
    end, whole, shot, place)
  end
  admin.close()
  database.drop()
  numbers.seconds = host.clock() - clock
  return findings, numbers
end
