-- Whose fault a failure is, and what becomes known of it: the caller's is told to the caller; a
-- script's, a grant's or a disk's is the operator's, who finds it in the log, in metrics and in
-- alerts, while callers hear nothing of tables.
local alerts   = require "moonpool.alerts"
local command  = require "spec.support.process.command"
local codes    = require "moonpool.script.codes"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local page     = require "spec.support.client.metrics_page"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"
local serving  = require "spec.support.process.serving"

local FAILED = "the operation failed; the log of the host says why, under the call's id"

local function operation(fields, body)
  return (
    'local moonpool = require "moonpool"\nlocal is = require "moonpool.is"\nlocal json = require \z
      "moonpool.json"\n' ..
          'return moonpool.operation { %s run = function(tx, input) %s end }'):format(fields or "",
            body)
end

-- A statement of the caller's, with his value as $value.
local ASKS = [[
  if input.value ~= nil then return { n = tx:value(input.sql, input) } end
  tx:exec(input.sql)]]

local INPUT =
  "input = is.object { sql = is.string:optional(), value = is.any:optional(), name = \z
    is.string:optional() }, "

local files = {
  ["scripts/asks.lua"]    = operation(INPUT, ASKS),
  ["scripts/reads.lua"]   = operation("read_only = true, " .. INPUT, ASKS),
  ["scripts/breaks.lua"]  = operation(nil, "local none; return none.field"),
  ["scripts/hooked.lua"]  = operation(nil, "tx:after_commit(function() error('in the hook') end)"),
  ["scripts/refuses.lua"] = operation(INPUT,
    [[moonpool.fail("ACCOUNT_LOCKED", "locked: " .. tostring(input.name), { status = 423 })]]),
  ["scripts/names.lua"]   = operation(INPUT .. [[errors = {
      things_code_key = { "DUPLICATE_CODE", 409, "there is a $name already" },
      things_size_check = { "BAD_SIZE" } }, ]],
    [[tx:exec("insert into failures_spec.things values (1, $name, 5)", input)
      tx:exec(input.sql or "select 1")]]),
  ["scripts/odd.lua"]     = operation(nil, [[
    moonpool.fail("ODD", "bytes \xff\xfe", { status = 409, fields = { print }, attempts = print,
      line = {} })]]),
  ["scripts/bends.lua"]   = operation(nil, [[
    local _, e = pcall(tx.one, tx, "select 1 where false", nil, "none")
    e.status, e.code = 204, "no code"
    error(e)]]),
  ["scripts/outer.lua"]   =
    operation(INPUT, [[return moonpool.call("names", { name = input.name })]]),
  ["scripts/bounded.lua"] = operation("input = is.object { big_number = is.integer }, ",
    [[return tx:value("select $big_number::int", input)]]),
  ["scripts/computes.lua"] = operation("input = is.object { n = is.integer }, ",
    [[return tx:value("select $other::int", { other = input.n })]]),
}

local setting = { MOONPOOL_LOG = "json", MOONPOOL_LOG_LEVEL = "info" }
local schema, host, token

setup(function()
  schema = scratch.schema("failures_spec", {
    [[create table failures_spec.things (id int primary key,
      code text not null constraint things_code_key unique,
        size int constraint things_size_check check (size < 100), label varchar(3),
          owner int references failures_spec.things)]],
    "create table failures_spec.closed (secret_column int)",
    "create table failures_spec.walled (id int)",
    "alter table failures_spec.walled enable row level security",
    "insert into failures_spec.things values (0, 'taken', 1)",
    [[create function failures_spec.raise(state text) returns void language plpgsql as
        $$ begin raise exception 'of things_code_key' using errcode = state; end $$]],
    "grant execute on function failures_spec.raise to moonpool_app",
  })
  schema.owner.exec "revoke all on failures_spec.closed from moonpool_app"
  host = service.start(files, { env = setting })
  token = service.token "--scopes ops:*,monitor"
end)

teardown(function()
  host:stop()
  schema.drop()
end)

local function call(name, input)
  return service.ask(host, "POST", "/api/ops/" .. name,
                     { token = token, json = input or json.object() })
end

local function look(path) return service.ask(host, "GET", path, { token = token }).json end

-- The lines of the log that are about the call of an answer.
local function lines_of(answer)
  local found = {}
  for line in host:log():gmatch "[^\n]+" do
    local event = line:find(answer.headers["x-call-id"], 1, true) and json.decode(line)
    if event then found[#found + 1] = event end
  end
  return found
end

-- code, status, text and ids, and nothing else.
local function assert_bare(answer)
  local allowed = { code = true, message = true, status = true, requestId = true, callId = true,
                    fields = true }
  for name in pairs(answer.json.error) do assert.is_true(allowed[name], name) end
  assert.are.equal(answer.status, answer.json.error.status)
  assert.are.equal(answer.headers["x-call-id"], answer.json.error.callId)
  for _, word in ipairs { "failures_spec", "things", "closed", "walled", "secret_column", "_key",
                          "constraint",
                          "relation", "column", "scripts/", "select", "insert" } do
    assert.is_nil(answer.body:find(word, 1, true), answer.body)
  end
end

local function count_of(name, code, fault)
  return page.read(service.ask(host, "GET", "/metrics", { token = token }).body)
    :value("moonpool_calls_failed_total", { operation = name, code = code, fault = fault }) or 0
end

local function fails(name, input, code, status, fault)
  local before = count_of(name, code, fault)
  local answer = call(name, input)
  assert.are.same({ code, status }, { answer.json.error and answer.json.error.code, answer.status },
                  answer.body)
  assert_bare(answer)
  assert.are.equal(before + 1, count_of(name, code, fault))
  local why = command.run("why " .. answer.headers["x-call-id"],
    { dir = host.folder.path, env = { MOONPOOL_STATE = host.env.MOONPOOL_STATE } })
  assert.truthy(why:find(code .. ": ", 1, true), why)
  return answer, lines_of(answer)
end

local of_operator = {
  -- what is asked, SQLSTATE, code, status
  { "a grant that is missing", "asks", "select * from failures_spec.closed", "42501",
    "PERMISSION_DENIED", 500 },
  { "row level security that refuses", "asks", "insert into failures_spec.walled values (1)",
    "42501", "PERMISSION_DENIED", 500 },
  { "a write where it only reads", "reads", "insert into failures_spec.things values (5, 'x')",
    "25006", "READ_ONLY", 500 },
  { "NOT NULL that `errors` does not name", "asks",
    "insert into failures_spec.things values (2, null)", "23502",
    "NOT_NULL_VIOLATION", 500 },
  { "a CHECK that `errors` does not name", "asks",
    "insert into failures_spec.things values (3, 'x', 500)", "23514",
    "CHECK_VIOLATION", 500 },
  { "a column that is not there", "asks", "select no_such_column from failures_spec.things",
    "42703", "DATABASE_ERROR", 500 },
  { "a table that is not there", "asks", "select 1 from failures_spec.no_such", "42P01",
    "DATABASE_ERROR", 500 },
  { "a text that is too long", "asks",
    "insert into failures_spec.things values (4, 'y', 1, 'long')", "22001",
    "TEXT_TOO_LONG", 500 },
  { "a division by zero", "asks", "select 1 / (size - 1) from failures_spec.things", "22012",
    "DATABASE_ERROR", 500 },
  { "a full disk", "asks", "select failures_spec.raise('53100')", "53100", "DISK_FULL", 503 },
  { "a server without memory", "asks", "select failures_spec.raise('53200')", "53200",
    "SERVER_OUT_OF_MEMORY", 503 },
  { "a limit of the server", "asks", "select failures_spec.raise('53400')", "53400", "SERVER_LIMIT",
    503 },
  { "a disk that cannot be read", "asks", "select failures_spec.raise('58030')", "58030",
    "STORAGE_ERROR", 503 },
  { "a damaged file", "asks", "select failures_spec.raise('XX001')", "XX001", "STORAGE_ERROR",
    503 },
  { "what nobody foresaw", "asks", "select failures_spec.raise('P0001')", "P0001", "DATABASE_ERROR",
    500 },
}

describe("a fault of the operator's", function()
  for _, case in ipairs(of_operator) do
    local what, name, sql, state, code, status = table.unpack(case)
    it("is told to the log, not to callers: " .. what, function()
      local answer, lines = fails(name, { sql = sql }, code, status, "operator")
      assert.are.equal(codes[code].told, answer.json.error.message)
      assert.are.equal(1, #lines)
      assert.are.same({ "error", name, answer.json.error.requestId },
                      { lines[1].level, lines[1].operation, lines[1].request_id })
      assert.matches("^" .. name .. " failed: " .. code .. ": .*SQLSTATE " .. state,
                     lines[1].message)
      assert.matches("scripts/" .. name .. ".lua:%d+", lines[1].message)
    end)
  end

  it("names the constraint in the log", function()
    local _, lines = fails("asks",
                           { sql = "insert into failures_spec.things values (3, 'x', 500)" },
      "CHECK_VIOLATION", 500, "operator")
    assert.truthy(lines[1].message:find("constraint things_size_check", 1, true))
  end)

  it("is a bug in its script, with the traceback", function()
    local answer, lines = fails("breaks", nil, "SCRIPT_ERROR", 500, "operator")
    assert.are.equal(FAILED, answer.json.error.message)
    assert.truthy(lines[1].message:find("attempt to index a nil value (local 'none')", 1, true),
                  lines[1].message)
    assert.truthy(lines[1].message:find("stack traceback", 1, true))
  end)

  it("is an error in a hook, which nobody else is told", function()
    local before, answer = count_of("hooked", "SCRIPT_ERROR", "operator"), call "hooked"
    assert.are.equal(200, answer.status)
    scratch.await("the hook to fail", function()
      return count_of("hooked", "SCRIPT_ERROR", "operator") == before + 1
    end)
    assert.truthy(lines_of(answer)[1].message:find("SCRIPT_ERROR: in the hook", 1, true))
  end)

  it("counts among the transactions that failed", function()
    local function failed()
      for _, entry in ipairs(look("/api/db/operations").operations) do
        if entry.operation == "breaks" then return entry.failed end
      end
    end
    call "breaks"
    local before = failed()
    for _ = 1, 30 do call "breaks" end
    assert.are.equal(before + 30, failed())
  end)

  it("is listed with the last call of its kind", function()
    local answer = call "breaks"
    local kinds = look("/api/db/failed-calls").failures
    assert.are.same({ "breaks", "SCRIPT_ERROR", "operator", answer.headers["x-call-id"] },
      { kinds[1].operation, kinds[1].code, kinds[1].fault, kinds[1].callId })
    assert.is_true(kinds[1].count > 0)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT", kinds[1].last)
  end)
end)

describe("calls that fail by a fault of the operator's", function()
  it("raise an alert that names operation and code", function()
    local op = moonpool.operation { run = function() error "a bug" end }
    require("moonpool.operation.definition").of(op).name = "failures_spec_breaks"
    alerts.start()
    for _ = 1, 30 do pcall(moonpool.call, op, {}) end
    alerts.tick()
    local found
    for _, alert in ipairs(alerts.list()) do
      found = alert.name == "operator_faults" and alert or found
    end
    alerts.stop()
    assert.are.same({ "critical", 30 }, { found.severity, found.value })
    assert.truthy(found.message:find("failures_spec_breaks SCRIPT_ERROR (30)", 1, true),
                  found.message)
    assert.truthy(found.action:find("/api/db/failed-calls", 1, true))
  end)

  it("are refused where their `errors` are no errors, with file and line", function()
    local broken = serving.start(
      { ["scripts/wrong.lua"] = 'local moonpool = require "moonpool"\n' ..
      'return moonpool.operation {\n  run = print,\n  errors = {\n    things_pkey = { "DUP", \z
        99999 },\n  },\n}' },
      { broken = true })
    assert.are.equal(1, broken:wait())
    assert.truthy(broken:log()
      :find("scripts/wrong.lua:5: moonpool.operation: errors.things_pkey: the status is 99999", 1,
            true),
      broken:log())
    broken:stop()
  end)
end)

describe("a fault of the caller's", function()
  for what, case in pairs {
    ["a value that is taken"]       =
      { "insert into failures_spec.things values (6, 'taken')", "UNIQUE_VIOLATION" },
    ["what it refers to"]           =
      { "insert into failures_spec.things values (7, 'z', 1, null, 999)",
        "FOREIGN_KEY_VIOLATION" },
  } do
    it("is a conflict, in no words of the schema: " .. what, function()
      local answer, lines = fails("asks", { sql = case[1] }, case[2], 409, "caller")
      assert.are.equal(codes[case[2]].told, answer.json.error.message)
      assert.are.equal(0, #lines)
    end)
  end

  it("has the code, status and message that `errors` gives it, with values of the input", function()
    local answer = fails("names", { name = "taken" }, "DUPLICATE_CODE", 409, "caller")
    assert.are.equal("there is a taken already", answer.json.error.message)
    -- of an operation that joins
    answer = fails("outer", { name = "taken" }, "DUPLICATE_CODE", 409, "caller")
    assert.are.equal("there is a taken already", answer.json.error.message)
    answer = fails("names", { name = "new", sql = "update failures_spec.things set size = 500" },
                   "BAD_SIZE", 400, "caller")
    assert.are.equal("it breaks a rule of what is stored", answer.json.error.message)
  end)

  it("is a domain error under its own code", function()
    local answer = fails("refuses", { name = "me" }, "ACCOUNT_LOCKED", 423, "caller")
    assert.are.equal("locked: me", answer.json.error.message)
  end)

  it(
    "is a number out of range in his input, whose field is named, \z
      and which the log does not repeat", function()
    local answer = fails("bounded", { bigNumber = 3000000000 }, "NUMBER_OUT_OF_RANGE", 400,
                         "caller")
    assert.are.equal("bigNumber: a number is out of range", answer.json.error.message)
    assert.are.same({ { path = "bigNumber", message = "a number is out of range" } },
                    answer.json.error.fields)
    local e = select(2, pcall(moonpool.call, moonpool.operation {
      run = function(tx)
        return tx:value("select $big_number::int", { big_number = 3000000000 })
      end }, {}))
    assert.are.equal("big_number: value (hidden) is out of range for type integer", e.message)
  end)

  it("is none where the script has made the value", function()
    local answer, lines = fails("computes", { n = 3000000000 }, "NUMBER_OUT_OF_RANGE", 500,
                                "operator")
    assert.are.equal("a number is out of range", answer.json.error.message)
    assert.truthy(lines[1].message:find("other: value (hidden) is out of range for type integer", 1,
                                        true), lines[1].message)
  end)

  it("is what came to no call at all", function()
    local before = count_of("bounded", "VALIDATION_ERROR", "caller")
    assert_bare(call("bounded", { bigNumber = "x" }))
    assert.are.equal(400, service.ask(host, "POST", "/api/ops/bounded",
                                      { token = token, body = "{" }).status)
    assert.are.equal(before + 2, count_of("bounded", "VALIDATION_ERROR", "caller"))
    before = count_of("unknown", "UNKNOWN_OPERATION", "caller")
    for i = 1, 3 do assert_bare(call("no_such_" .. i)) end
    assert.are.equal(before + 3, count_of("unknown", "UNKNOWN_OPERATION", "caller"))
  end)
end)

describe("an error that a script has put odd things into", function()
  it("is answered all the same", function()
    local answer = fails("odd", nil, "ODD", 409, "caller")
    assert.are.equal("bytes ??", answer.json.error.message)
    assert.is_nil(answer.json.error.fields)
    fails("bends", nil, "SCRIPT_ERROR", 500, "operator")
  end)
end)

describe("a fault that passes", function()
  it("may be tried again, and is a line without a traceback", function()
    local answer, lines = fails("asks", { sql = "select failures_spec.raise('55P03')" },
                                "LOCK_TIMEOUT", 503, "transient")
    assert.truthy(answer.headers["retry-after"])
    assert.are.equal("warn", lines[1].level)
    assert.is_nil(lines[1].message:find("traceback", 1, true))
  end)
end)

describe("on the command line", function()
  it("a failed call has the same code, and more words", function()
    local output, code = command.run(
      [[call asks '{"sql":"insert into failures_spec.things values (2, null)"}']],
      { dir = host.folder.path, env = { MOONPOOL_STATE = host.env.MOONPOOL_STATE } })
    assert.are.equal(1, code)
    local told = json.decode(output).error
    assert.are.same({ "NOT_NULL_VIOLATION", 500 }, { told.code, told.status })
    assert.matches('null value in column "code"', told.message)
  end)

  it("a call that fails in a script is told to the log, also where the script catches it",
     function()
    local output = scratch.script([[
      local moonpool, metrics = require "moonpool", require "moonpool.metrics"
      local op = moonpool.operation { run = function() error "it broke" end }
      pcall(moonpool.call, op, {})
      print(metrics.failures()[1].code, metrics.failures()[1].count)]])
    assert.matches("operation failed: SCRIPT_ERROR: it broke", output)
    assert.matches("SCRIPT_ERROR\t1", output)
  end)
end)
