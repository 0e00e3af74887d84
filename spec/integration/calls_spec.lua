-- The recorder: what a call did, step by step, and for how long that is known.
local calls    = require "moonpool.calls"
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local monitor  = require "moonpool.watch.monitor"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local serving  = require "spec.support.process.serving"

local function operation(fields)
  local name = fields.name or "calls_spec"
  fields.run, fields[1], fields.name = fields[1], nil, nil
  local op = moonpool.operation(fields)
  require("moonpool.operation.definition").of(op).name = name
  return op
end

local function kinds(call)
  local list = {}
  for i, note in ipairs(call.notes) do list[i] = note.kind end
  return table.concat(list, " ")
end

local function notes(call, kind)
  local list = {}
  for _, note in ipairs(call.notes) do
    if note.kind == kind then list[#list + 1] = note end
  end
  return list
end

describe("a recorded call", function()
  local schema

  setup(function()
    schema = scratch.schema("calls_spec",
                            { "create table calls_spec.t (id int primary key, secret text)",
      [[create function calls_spec.raise(state text) returns void language plpgsql as
        $$ begin raise exception 'on purpose' using errcode = state; end $$]],
      "grant execute on function calls_spec.raise to moonpool_app" })
  end)

  teardown(function() schema.drop() end)

  it("tells its round trips and the statements in each", function()
    local _, info = moonpool.call_info(operation { function(tx)
      local row = tx:one "select 41 + 1 as answer"
      local answer = row.answer
      tx:exec("insert into calls_spec.t values ($1, $2)", answer, "hush-hush")
      return answer
    end }, {}, { as = "018f0000-0000-7000-8000-000000000001" })
    assert.matches("^%x+%-%x+%-7%x+%-%x+%-%x+$", info.id)
    local call = calls.find(info.id)
    assert.are.same({ "calls_spec", "committed", 1, 2 },
                    { call.operation, call.outcome, call.attempts, call.round_trips })
    assert.are.equal("018f0000-0000-7000-8000-000000000001", call.caller)
    assert.are.equal("waits connected attempt sent statement answered sent statement answered",
                     kinds(call))
    local sent = notes(call, "sent")
    assert.are.same({ "begin", "commit" }, { sent[1].text, sent[2].text })
    local statements = notes(call, "statement")
    assert.are.equal("select $1 + $2 as answer", statements[1].query)
    assert.matches("calls_spec%.lua:%d+$", statements[2].text)
    local last = 0
    for _, note in ipairs(call.notes) do
      assert.is_true(note.at >= last)
      last = note.at
    end
    assert.is_true(call.duration >= last)
    assert.is_nil(json.encode(call):find("hush", 1, true))
    assert.is_nil(calls.timeline(info.id):find("hush", 1, true))
  end)

  it("tells why it was tried again", function()
    local _, info = moonpool.call_info(operation { function(tx)
      if tx.attempt == 1 then tx:value("select calls_spec.raise($1)", "40001") end
      return tx:value "select 1"
    end }, {})
    local call = calls.find(info.id)
    assert.are.equal(2, call.attempts)
    assert.matches("failed .*rollback .*backoff .*attempt", kinds(call))
    -- not what it says: that may be a secret
    local place = "40001 raised by PL/pgSQL function calls_spec%.raise%(text%) line 1"
    assert.matches("^" .. place, notes(call, "failed")[1].text)
    assert.matches("^40001", notes(call, "backoff")[1].text)
    assert.matches("waits %d+ ms before the next attempt: " .. place, calls.timeline(info.id))
  end)

  it("is named in its error, and says how it failed", function()
    local ok, e = pcall(moonpool.call, operation { function(tx)
      return tx:value "select 1/0"
    end }, {})
    assert.is_false(ok)
    local call = calls.find(e.call_id)
    assert.are.equal("rolled_back", call.outcome)
    assert.matches("division by zero", call.error)
    assert.matches("^22012", notes(call, "failed")[1].text)
  end)

  it("tells its lane, and who shared its transaction", function()
    local op = operation { lane = "calls_spec", isolation = "serializable", group = 5, function(tx)
      tx:exec "select 1"
    end }
    local ids, fns = {}, {}
    for i = 1, 4 do
      fns[i] = function()
        local _, info = moonpool.call_info(op, {})
        ids[i] = info.id
      end
    end
    moonpool.all(fns)
    local shared = 0
    for i = 1, 4 do
      local call = calls.find(ids[i])
      assert.are.equal("calls_spec", call.lane)
      assert.are.equal(1, #notes(call, "lane"))
      assert.is_true(#notes(call, "statement") >= 1)
      shared = math.max(shared, call.group or 1)
    end
    assert.is_true(shared > 1)
  end)

  it("can be seen while it runs", function()
    local go, seen = false, nil
    local op = operation { name = "calls_spec_running", function()
      while not go do moonpool.sleep(0) end
    end }
    local task = moonpool.spawn(function() moonpool.call(op, {}) end)
    scratch.await("the call", function()
      for _, call in ipairs(calls.recent()) do seen = call.operation == op.name and call or seen end
      return seen
    end)
    assert.are.equal("running", seen.outcome)
    assert.are.equal("running", calls.find(seen.id).outcome)
    go = true
    task:wait()
    assert.are.equal("committed", calls.find(seen.id).outcome)
  end)

  it("is kept within bounds: traffic washes away what went well, not what failed", function()
    local good = operation { function(tx) return tx:value "select 1" end }
    local _, info = moonpool.call_info(good, {})
    local _, e = pcall(moonpool.call, operation { function() moonpool.fail("NO", "no") end }, {})
    for _ = 1, 250 do moonpool.call(good, {}) end
    assert.is_nil(calls.find(info.id))
    assert.are.equal("rolled_back", calls.find(e.call_id).outcome)
    assert.are.equal(200, #calls.recent { limit = 1000 })
    assert.are.equal(e.call_id, calls.recent { notable = true }[1].id)
  end)

  it("can be asked for when a list has shown it, whatever ended since", function()
    local good = operation { function(tx) return tx:value "select 1" end }
    local _, info = moonpool.call_info(good, {})
    local _, unseen = moonpool.call_info(good, {})
    assert.are.equal(info.id, calls.recent({ limit = 2 })[2].id)
    for _ = 1, 201 do moonpool.call(good, {}) end
    assert.are.equal("committed", calls.find(info.id).outcome)
    assert.are.equal("committed", calls.find(unseen.id).outcome) -- the same list showed it
    calls.recent { limit = 1000 }
    for _ = 1, 201 do moonpool.call(good, {}) end
    assert.is_nil(calls.find(info.id)) -- two hundred others have been shown since
  end)

  it("keeps a hundred steps and counts the others", function()
    local _, info = moonpool.call_info(operation { function(tx)
      for _ = 1, 300 do tx:exec "select 1" end
    end }, {})
    local call = calls.find(info.id)
    assert.are.equal(100, #call.notes)
    assert.is_true(call.omitted > 200)
    assert.matches("%d+ further steps were not kept", calls.timeline(info.id))
  end)

  it("is a page", function()
    local _, info = moonpool.call_info(operation { function(tx)
      return tx:value "select 1"
    end }, {})
    local body, status = monitor.calls { limit = "5" }
    assert.are.same({ 200, 5, info.id }, { status, body.count, body.calls[1].id })
    body, status = monitor.call { id = info.id }
    assert.are.same({ 200, "calls_spec", 2 }, { status, body.operation, body.roundTrips })
    assert.is_true(#json.decode(json.encode(body)).notes > 3)
    body, status = monitor.call { id = "none" }
    assert.are.same({ 404, "UNKNOWN_CALL" }, { status, body.error.code })
  end)
end)

describe("moonpool why", function()
  local host

  after_each(function() host:stop() end)

  local function run(args)
    return command.run(args, { dir = host.folder.path, env = host.env })
  end

  it("asks the running host", function()
    host = serving.start { ["scripts/greet.lua"] = [[
      local moonpool = require "moonpool"
      return moonpool.operation { run = function(tx)
        return tx:value "select 'hello' || pg_backend_pid()" end }
    ]] }
    host:ask { ["do"] = "call", name = "greet" }
    local list = run "why"
    local id = list:match "(%x+%-%x+%-%x+%-%x+%-%x+)  greet  committed"
    assert.is_string(id, list)
    local told, code = run("why " .. id)
    assert.are.equal(0, code)
    assert.matches("round trip 1, with begin", told)
    assert.matches("scripts/greet.lua:3  select %$1 || pg_backend_pid%(%)", told)
    told, code = run("why 00000000-0000-7000-8000-000000000000")
    assert.are.equal(1, code)
    assert.matches("has no such call", told)
    told, code = run "why nonsense!"
    assert.are.equal(2, code)
    assert.matches("not the id of a call", told)
  end)
end)
