-- 200 immediate stops of the server while 20 callers, who share a flush, make deals: nothing that
-- was answered is lost, nothing is stored twice.
local backend_kills = require "spec.support.workload.backend_kills"
local cluster       = require "spec.support.process.cluster"
local random        = require "spec.support.data.random"

describe("deals that share a flush", function()
  it("survive the end of their server", function()
    local own <close> = setmetatable({ cluster = cluster.start() }, {
      __close = function(self) self.cluster:stop() end })
    own.cluster:ask "alter system set wal_writer_delay = '10s'"
    own.cluster:ask "select pg_reload_conf()"
    local seed = random.seed()
    local report, details = backend_kills.run {
      callers = 20, each = 500, stop = 200, own = own.cluster, seed = seed,
      env = { MOONPOOL_FLUSH = "shared" } }
    print(("\nseed %d: %d stops, %d made, %d failed, %d unknown, %d attempts more\n%s"):format(
      seed, report.harmed, report.made, report.failed, report.unknown, report.retried,
      table.concat(details, "\n")))
    for _, kind in ipairs { "lost", "duplicated", "orphaned", "denied", "unresolved", "left" } do
      assert.are.equal(0, report[kind], kind)
    end
    assert.are.equal(200, report.harmed)
  end)
end)
