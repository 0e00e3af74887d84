-- A cancel that reaches a backend before the statement does is forgotten by the server, so it is
-- sent again.
local db       = require "moonpool.db"
local moonpool = require "moonpool"
local fault    = require "spec.support.workload.fault"
local test     = require "moonpool.test"

local function signal(name, pid) assert(os.execute(("kill -%s %d"):format(name, pid))) end

-- Has the process been sent SIGINT, and not seen it yet?
local function interrupt_pends(pid)
  for line in io.lines(("/proc/%d/status"):format(pid)) do
    local mask = line:match "^ShdPnd:%s+(%x+)"
    if mask then return tonumber(mask, 16) & 1 << 1 ~= 0 end
  end
end

describe("a cancel", function()
  it("that comes before its statement is sent again, and the connection stays", function()
    local one = db.open { url = moonpool.host.app_url, max = 1 }
    local pid = one.value "select pg_backend_pid()"
    signal("STOP", pid)
    local query = moonpool.spawn(one.value, "select pg_sleep(60)")
    for _ = 1, 3 do test.admin().value "select 1" end -- the loop turns; the statement is on its way
    query:cancel()
    fault.eventually("the cancel waits for the backend", function() return interrupt_pends(pid) end)
    signal("CONT", pid)
    assert.are.equal(pid, one.value "select pg_backend_pid()")
    one.close()
  end)
end)
