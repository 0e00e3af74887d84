-- A host whose machine has no memory left: every call is answered, what is stored is told as
-- stored, and the host ends when it is told to.
local http    = require "spec.support.client.http"
local json    = require "moonpool.json"
local service = require "spec.support.process.http_service"
local scratch = require "spec.support.data.scratch"

local CALLERS = 60

local known = { ok = true, HOST_OUT_OF_MEMORY = true, OUT_OF_MEMORY = true, BUSY = true,
                DEADLINE_EXCEEDED = true }

it("answers every caller, and ends when it is told to", function()
  local host = service.start({ ["scripts/large.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation { summary = "large", cpu = 20, timeout = 20, run = function(tx)
      local kept = {}
      for i = 1, 100000 do kept[i] = { i, "x" .. i } end
      tx:query "select pg_sleep(0.05)"
      return { n = #kept }
    end }]] }, { shell = "ulimit -v 400000",
      env = { MOONPOOL_DRAIN_TIMEOUT = "1000", DB_POOL_MAX = "50" } })
  local token, clients, codes = service.token "--scopes ops:*", {}, {}
  local head =
    "POST /api/ops/large HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: \z
      2\r\n\r\n{}"
  local text = head:format(token)
  for i = 1, CALLERS do clients[i] = assert(http.connect(host.port)).send(text) end
  for _, client in ipairs(clients) do
    local answer = assert(client.answer())
    assert.is_nil(answer.body:find("\0", 1, true))
    local code = answer.status == 200 and "ok" or json.decode(answer.body).error.code
    codes[code] = (codes[code] or 0) + 1
    client.close()
  end
  for code in pairs(codes) do
    assert(known[code], code)
  end
  scratch.await("room again", function()
    return service.ask(host, "POST", "/api/ops/large", { token = token, body = "{}" }).status == 200
  end)
  host:signal "TERM"
  assert.are.equal(0, host:wait())
  host:stop()
end)
