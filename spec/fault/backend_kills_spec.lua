-- Backends are ended while callers make deals: nothing is lost, stored twice or half done. The long
-- form: spec/soak/backend_kills_soak.lua.
local backend_kills = require "spec.support.workload.backend_kills"
local cluster       = require "spec.support.process.cluster"
local random        = require "spec.support.data.random"

describe("deals whose backends are ended", function()
  local own
  local seed = random.seed()

  setup(function() own = cluster.start() end)
  teardown(function() own:stop() end)

  local function assert_clean(report, details)
    local text = ("seed %d: %s"):format(seed, table.concat(details, "\n"))
    for _, kind in ipairs { "lost", "duplicated", "orphaned", "denied", "unresolved", "left" } do
      assert.are.equal(0, report[kind], text)
    end
    return text
  end

  it("are made once, and their callers do not notice", function()
    local report, details = backend_kills.run { own = own, callers = 10, each = 60, terminate = 20,
                                                kill = 2, seed = seed }
    local text = assert_clean(report, details)
    assert.are.equal(22, report.harmed)
    assert.are.equal(600, report.made, text)
  end)

  -- The control: what the ledger is there to see can be seen.
  it("are lost by a server that was told to forget, and the ledger tells", function()
    own:ask "alter system set synchronous_commit = off"
    own:ask "alter system set wal_writer_delay = '10s'"
    own:ask "select pg_reload_conf()"
    local report = backend_kills.run { own = own, callers = 10, each = 20, seed = seed,
                                       last = function() own:crash "KILL" end }
    own:ask "alter system reset all"
    own:ask "select pg_reload_conf()"
    assert.are.equal(200, report.made)
    assert.truthy(report.lost > 0, "nothing was lost, or nobody noticed")
  end)
end)
