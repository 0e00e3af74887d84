-- Clients that take the HTTP server's connections and memory without using them: others get their
-- room (src/http/crowd.h).
local http = require "spec.support.client.http"
local uv   = require "luv"

local server

local function start(...) server = http.echo(...) end

local function get(path) return ("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path) end

local function connect(n, first)
  local clients = {}
  for i = 1, n do
    clients[i] = assert(http.connect(server.port))
    if first then clients[i].send(first) end
  end
  return clients
end

local function counter(name)
  local body = http.request(server.port, "GET", "/stats").body
  return tonumber(body:match(name .. "=(%d+)"))
end

local function await(name, value)
  repeat local now = counter(name) until now == value
end

-- Asks until the server's clock, which counts milliseconds, has moved on: who came before is no
-- newcomer any more.
local function let_them_grow_old(client)
  local began_ns = uv.hrtime()
  repeat
    client.send(get "/x")
    assert.are.equal(200, client.answer().status)
  until uv.hrtime() - began_ns > 5000000
end

local function close(clients)
  for _, client in ipairs(clients) do client.close() end
end

describe("room for a client", function()
  after_each(function() assert.are.equal(0, server.stop()) end)

  it("is made by the connection that has been idle for longest", function()
    start "connections=10"
    local idle = connect(10)
    for _, client in ipairs(idle) do
      client.send(get "/x")
      assert.are.equal(200, client.answer().status)
    end
    local last = connect(1, get "/x")[1]
    assert.are.equal(200, last.answer().status)
    assert.are.equal("", idle[1].rest())
    for i = 2, 10 do
      idle[i].send(get "/x")
      assert.are.equal(200, idle[i].answer().status)
    end
    close(idle)
    last.close()
  end)

  it("is made by those who have not sent a whole request, before those who have", function()
    start "connections=10"
    local good = connect(1, get "/x")[1]
    assert.are.equal(200, good.answer().status)
    local silent = connect(3)
    local half   = connect(3, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    local head   = connect(3, "GET /x HTTP/1.1\r\nHost")
    let_them_grow_old(good)
    local others = connect(9, get "/x")
    for _, client in ipairs(others) do assert.are.equal(200, client.answer().status) end
    for _, crowd in ipairs { silent, half, head } do
      for _, client in ipairs(crowd) do assert.are.equal("", client.rest()) end
      close(crowd)
    end
    good.send(get "/x")
    assert.are.equal(200, good.answer().status)
    good.close()
    close(others)
  end)

  it("is found however many connections come and say nothing", function()
    start "connections=200"
    local good = connect(1, get "/x")[1]
    assert.are.equal(200, good.answer().status)
    local crowd = {}
    for _ = 1, 20 do
      for _, client in ipairs(connect(50)) do crowd[#crowd + 1] = client end
      let_them_grow_old(good)
    end
    assert.is_true(counter "dismissed" >= 750)
    good.close()
    close(crowd)
  end)

  it(
    "is not made by those whose requests are being answered: more are refused, but may ask how \z
      the host is", function()
    start "connections=5"
    local held = {}
    for i = 1, 5 do
      held[i] = connect(1, get "/hold")[1]
      await("requests", i + 1) -- one of them asks
    end
    local more = connect(1, get "/x")[1]
    local answer = more.answer()
    assert.are.same({ 503, "close" }, { answer.status, answer.headers.connection })
    held[1].close()
    await("requests", 5)
    assert.are.equal("4\n", http.request(server.port, "GET", "/release").body)
    more.close()
    close(held)
  end)

  it("is what an address has beyond its own limit", function()
    start("connections=100", "per_loopback=4")
    local clients = connect(4, get "/x")
    for _, client in ipairs(clients) do assert.are.equal(200, client.answer().status) end
    local fifth = connect(1, get "/x")[1]
    assert.are.equal(200, fifth.answer().status)
    assert.are.equal("", clients[1].rest())
    close(clients)
    fifth.close()
  end)
end)

describe("memory for clients", function()
  after_each(function() assert.are.equal(0, server.stop()) end)

  local function read(name)
    local file = assert(io.open(("/proc/%d/%s"):format(server.pid, name)))
    local text = file:read "a"
    file:close()
    return text
  end

  local function resident_kb() return tonumber(read "status":match "VmRSS:%s+(%d+)") end

  -- A build with sanitizers keeps what was freed for a while.
  local function assert_grown_less(kb, before)
    if read "maps":find("libasan", 1, true) then return end
    assert.is_true(resident_kb() - before < kb)
  end

  it("has a limit for bodies on their way: the oldest is refused", function()
    start("memory_bytes=4000000", "connections=1000")
    local before = resident_kb()
    local body = ("x"):rep(900000)
    local clients = {}
    for i = 1, 40 do
      clients[i] = connect(1, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")[1]
      clients[i].send(body)
    end
    local answer = clients[1].answer()
    assert.are.same({ 503, "1" }, { answer.status, answer.headers["retry-after"] })
    local whole = connect(1, ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n")
      :format(#body))[1]
    whole.send(body)
    assert.are.equal(200, whole.answer().status)
    assert_grown_less(20000, before)
    whole.close()
    close(clients)
  end)

  it("has the same limit for answers that nobody takes", function()
    start("memory_bytes=4000000", "connections=1000", "body_bytes=1000000")
    local body = ("x"):rep(1000000)
    local request = ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(#body)
    local before = resident_kb()
    local clients = connect(60)
    for _, client in ipairs(clients) do client.stop_reading() end
    for round = 1, 60 do
      clients[round].send(request, body, request, body, request, body, request, body)
    end
    local good = connect(1, get "/x")[1]
    repeat
      good.send(get "/x")
      assert.are.equal(200, good.answer().status)
    until counter "dismissed" >= 20
    assert_grown_less(40000, before)
    good.close()
    close(clients)
  end)
end)
