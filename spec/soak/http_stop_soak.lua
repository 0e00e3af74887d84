-- 50 hosts, each told to end while 30 clients call it: no request that was sent goes without its
-- answer.
local service = require "spec.support.process.http_service"

describe("hosts that serve HTTP", function()
  it("end under load without dropping a request", function()
    local token, total = service.token "--scopes ops:*", 0
    local files = { ["scripts/hello.lua"] = [[
      local moonpool = require "moonpool"
      return moonpool.operation { summary = "x", run = function(tx)
        return tx:value "select 42" end }]] }
    for round = 1, 50 do
      local host = service.start(files)
      local answered, dropped = service.stop_under_load(host, token, 30)
      assert.are.equal(0, dropped, "round " .. round)
      assert.are.equal(0, host:wait())
      host.folder.remove()
      total = total + answered
    end
    print(("\n%d requests answered, none dropped"):format(total))
  end)
end)
