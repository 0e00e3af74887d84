-- A host among more clients than it has use for: slow ones (5,000 of them in spec/soak), and more
-- than the system has files for.
local http    = require "spec.support.client.http"
local service = require "spec.support.process.http_service"

local files = { ["scripts/hello.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "x", run = function(tx) return tx:value "select 42" end }]]
    }

describe("a host in a crowd", function()
  local token

  setup(function() token = service.token "--scopes ops:*" end)

  it("answers others while hundreds of clients are never done", function()
    local host = service.start(files)
    local seen = service.among_slow(host, token, 600, function(answered) return answered < 500 end)
    assert.are.same({ 500, 600, 0, 0 }, { seen.answered, seen.most, seen.refused, seen.failed })
    host:stop()
  end)

  local function files_of(host)
    local limits = assert(io.open(("/proc/%d/limits"):format(host:pid())))
    local soft, hard = limits:read "a":match "Max open files%s+(%d+)%s+(%d+)"
    limits:close()
    return tonumber(soft), tonumber(hard)
  end

  it("takes as many open files as it may, and needs", function()
    local host = service.start(files, { env = { MOONPOOL_WORKERS = "1" },
                                        shell = "ulimit -S -n 300" })
    local soft, hard = files_of(host)
    assert.are.equal(math.min(10128, hard), soft)
    host:stop()
  end)

  it("closes clients that are idle before it has no files left, and goes on", function()
    local one = { MOONPOOL_WORKERS = "1" } -- more would need more files
    local host, clients = service.start(files, { env = one, shell = "ulimit -n 300" }), {}
    assert.matches(
      "300 open files are allowed %(ulimit %-Hn%), enough for 172 clients at a time instead of \z
        10000", host:log())
    for i = 1, 172 do
      clients[i] = assert(http.connect(host.port))
      clients[i].send "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
      assert.are.equal(200, clients[i].answer().status)
    end
    for _ = 1, 60 do assert.are.equal(200, http.request(host.port, "GET", "/health").status) end
    -- Together they need as many connections to the database, which are files too.
    local calling = table.move(clients, 101, 108, 1, {})
    for _, client in ipairs(calling) do
      client.send(("POST /api/ops/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
        :format(token))
    end
    for _, client in ipairs(calling) do assert.are.equal(200, client.answer().status) end
    assert.are.equal("", clients[1].rest())
    for _, client in ipairs(clients) do client.close() end
    assert.is_nil(host:log():find("Too many open files", 1, true)
                  or host:log():find("EMFILE", 1, true))
    host:stop()
  end)
end)
