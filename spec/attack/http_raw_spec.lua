-- Raw requests to a real host: whatever comes, it is answered or dismissed, tells nothing of its
-- inside, and goes on.
local corpus  = require "spec.support.data.http_corpus"
local http    = require "spec.support.client.http"
local service = require "spec.support.process.http_service"

describe("a host that is sent raw bytes", function()
  local host, token

  setup(function()
    token = service.token "--scopes ops:*,monitor"
    host = service.start { ["scripts/hello.lua"] = [[
      local moonpool = require "moonpool"
      return moonpool.operation { summary = "x", run = function(tx)
        return tx:value "select 42" end }]] }
  end)
  teardown(function() host:stop() end)

  after_each(function()
    assert.are.equal(42, service.ask(host, "POST", "/api/ops/hello", { token = token }).json.result)
  end)

  it("refuses each of the malformed requests", function()
    for _, case in ipairs(corpus.refused) do
      local answers = http.exchange(host.port, case.bytes)
      assert.are.equal(1, #answers, case.name)
      assert.are.equal(case.status, answers[1].status, case.name)
    end
  end)

  it("refuses what is another protocol's", function()
    for _, bytes in ipairs {
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\22\3\1\0\5\1\0\0\1\0\r\n\r\n", "\0\0\0\8\4\210\22\47",
      "SSH-2.0-x\r\n\r\n",
      "GET /\r\n\r\n", "*1\r\n$4\r\nPING\r\n",
      "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n",
      "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "HELO a\r\n\r\n",
    } do
      local client = assert(http.connect(host.port))
      client.send(bytes).shut()
      local status = tonumber(client.rest():match "^HTTP/1%.1 (%d+)")
      assert.is_true(status == nil or status >= 400, bytes)
      client.close()
    end
  end)

  -- Names that lead elsewhere where somebody decodes, folds or joins them.
  local paths = {
    "/api/ops/..%2f..%2fadmin%2freload", "/api/ops/../../etc/passwd", "/api/ops/hello/",
    "/api/ops//hello",
    "/api/ops/hello%00", "/api/ops/",
    "/api/ops/HELLO", "/api/ops/hell%6f", "/api/ops/hello;x=1", "/api/ops/hello.lua",
    "/api/ops/lib/audit",
    "/api/ops/moonpool.serve.tokens",
    "//api/ops/hello", "/./api/ops/hello", "/api/./ops/hello", "/api/ops/" .. ("a"):rep(5000),
    "/API/OPS/hello", "/api/ops/run",
    "/api/ops/__index", "/api/ops/_G", "/metrics/..", "/dashboard/../page.html",
    "/api/db/../ops/hello",
  }

  it("takes a path as it is: none leads to an operation but its own", function()
    for _, path in ipairs(paths) do
      for _, method in ipairs { "GET", "POST" } do
        local answer = service.ask(host, method, path,
                                   { token = token, body = method == "POST" and "{}" or nil })
        assert.is_true(answer.status >= 400 and answer.status < 500,
                       method .. " " .. path .. ": " .. answer.status)
        assert.is_nil(answer.body:find("stack traceback", 1, true))
        assert.is_nil(answer.body:find("root:", 1, true))
      end
    end
  end)

  it("puts nothing of a request into the head of its answer that could split it", function()
    for _, id in ipairs { "a\tb", "a%0d%0aSet-Cookie:%20x", ("x"):rep(5000), "ä", "<script>",
                          '"' } do
      local answer = service.ask(host, "GET", "/health", { headers = { ["X-Request-Id"] = id } })
      assert.are.equal(200, answer.status)
      assert.matches("^[%w%-_.:]+$", answer.headers["x-request-id"])
      assert.is_nil(answer.headers["set-cookie"])
    end
  end)

  it("answers many requests of one connection in their order, and each once", function()
    local client = assert(http.connect(host.port))
    local call = "POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " .. token
      .. "\r\nX-Request-Id: %d\r\n\r\n"
    local all = {}
    for i = 1, 300 do all[i] = call:format(i) end
    client.send(table.concat(all))
    for i = 1, 300 do
      local answer = client.answer()
      assert.are.same({ 200, tostring(i) }, { answer.status, answer.headers["x-request-id"] })
    end
    client.close()
  end)

  it("is not held up by clients that leave in the middle of anything", function()
    local pieces = { "P", "POST /api/ops/hello HTTP/1.1\r\n",
                     "POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
                     ("POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
                       :format(token),
                     "POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \z
                       chunked\r\n\r\n5\r\nab" }
    for i = 1, 200 do
      local client = assert(http.connect(host.port))
      client.send(pieces[i % #pieces + 1])
      client.close()
    end
  end)
end)
