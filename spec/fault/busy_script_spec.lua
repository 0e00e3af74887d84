-- A script that computes for long keeps the loop from turning. What it starts afterwards has its
-- whole time all the same: deadlines count from when they are set, not from when the loop last
-- looked at its clock.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local is       = require "moonpool.is"
local command  = require "spec.support.process.command"
local fault    = require "spec.support.workload.fault"

local function compute(seconds)
  local till = moonpool.host.clock() + seconds
  while moonpool.host.clock() < till do end
end

describe("after a script has computed for longer than the timeout", function()
  after_each(fault.assert_quiet)

  it("a connection can be made", function()
    local folder = command.folder { ["busy.lua"] = [[
      local moonpool, db = require "moonpool", require "moonpool.db"
      local till = moonpool.host.clock() + 1
      while moonpool.host.clock() < till do end
      local own = db.open { url = os.getenv "DATABASE_URL", max = 1 }
      print(own.value "select 'connected'")]] }
    local output, code = command.run("run busy.lua",
                                     { dir = folder.path, env = { DB_CONNECT_TIMEOUT = "700" } })
    folder.remove()
    assert.are.equal(0, code, output)
    assert.truthy(output:find("connected", 1, true), output)
  end)

  it("an operation has its timeout", function()
    local operation = moonpool.operation { input = is.object {}, timeout = 1, run = function(tx)
      return tx:value "select 1"
    end }
    compute(1.2)
    assert.are.equal(1, moonpool.call(operation, {}))
  end)

  it("db.transaction has its timeout", function()
    compute(1.2)
    assert.are.equal(1, db.transaction({ timeout = 1 }, function(tx)
      return tx:value "select 1"
    end))
  end)
end)
