-- Memory outside of Lua that a call makes the host hold: results that it keeps, statements that it
-- queues. It counts as the call's memory, and there is a common limit; either ends the call with a
-- code that says so, and the memory comes back.
local service = require "spec.support.process.http_service"
local scratch = require "spec.support.data.scratch"

local function operation(body, fields)
  return ([[local moonpool = require "moonpool"
    return moonpool.operation { summary = "x", memory = 16, cpu = 20, timeout = 60,
      %s run = function(tx) %s end }]]):format(
    fields or "", body)
end

local scripts = {
  -- each is far beyond 16 MB in all
  ["scripts/keeps_results.lua"] = operation [[
    local kept = {}
    for i = 1, 60 do kept[i] = tx:query("select repeat('x', 4000000) as t, $1::int as n", i) end
    return #kept]],
  ["scripts/catches.lua"] = operation [[
    local kept = {}
    for i = 1, 60 do pcall(function() kept[i] =
      tx:query("select repeat('x', 4000000) as t, $1::int as n", i) end) end
    return #kept]],
  ["scripts/queues.lua"] = operation [[
    local text = ("x"):rep(1000)
    for i = 1, 1000000 do tx:exec("select $1::text", text .. i) end
    return 1]],
  ["scripts/queues_texts.lua"] = operation [[
    local text = ("x"):rep(1000)
    for i = 1, 1000000 do tx:exec("select '" .. text .. i .. "'") end
    return 1]],
  ["scripts/repeats.lua"] = operation [[
    local text, values, marks = ("x"):rep(1000000), {}, {}
    for i = 1, 2000 do values[i], marks[i] = text, "$" .. i .. "::text" end
    tx:exec("select array[" .. table.concat(marks, ",") .. "]", table.unpack(values))
    return 1]],
  ["scripts/publishes.lua"] = operation [[
    local text = ("x"):rep(1000)
    for i = 1, 1000000 do tx:publish("held.topic", { text = text .. i }) end
    return 1]],
  -- and these are not: what nobody holds any more does not count
  ["scripts/lets_go.lua"] = operation [[
    local n = 0
    for i = 1, 30 do n = n + #tx:query("select repeat('x', 4000000) as t, $1::int as n", i)[1].t end
    return n]],
  ["scripts/looks.lua"] = operation [[return #tx:query "select repeat('x', 100000) as t"]],
  ["scripts/waits.lua"] = operation([[
    local rows = tx:query "select repeat('x', 8000000) as t"
    tx:query "select pg_sleep(1)"
    return #rows[1].t]]),
}

local host, token

setup(function()
  host = service.start(scripts, { env = { MOONPOOL_RESULT_MEMORY = "40", DB_POOL_MAX = "20" } })
  token = service.token "--scopes ops:*"
end)

teardown(function() host:stop() end)

local function call(name)
  return service.ask(host, "POST", "/api/ops/" .. name, { token = token, body = "{}" })
end

for _, name in ipairs { "keeps_results", "catches", "queues", "queues_texts", "repeats",
                        "publishes" } do
  it(("a call that %s more than its memory is ended, and the host stays small"):format(name),
     function()
    local before = host:resident()
    local answer = call(name)
    assert.are.same({ 500, "OUT_OF_MEMORY" }, { answer.status, answer.json.error.code })
    local after = host:resident()
    assert.is_true(not after or after - before < 150 * 1024,
                   ("%s KiB"):format(after and after - before))
    assert.are.equal(200, service.ask(host, "GET", "/health").status)
  end)
end

it(
  "calls one after another do not use up the common limit: what they leave behind is collected \z
    in time", function()
  for _ = 1, 1500 do
    local answer = call "looks"
    assert.are.equal(200, answer.status, answer.body)
  end
end)

it("a call may read more than its memory, if it lets go of it", function()
  local answer = call "lets_go"
  assert.are.equal(200, answer.status, answer.body)
  assert.are.equal(30 * 4000000, answer.json.result)
end)

it(
  "calls together hold no more than the common limit; who is beyond it is told that the host is \z
    short", function()
  local http, clients, told = require "spec.support.client.http", {}, { [200] = 0, [503] = 0 }
  local head =
    "POST /api/ops/waits HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: \z
      2\r\n\r\n{}"
  local text = head:format(token)
  for i = 1, 12 do clients[i] = assert(http.connect(host.port)).send(text) end
  for _, client in ipairs(clients) do
    local answer = assert(client.answer())
    told[answer.status] = told[answer.status] + 1
    assert(answer.status == 200 or answer.body:find("HOST_OUT_OF_MEMORY", 1, true), answer.body)
    client.close()
  end
  assert.is_true(told[200] >= 1 and told[503] >= 1, ("%d, %d"):format(told[200], told[503]))
  scratch.await("room again", function() return call "waits".status == 200 end)
end)

it("a result that does not end is not received to its end, nor asked for again", function()
  local output = scratch.script([[
    local db, moonpool = require "moonpool.db", require "moonpool"
    local text = "select repeat('x', 1000) as t from generate_series(1, 300000)"
    local op = moonpool.operation { run = function(tx) return #tx:query(text) end }
    for what, fn in pairs { db = function() return db.query(text) end,
                            op = function() return moonpool.call(op, {}) end } do
      local ok, e = pcall(fn)
      print(what, ok, e.code, e.attempts, e.message)
    end
    for line in io.lines "/proc/self/status" do
      if line:find "VmHWM" then print("most", line:match "%d+") end
    end
    print("then", db.value "select 42")
  ]], { MOONPOOL_RESULT_LIMIT = "1" })
  for _, what in ipairs { "db\tfalse\tINVALID_ARGUMENT\tnil", "op\tfalse\tINVALID_ARGUMENT\t1" } do
    assert.matches(what .. "\t[^\n]*a result is far larger than MOONPOOL_RESULT_LIMIT", output)
  end
  local most = tonumber(output:match "most\t(%d+)")
  assert.is_true(most < 300000, output) -- KB, of two results of 300 MB
  assert.matches("then\t42", output, 1, true)
end)
