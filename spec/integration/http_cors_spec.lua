-- Which pages of other origins may read answers in a browser: none, unless they are named.
local command  = require "spec.support.process.command"
local service  = require "spec.support.process.http_service"

local files = {
  ["scripts/ping.lua"] =
    'return require "moonpool".operation { run = function() return "pong" end }' }

local function preflight(host, origin)
  return service.ask(host, "OPTIONS", "/api/ops/ping", { headers = {
    Origin = origin, ["Access-Control-Request-Method"] = "POST",
    ["Access-Control-Request-Headers"] = "authorization,content-type,idempotency-key" } })
end

describe("CORS", function()
  local token
  setup(function() token = service.token "--scopes ops:*" end)

  local function with(origins, fn)
    local host = service.start(files, { env = { MOONPOOL_CORS_ORIGINS = origins } })
    local ok, e = pcall(fn, host, function(origin)
      return service.ask(host, "POST", "/api/ops/ping",
                         { token = token, headers = { Origin = origin }, json = {} })
    end)
    host:stop()
    if not ok then error(e, 0) end
  end

  it("is off unless it is configured", function()
    with(nil, function(host, ping)
      local answer = ping "https://desk.example"
      assert.are.equal(200, answer.status)
      assert.is_nil(answer.headers["access-control-allow-origin"])
      assert.is_nil(answer.headers.vary)
      assert.are.equal(405, preflight(host, "https://desk.example").status)
    end)
  end)

  it("lets the named origins ask and read, and no others", function()
    with("https://desk.example, http://localhost:3000", function(host, ping)
      for _, origin in ipairs { "https://desk.example", "http://localhost:3000" } do
        local asked = preflight(host, origin)
        assert.are.equal(204, asked.status)
        assert.are.equal(origin, asked.headers["access-control-allow-origin"])
        assert.are.equal("Origin", asked.headers.vary)
        for _, name in ipairs { "Authorization", "Content-Type", "Idempotency-Key",
                                "Request-Timeout", "traceparent" } do
          assert.truthy(asked.headers["access-control-allow-headers"]:find(name, 1, true), name)
        end
        local answer = ping(origin)
        assert.are.equal("pong", answer.json.result)
        assert.are.equal(origin, answer.headers["access-control-allow-origin"])
        assert.truthy(answer.headers["access-control-expose-headers"]:find("X-Request-Id", 1, true))
      end
      for _, origin in ipairs { "https://evil.example", "https://desk.example.evil",
                                "http://desk.example", "null",
                                "https://desk.example:8443", "https://desk.exampl" } do
        local asked = preflight(host, origin)
        assert.are.equal(403, asked.status, origin)
        assert.truthy(asked.json.error.message:find("MOONPOOL_CORS_ORIGINS", 1, true))
        local answer = ping(origin)
        assert.is_nil(answer.headers["access-control-allow-origin"], origin)
        assert.are.equal("Origin", answer.headers.vary)
      end
      -- A browser must be able to read why it was refused.
      local refused = service.ask(host, "POST", "/api/ops/ping",
                                  { headers = { Origin = "https://desk.example" }, json = {} })
      assert.are.equal(401, refused.status)
      assert.are.equal("https://desk.example", refused.headers["access-control-allow-origin"])
    end)
  end)

  it("may be open to all", function()
    with("*", function(_, ping)
      local answer = ping "https://anything.example"
      assert.are.equal("*", answer.headers["access-control-allow-origin"])
      assert.is_nil(answer.headers["access-control-allow-credentials"])
    end)
  end)

  it("stops the start where a name is no origin", function()
    local folder = command.folder(files)
    for _, wrong in ipairs { "desk.example", "https://desk.example/path", "https://DESK.example",
                             "*, https://desk.example" } do
      local output, code = command.run("serve --listen 127.0.0.1:0", { dir = folder.path,
        env = { MOONPOOL_CORS_ORIGINS = wrong, MOONPOOL_STATE = folder.path .. "/state" } })
      assert.are_not.equal(0, code)
      assert.truthy(output:find("MOONPOOL_CORS_ORIGINS", 1, true), output)
      assert.truthy(output:find("https://desk.example or", 1, true), output)
    end
    folder.remove()
  end)
end)
