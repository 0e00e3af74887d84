-- Bodies that are dear to read, to check and to refuse. Each is answered, its work is charged to
-- its call, and whoever else asks is answered meanwhile. How long the loop stands still is measured
-- by `make soak`.
local bodies  = require "spec.support.data.bodies"
local http    = require "spec.support.client.http"
local service = require "spec.support.process.http_service"

local AT_ONCE = 12

local host, token

setup(function()
  host = service.start(bodies.scripts, { env = { MOONPOOL_DRAIN_TIMEOUT = "2000" } })
  token = service.token "--scopes ops:*"
end)

teardown(function() host:stop() end)

local function request(body, name)
  return (
    "POST /api/ops/%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: \z
      %d\r\n\r\n%s"):format(
    name or "bodies", token, #body, body)
end

local names = {}
for name in pairs(bodies.all) do names[#names + 1] = name end
table.sort(names)

for _, name in ipairs(names) do
  it(("%d bodies of %s at once are answered, and so is who else asks"):format(AT_ONCE, name),
     function()
    local text, clients = request(bodies.all[name]), {}
    for i = 1, AT_ONCE do clients[i] = assert(http.connect(host.port)).send(text) end
    assert.are.equal(200, service.ask(host, "GET", "/health").status)
    assert.are.equal(200, service.ask(host, "POST", "/api/ops/hello",
                                      { token = token, body = "{}" }).status)
    for _, client in ipairs(clients) do
      local answer = assert(client.answer())
      assert(({ [400] = true, [413] = true, [500] = true })[answer.status],
             answer.head .. answer.body)
      client.close()
    end
  end)
end

it("more values than a body may have are refused with the number and the setting", function()
  local answer = service.ask(host, "POST", "/api/ops/bodies",
                             { token = token, body = bodies.all.any })
  assert.are.equal(413, answer.status)
  assert.are.equal("CONTENT_TOO_LARGE", answer.json.error.code)
  assert.truthy(answer.json.error.message:find "more than 100000 values %(MOONPOOL_BODY_VALUES%)")
end)

it("a body that needs more memory than its call may have is too large; the host has enough",
   function()
  local answer = service.ask(host, "POST", "/api/ops/bodies",
                             { token = token, body = bodies.all.long_numbers })
  assert.are.equal(413, answer.status)
  assert.are.equal("CONTENT_TOO_LARGE", answer.json.error.code)
  assert.truthy(answer.json.error.message:find("MOONPOOL_TASK_MEMORY", 1, true))
end)

it("the log hides what a message repeats of the input, and keeps the rest", function()
  local answer = service.ask(host, "POST", "/api/ops/bodies",
                             { token = token, body = '{"id":"my-secret-id"}' })
  assert.are.equal(500, answer.status)
  assert.truthy(host:log():find("cannot do this", 1, true))
  assert.falsy(host:log():find("my-secret-id", 1, true))
end)

it("what is done for a call counts as its CPU time", function()
  local own = service.start(bodies.scripts,
                            { env = { MOONPOOL_CPU_BUDGET = "5",
                                      MOONPOOL_BODY_VALUES = "1000000" } })
  local answer = service.ask(own, "POST", "/api/ops/bodies",
                             { token = token, body = bodies.all.choices })
  own:stop()
  assert.are.equal("SCRIPT_TIMEOUT", answer.json.error.code)
end)

it("SIGTERM ends a host whose calls are busy with their bodies", function()
  local own = service.start(bodies.scripts,
                            { env = { MOONPOOL_DRAIN_TIMEOUT = "500", MOONPOOL_CPU_BUDGET = "60000",
                                      MOONPOOL_BODY_VALUES = "1000000" } })
  local text, clients = request(bodies.all.choices), {}
  for i = 1, AT_ONCE do clients[i] = assert(http.connect(own.port)).send(text) end
  assert.are.equal(200, service.ask(own, "GET", "/health").status)
  own:signal "TERM"
  assert.are.equal(0, own:wait())
  own:stop()
  for _, client in ipairs(clients) do client.close() end
end)
