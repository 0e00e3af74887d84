-- /mcp: operations as tools of the Model Context Protocol, asked by the protocol's own client
-- (@modelcontextprotocol/sdk) and by requests that no client sends.
local dealership = require "spec.support.data.dealership"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local service    = require "spec.support.process.http_service"
local serving    = require "spec.support.process.serving"

describe("the Model Context Protocol", function()
  local host, ours, token, narrow

  setup(function()
    assert(os.execute(("test -d '%s/build/npm/node_modules'"):format(moonpool.app_dir)),
           "make build/npm/node_modules")
    local files = serving.project()
    files["scripts/count_words.lua"] = [[
      local moonpool = require "moonpool"
      local is = require "moonpool.is"
      return moonpool.operation {
        summary = "Counts words", input = is.array(is.string), read_only = true, tenant = false,
        run = function(_, words) return { count = #words } end,
      }]]
    host, ours = service.start(files, { env = { MOONPOOL_MCP = "on" } }), dealership.new()
    local whose = ("--tenant %s --user %s"):format(ours.id, ours.salesperson.id)
    token  = service.token(whose)
    narrow = service.token(whose .. " --scopes ops:get_deal")
  end)

  teardown(function() host:stop() end)

  local function client(calls, options)
    options = options or {}
    local pipe = assert(io.popen((
      "node '%s/spec/support/client/mcp.mjs' '%s/build/npm' http://127.0.0.1:%d/mcp '%s' '%s' \z
      2>&1"):format(moonpool.app_dir, moonpool.app_dir, (options.host or host).port,
        options.token or token, json.encode(json.array(calls)))))
    local said = pipe:read "a"
    pipe:close()
    return json.decode(said)
  end

  -- One message as it is; options: headers, body.
  local function ask(message, headers)
    return service.ask(host, "POST", "/mcp", { token = token, headers = headers,
      body = type(message) == "string" and message or json.encode(message) })
  end

  local function named(tools)
    local by_name = {}
    for _, tool in ipairs(tools) do by_name[tool.name] = tool end
    return by_name
  end

  it("has the operations of the token as tools, with what they take", function()
    local seen = client {}
    assert.are.equal("2025-11-25", seen.version, seen.failed)
    local tools = named(seen.tools)
    local made = tools.create_deal
    assert.matches("^Create a deal", made.description)
    assert.are.equal("boolean", made.inputSchema.properties.dryRun.type)
    assert.are.same({ "salespersonId" }, made.inputSchema.required) -- the token has the tenant
    assert.is_true(tools.get_deal.annotations.readOnlyHint)
    assert.is_nil(tools.get_deal.inputSchema.properties.dryRun)
    assert.are.equal("array", tools.count_words.inputSchema.properties.input.type)
    local few = client({ { name = "create_deal", arguments = { salespersonId = "x" } } },
                       { token = narrow })
    assert.are.equal(1, #few.tools)
    assert.are.equal(-32602, few.answers[1].refused)
  end)

  it("calls them; a dry run answers the same and stores nothing", function()
    local input = { salespersonId = ours.salesperson.id, customerId = ours:customer().id }
    local trial = { dryRun = true }
    for name, value in pairs(input) do trial[name] = value end
    local before = ours:count "deals"
    local seen = client {
      { name = "create_deal", arguments = trial },
      { name = "count_words", arguments = { input = { "a", "b" } } },
    }
    local tried = seen.answers[1].structuredContent
    assert.is_true(tried.dryRun)
    assert.are.equal(ours.salesperson.id, tried.result.deal.salespersonId)
    assert.are.equal(before, ours:count "deals")
    assert.are.equal(2, seen.answers[2].structuredContent.result.count)

    local done = client({ { name = "create_deal", arguments = input } }).answers[1]
    assert.are.same(done.structuredContent.result, json.decode(done.content[1].text))
    assert.are.equal(before + 1, ours:count "deals")
    assert.is_nil(done.isError)
  end)

  it("says what went wrong and what to do", function()
    local foreign = dealership.new()
    local seen = client {
      { name = "create_deal", arguments = { salespersonId = ours.salesperson.id, nubmer = 1 } },
      { name = "create_deal", arguments = { salespersonId = ours.salesperson.id,
        customerId = moonpool.uuid(), dryRun = true } },
      { name = "get_deal", arguments = { dealershipId = foreign.id, dealId = moonpool.uuid() } },
      { name = "get_deal", arguments = { dealId = foreign:deal().id } },
      { name = "nothing", arguments = json.object() },
    }
    local function told(i, words)
      assert.is_true(seen.answers[i].isError)
      local text = seen.answers[i].content[1].text
      assert(text:find(words, 1, true), text)
      assert(text:find("The same call would fail again", 1, true), text)
    end
    told(1, "unknown field `nubmer`")
    told(2, "RESOURCE_NOT_FOUND: Customer not found")
    told(3, "MULTI_TENANT_VIOLATION")
    told(4, "RESOURCE_NOT_FOUND")
    assert.are.equal(-32602, seen.answers[5].refused)
  end)

  it("refuses what the HTTP service refuses", function()
    local ping = { jsonrpc = "2.0", id = 1, method = "ping" }
    assert.are.equal(200, ask(ping).status)
    assert.are.equal(403, ask(ping, { Origin = "https://elsewhere.example" }).status)
    assert.are.equal(415, ask(ping, { ["Content-Type"] = "text/plain" }).status)
    assert.are.equal(400, ask(ping, { ["MCP-Protocol-Version"] = "2020-01-01" }).status)
    assert.are.equal(401, service.ask(host, "POST", "/mcp", { json = ping }).status)
    assert.are.equal(405, service.ask(host, "GET", "/mcp", { token = token }).status)
    assert.are.equal(202, ask({ jsonrpc = "2.0", method = "notifications/initialized" }).status)
    for body, wanted in pairs {
      ["{"] = { 400, -32700 }, ["[]"] = { 400, -32600 }, ['{"id":1}'] = { 200, -32600 },
      ['{"jsonrpc":"2.0","id":1,"method":"tools/lost"}'] = { 200, -32601 },
      ['{"jsonrpc":"2.0","id":1,"method":"tools/call","params":3}'] = { 200, -32602 },
    } do
      local answer = ask(body)
      assert.are.same(wanted, { answer.status, answer.json.error.code }, body)
    end
  end)

  it("is off unless a setting switches it on", function()
    local other = service.start(serving.versions(1))
    local answer = service.ask(other, "POST", "/mcp", { token = token, json = { id = 1 } })
    other:stop()
    assert.are.equal(404, answer.status)
    assert.matches("MOONPOOL_MCP=on", answer.json.error.message)
  end)
end)
