-- What a client says of itself over HTTP, and what it cannot gain by that: addresses, host names,
-- codings, and the place of others.
local http    = require "spec.support.client.http"
local service = require "spec.support.process.http_service"

local files = { ["scripts/hello.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "x", run = function(tx) return tx:value "select 42" end }]],
  ["scripts/slow.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "x", run = function() moonpool.sleep(60) end }]] }

describe("a client's word", function()
  local host, token

  setup(function()
    token = service.token "--scopes ops:*"
    host = service.start(files, { env = { MOONPOOL_HOSTS = "desk.example, *.shop.example" } })
  end)
  teardown(function() host:stop() end)

  local guess = 0

  -- Sends wrong tokens with these X-Forwarded-For lines, until they are limited; how many were
  -- asked for.
  local function guesses(lines, most)
    for n = 1, most do
      guess = guess + 1
      local head = { "POST /api/ops/hello HTTP/1.1", "Host: localhost", "Connection: close",
                     ("Authorization: Bearer mp_%012d_%s"):format(guess, ("A"):rep(43)) }
      for _, line in ipairs(lines(n)) do head[#head + 1] = "X-Forwarded-For: " .. line end
      local answer = http.exchange(host.port, table.concat(head, "\r\n") .. "\r\n\r\n")[1]
      if answer.status == 429 then return n - 1 end
      assert.are.equal(401, answer.status)
    end
    return most
  end

  describe("about its address is believed", function()
    it("in the last entry of the last line only, which the proxy wrote", function()
      assert.are.equal(10, guesses(function(n)
        return { ("192.0.2.%d"):format(n), "203.0.113.1" }
      end, 30))
      assert.are.equal(10, guesses(function(n)
        return { ("192.0.2.%d, 203.0.113.2"):format(n) }
      end, 30))
    end)

    it("without the port, which is another for each connection", function()
      assert.are.equal(10, guesses(function(n)
        return { ("203.0.113.3:%d"):format(4000 + n) }
      end, 30))
      assert.are.equal(10, guesses(function(n)
        return { ("[2001:db8::3]:%d"):format(4000 + n) }
      end, 30))
    end)

    it("in whatever spelling", function()
      local spellings = { "2001:db8:0:4::1", "2001:DB8:0:4::1", "2001:0db8:0000:0004::1",
                          "[2001:db8:0:4::1]",
                          " 2001:db8:0:4::1 " }
      assert.are.equal(10, guesses(function(n) return { spellings[n % #spellings + 1] } end, 30))
      local mapped = { "::ffff:203.0.113.5", "203.0.113.5", "::FFFF:cb00:7105" }
      assert.are.equal(10, guesses(function(n) return { mapped[n % #mapped + 1] } end, 30))
    end)

    it("as a network where it is IPv6: who has one address of it has all", function()
      assert.are.equal(10, guesses(function(n) return { ("2001:db8:0:6::%x"):format(n) } end, 30))
      assert.are.equal(15, guesses(function(n) return { ("2001:db8:7:%x::1"):format(n) } end, 15))
    end)

    it("not at all where it is none: then it is the proxy's own", function()
      local nonsense = { "unknown", "_hidden", "203.0.113.300", "", ",", "203.0.113.7 extra",
                         ("9"):rep(300) }
      assert.is_true(guesses(function(n) return { nonsense[n % #nonsense + 1] } end, 30) <= 10)
    end)
  end)

  describe("about the host's name", function()
    local function status(name, path)
      local head = ("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n")
        :format(path or "/api/ops", name)
      return http.exchange(host.port, head)[1].status
    end

    it("must be a name of the host's: a page of another site cannot make its own name lead here",
       function()
      for _, name in ipairs { "evil.example", "desk.example.evil.example", "shop.example",
                              "xshop.example",
                              "localhost.evil.example", "127.0.0.1.nip.example", "0x7f.1" } do
        assert.are.equal(421, status(name), name)
      end
      for _, name in ipairs { "desk.example", "DESK.example:5000", "desk.example.",
                              "a.shop.example", "localhost",
                              "localhost:5000",
                              "127.0.0.1:5000", "[::1]:5000", "[::1]", "192.0.2.1" } do
        assert.are.equal(401, status(name), name)
      end
    end)

    it("does not matter to who asks for the host's health", function()
      assert.are.equal(200, status("evil.example", "/health"))
    end)

    it("is checked at the start", function()
      local ok, fault = pcall(service.start, files,
                              { env = { MOONPOOL_HOSTS = "https://desk.example" } })
      assert.is_false(ok)
      assert.matches("MOONPOOL_HOSTS names \"https://desk.example\"; a name is like desk.example",
                     tostring(fault), 1, true)
    end)
  end)

  describe("about the body", function()
    local function status(headers, body)
      headers["X-Forwarded-For"] = "198.51.100.9" -- an address that has not guessed tokens
      return service.ask(host, "POST", "/api/ops/hello",
                         { token = token, headers = headers, body = body or "{}" })
    end

    it("that it is compressed is refused as that", function()
      for _, coding in ipairs { "gzip", "br", "deflate", "gzip, identity" } do
        local answer = status({ ["Content-Encoding"] = coding }, "\31\139\8\0")
        assert.are.equal(415, answer.status)
        assert.matches("do not compress it", answer.json.error.message)
      end
      assert.are.equal(200, status({ ["Content-Encoding"] = "identity" }).status)
    end)

    it("that it is not UTF-8 is refused as that", function()
      for _, kind in ipairs { "application/json; charset=iso-8859-1",
                              'application/json;charset="utf-16"' } do
        local answer = status { ["Content-Type"] = kind }
        assert.are.equal(415, answer.status)
        assert.matches("UTF%-8", answer.json.error.message)
      end
      for _, kind in ipairs { "application/json; charset=utf-8", 'application/json;charset="UTF-8"',
                              "application/JSON ; a=b" } do
        assert.are.equal(200, status({ ["Content-Type"] = kind }).status)
      end
    end)
  end)

  it("is never taken for a kind of file that the answer does not name", function()
    for _, path in ipairs { "/", "/health", "/api/ops", "/nothing", "/metrics" } do
      assert.are.equal("nosniff", service.ask(host, "GET", path).headers["x-content-type-options"],
                       path)
    end
    assert.are.equal("nosniff",
                     http.exchange(host.port, "BAD\r\n\r\n")[1].headers["x-content-type-options"])
  end)
end)

describe("a host whose connections are all in use", function()
  it("answers calls that come after those that are idle, and says how it is when none is",
     function()
    local token = service.token "--scopes ops:*"
    local host = service.start(files, { env = { MOONPOOL_HTTP_CLIENTS = "20" } })
    local call = ("POST /api/ops/slow HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
      :format(token)
    local idle, busy = {}, {}
    for i = 1, 60 do idle[i] = assert(http.connect(host.port)) end
    local answer -- 503 for who comes in the same millisecond as they
    repeat answer = service.ask(host, "POST", "/api/ops/hello", { token = token })
        until answer.status ~= 503
    assert.are.equal(200, answer.status)
    repeat -- one whose call has not been read yet may have made room
      for i = 1, 20 do
        if not busy[i] or busy[i].ended then
          busy[i] = assert(http.connect(host.port)).send(call)
        end
      end
      answer = service.ask(host, "GET", "/nothing")
    until answer.status ~= 404
    assert.are.same({ 503, "BUSY", "1" },
                    { answer.status, answer.json.error.code, answer.headers["retry-after"] })
    for _ = 1, 3 do assert.is_nil(service.ask(host, "GET", "/health").json.error) end
    for _, client in ipairs(idle) do client.close() end
    for _, client in ipairs(busy) do client.close() end
    repeat answer = service.ask(host, "GET", "/nothing") until answer.status == 404
    host:stop()
  end)
end)
