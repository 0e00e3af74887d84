-- What the HTTP server refuses and what it accepts, as data: spec/support/data/http_corpus.lua.
local corpus = require "spec.support.data.http_corpus"
local http   = require "spec.support.client.http"

describe("malformed requests", function()
  local server
  setup(function() server = http.echo() end)
  teardown(function() assert.equal(0, server.stop()) end)

  it("are at least two hundred, each of its own name", function()
    local names = {}
    for _, case in ipairs(corpus.refused) do
      assert.is_nil(names[case.name], case.name)
      names[case.name] = true
    end
    assert.is_true(#corpus.refused >= 200, #corpus.refused .. " cases")
  end)

  -- A request that nobody may ever see stands behind each: it would be the smuggled one.
  local smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

  for _, case in ipairs(corpus.refused) do
    it(("%s: %d"):format(case.name, case.status), function()
      local answers, rest = http.exchange(server.port, case.bytes, smuggled)
      assert.equal(1, #answers)
      assert.equal("", rest)
      assert.equal(case.status, answers[1].status, answers[1].body)
      assert.equal("close", answers[1].headers.connection)
      assert.matches('^{"error":{"code":"[%u_]+","message":"[^"\\%c]+"}}\n$', answers[1].body)
    end)
  end

  for _, case in ipairs(corpus.accepted) do
    it("does not refuse " .. case.name, function()
      local client = http.connect(server.port)
      client.send(case.bytes)
      local answer = client.answer()
      assert.equal(200, answer.status, answer.body)
      assert.equal(case.told, answer.body:match "^[^\n]*")
      if case.body then assert.equal(case.body, answer.body:sub(-#case.body)) end
      client.send "GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
      if not case.closes then
        assert.matches("^GET /next", client.answer().body)
      end
      assert.equal("", client.rest())
      client.close()
    end)
  end

  -- What a request is does not depend on how its bytes were cut into packets.
  local function in_pieces(bytes, size)
    local client = http.connect(server.port)
    for at = 1, #bytes, size do client.send(bytes:sub(at, at + size - 1)) end
    local text = client.rest()
    client.close()
    return (text:gsub("Date: [^\r]*\r\n", ""):gsub("HTTP/1.1 100 Continue\r\n\r\n", ""))
  end

  for _, size in ipairs { 1, 7 } do
    it(("are refused in pieces of %d, too"):format(size), function()
      for _, case in ipairs(corpus.refused) do
        if #case.bytes < 400 then
          local text = in_pieces(case.bytes .. smuggled, size)
          assert.equal(tostring(case.status), text:match "^HTTP/1%.1 (%d+)", case.name)
          assert.is_nil(text:find "/smuggled", case.name)
        end
      end
      local closing = "GET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
      for _, case in ipairs(corpus.accepted) do
        if #case.bytes < 400 then
          assert.equal(in_pieces(case.bytes .. closing, 100000),
                       in_pieces(case.bytes .. closing, size), case.name)
        end
      end
    end)
  end
end)
