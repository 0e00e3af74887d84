-- The HTTP server as a client sees it: connections, order, limits of size and time, streams, and
-- its end.
local http = require "spec.support.client.http"

local function get(path, ...)
  return ("GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"):format(path, table.concat { ... })
end

local function stats(server)
  local numbers = {}
  for name, value in http.request(server.port, "GET", "/stats").body:gmatch "(%S+)=(%d+)" do
    numbers[name] = tonumber(value)
  end
  return numbers
end

-- Asks until a counter of the server is what it should become.
local function await(server, name, value)
  local now
  for _ = 1, 20000 do
    now = stats(server)[name]
    if now == value then return end
  end
  error(("%s never became %d; it is %d"):format(name, value, now), 2)
end

-- Of its memory in kB: VmRSS now, VmHWM at most so far.
local function memory(server, which)
  local file = assert(io.open(("/proc/%d/status"):format(server.pid)))
  local kilobytes = tonumber(file:read "a":match(which .. ":%s*(%d+)"))
  file:close()
  return kilobytes
end

-- How many files this process, and those that it starts, may have open.
local function open_files()
  for line in io.lines "/proc/self/limits" do
    local soft = line:match "^Max open files%s+(%d+)"
    if soft then return math.tointeger(soft) end
  end
end

describe("the HTTP server", function()
  local server
  local function start(...)
    server = http.echo(...)
    return server
  end
  after_each(function()
    if server then assert.equal(0, server.stop()) end
    assert(not server or server.out:match "closed\n$")
    server = nil
  end)

  it("answers with what a client needs to read the answer", function()
    start()
    local answer = http.request(server.port, "POST", "/a/b?c=d",
                                { body = "hello", headers = { ["X-Thing"] = "1" } })
    assert.equal(200, answer.status)
    assert.equal("text/plain", answer.headers["content-type"])
    assert.equal(tostring(#answer.body), answer.headers["content-length"])
    assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", answer.headers.date)
    assert.equal("close", answer.headers.connection)
    assert.matches("^POST /a/b c=d 1%.1 4 5\n", answer.body)
    assert.matches("X%-Thing=%[1%]\n", answer.body)
    assert.matches("\nhello$", answer.body)
  end)

  it("keeps a connection for many requests", function()
    start()
    local client = http.connect(server.port)
    for i = 1, 100 do
      client.send(get("/" .. i))
      local answer = client.answer()
      assert.matches("^GET /" .. i .. " ", answer.body)
      assert.is_nil(answer.headers.connection)
    end
    assert.equal(2, stats(server).accepted)
    client.close()
  end)

  it("answers pipelined requests in order, however each is answered", function()
    start()
    local client = http.connect(server.port)
    local paths = {}
    for i = 1, 400 do
      paths[i] = i % 3 == 0 and "/later" or i % 50 == 1 and "/stream?3" or "/" .. i
    end
    local requests = {}
    for i, path in ipairs(paths) do requests[i] = get(path) end
    client.send(table.concat(requests))
    for _, path in ipairs(paths) do
      local answer = client.answer()
      if path:match "stream" then
        assert.equal(30000, #answer.body)
      else
        assert.equal(path, answer.body:match "^GET (%S+)")
      end
    end
    client.close()
  end)

  it("does not start a pipelined request before the one in front of it is answered", function()
    start()
    local client = http.connect(server.port)
    client.send(get "/hold", get "/hold")
    await(server, "requests", 2) -- one of ours, and the question itself
    assert.equal("1\n", http.request(server.port, "GET", "/release").body)
    assert.equal("held\n", client.answer().body)
    await(server, "requests", 2)
    assert.equal("1\n", http.request(server.port, "GET", "/release").body)
    assert.equal("held\n", client.answer().body)
    client.close()
  end)

  it("takes no more than so much ahead of its answers", function()
    start()
    local client = http.connect(server.port)
    local before = memory(server, "VmHWM")
    client.send(get "/hold", (get "/x"):rep(300000)) -- 11 MB, more than the sockets' buffers take
    await(server, "requests", 2)
    http.request(server.port, "GET", "/release")
    assert.equal("held\n", client.answer().body)
    local more = memory(server, "VmHWM") - before
    assert.is_true(more < 4000, more .. " kB")
    client.close()
  end)

  it("answers HEAD like GET, without the body", function()
    start()
    local client = http.connect(server.port)
    client.send "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    local answer = client.answer(true)
    assert.equal(200, answer.status)
    assert.is_true(tonumber(answer.headers["content-length"]) > 10)
    client.send "HEAD /stream?5 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert.equal("chunked", client.answer(true).headers["transfer-encoding"])
    client.send(get "/next")
    assert.matches("^GET /next", client.answer().body)
    client.close()
  end)

  it("says 100 Continue to a client that waits for it, and only then", function()
    start()
    local client = http.connect(server.port)
    client.send "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert.equal(100, client.answer().status)
    client.send "hello"
    local answer = client.answer()
    assert.equal(200, answer.status)
    assert.matches("\nhello$", answer.body)
    client.send "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"
    assert.equal(200, client.answer().status)
    client.send "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\nExpect: \z
      100-continue\r\n\r\n"
    assert.equal(413, client.answer().status) -- before the client sends 2 MB for nothing
    assert.equal("", client.rest())
    client.close()
  end)

  it("speaks HTTP/1.0 to clients of that time", function()
    start()
    local client = http.connect(server.port)
    client.send "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert.equal("keep-alive", client.answer().headers.connection)
    client.send "GET /stream?3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    client.rest() -- no chunks: the stream's end is the connection's
    local answer = client.answer()
    assert.is_nil(answer.headers["transfer-encoding"])
    assert.equal(("x"):rep(30000), answer.body)
    client.close()
  end)

  it("answers a client that has closed its sending side", function()
    start()
    local client = http.connect(server.port)
    client.send(get "/a", get "/later", get "/stream?2").shut()
    assert.matches("^GET /a", client.answer().body)
    assert.matches("^GET /later", client.answer().body)
    assert.equal(20000, #client.answer().body)
    assert.equal("", client.rest())
    client.close()
  end)

  it("drops a request whose rest will never come", function()
    start()
    for _, part in ipairs { "", "GET", get("/x"):sub(1, -2),
                            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
                            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \z
                              chunked\r\n\r\n5\r\nhello\r\n0\r\n" } do
      local client = http.connect(server.port)
      client.send(part).shut()
      assert.equal("", client.rest())
      client.close()
    end
  end)

  it("tells the handler that the client is gone", function()
    start()
    local clients = {}
    for i = 1, 5 do
      clients[i] = http.connect(server.port)
      clients[i].send(get "/hold")
    end
    await(server, "requests", 6)
    for i = 1, 3 do clients[i].close() end
    await(server, "gone", 3)
    assert.equal("2\n", http.request(server.port, "GET", "/release").body)
    assert.equal("held\n", clients[4].answer().body)
    assert.equal("held\n", clients[5].answer().body)
    clients[4].close()
    clients[5].close()
  end)

  it("tells a stream's handler that the client is gone", function()
    start()
    local client = http.connect(server.port)
    client.send(get "/open")
    assert.is_true(client.expect "open\n")
    client.close()
    await(server, "gone", 1)
    await(server, "connections", 1)
  end)

  -- ---- sizes ----

  it("streams more than the sockets hold, as fast as the client takes it", function()
    start()
    local client = http.connect(server.port)
    client.send(get "/stream?1000")
    client.stop_reading()
    await(server, "requests", 2)
    client.go_on_reading()
    assert.equal(10000000, #client.answer().body)
    client.close()
  end)

  it("gives up a client that does not read a stream that does not wait", function()
    start "unsent_bytes=100000"
    local client = http.connect(server.port)
    client.stop_reading()
    client.send(get "/flood")
    await(server, "lost", 1)
    await(server, "connections", 1)
    client.go_on_reading()
    client.rest()
    client.close()
  end)

  it("has limits that can be set", function()
    start("body_bytes=10", "head_bytes=200")
    assert.equal(200, http.request(server.port, "POST", "/", { body = ("x"):rep(10) }).status)
    assert.equal(413, http.request(server.port, "POST", "/", { body = ("x"):rep(11) }).status)
    assert.equal(
      431, http.request(server.port, "GET", "/", { headers = { X = ("y"):rep(200) } }).status)
    assert.equal(414, http.request(server.port, "GET", "/" .. ("y"):rep(200)).status)
  end)

  -- ---- times ----

  it("closes a connection that is idle, without a word", function()
    start "idle_ms=50"
    local client = http.connect(server.port)
    client.send(get "/x")
    assert.equal(200, client.answer().status)
    assert.equal("", client.rest())
    client.close()
  end)

  it("gives a head, a body and a chunked body some time, then says 408", function()
    start("head_ms=50", "body_ms=50", "body_rate=1000000")
    for _, part in ipairs { "G", "GET / HTTP/1.1\r\nHost: a\r\n",
                            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
                            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \z
                              chunked\r\n\r\n5\r\nhello\r\n" } do
      local answers = http.exchange(server.port, part)
      assert.equal(408, answers[1].status, part)
      assert.equal("close", answers[1].headers.connection)
    end
    local silent = http.connect(server.port)
    assert.equal("", silent.rest())
    silent.close()
    assert.equal(4, stats(server).timed_out)
  end)

  it("does not let a client have more time by sending one byte after another", function()
    start("head_ms=300", "body_ms=300", "body_rate=1000000")
    for _, first in ipairs { "GET / HTTP/1.1\r\nX: ",
                             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" } do
      local client = http.connect(server.port)
      client.send(first)
      http.wait("the server has enough", function()
        if not client.ended then client.send "x" end
        return client.ended
      end)
      assert.equal(408, client.answer().status)
      client.close()
    end
  end)

  it("gives up a client that takes nothing of its answer", function()
    start "unsent_ms=100"
    local client = http.connect(server.port)
    client.stop_reading()
    client.send(get "/stream?1000")
    await(server, "timed_out", 1)
    await(server, "gone", 1)
    await(server, "connections", 1)
    client.close()
  end)

  it("serves others while many are slow", function()
    local many = math.min(1500, open_files() - 300)
    start("head_ms=60000")
    local slow, before = {}, memory(server, "VmRSS")
    for i = 1, many do
      slow[i] = assert(http.connect(server.port))
      slow[i].send(i % 2 == 0 and "GET / HT"
                   or "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
    end
    await(server, "connections", many + 1)
    local more = memory(server, "VmRSS") - before
    assert.is_true(more / many < 12, ("%d kB for %d connections"):format(more, many))
    for _ = 1, 50 do assert.equal(200, http.request(server.port, "GET", "/x").status) end
    for i = 1, many do slow[i].close() end
    await(server, "connections", 1)
  end)

  -- ---- the end ----

  it("answers what is under way when it ends, and closes the rest", function()
    start "grace_ms=20000"
    local idle, busy, sending = http.connect(server.port), http.connect(server.port),
      http.connect(server.port)
    idle.send(get "/x")
    idle.answer()
    busy.send(get "/stream?1000")
    busy.stop_reading()
    sending.send "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"
    await(server, "connections", 4)
    server.signal "sigterm"
    assert.equal("", idle.rest())
    sending.send "llo"
    local answer = sending.answer()
    assert.matches("\nhello$", answer.body)
    assert.equal("close", answer.headers.connection)
    assert.is_nil(http.connect(server.port))
    busy.go_on_reading()
    assert.equal(10000000, #busy.answer().body)
    assert.equal("", busy.rest())
    for _, client in ipairs { idle, busy, sending } do client.close() end
  end)

  it("does not wait longer than it was told", function()
    start "grace_ms=100"
    local client = http.connect(server.port)
    client.send(get "/hold")
    local partial = http.connect(server.port)
    partial.send "GET"
    await(server, "requests", 2)
    server.signal "sigterm"
    assert.equal("", client.rest())
    assert.equal("", partial.rest())
    assert.equal(0, server.join())
    client.close()
    partial.close()
  end)

  it("drops no request that was sent before it ended", function()
    for _ = 1, 5 do
      start()
      local clients, answered, refused = {}, 0, 0
      for i = 1, 20 do clients[i] = http.connect(server.port) end
      for _, client in ipairs(clients) do client.send(get "/later") end
      server.signal "sigterm"
      -- Each client sends again as soon as it has its answer, until it is told that the connection
      -- closes.
      for _ = 1, 50 do
        for _, client in ipairs(clients) do
          if not client.over then
            local answer = client.answer()
            if not answer then refused = refused + 1 else answered = answered + 1 end
            client.over = not answer or answer.headers.connection == "close"
            if not client.over then client.send(get "/later") end
          end
        end
      end
      assert.equal(0, refused)
      assert.is_true(answered >= 20)
      for _, client in ipairs(clients) do client.close() end
      assert.equal(0, server.join())
    end
  end)

  it("shares its port when told to", function()
    start "reuse_port=1"
    local other = http.echo("reuse_port=1", "port=" .. server.port)
    local seen = 0
    repeat
      assert.equal(200, http.request(server.port, "GET", "/x").status)
      seen = seen + 1
    until stats(other).accepted > 1 or seen > 200
    assert.equal(0, other.stop())
    assert.equal(200, http.request(server.port, "GET", "/x").status)
  end)
end)
