-- 20,000 deals while 200 backends are ended by pg_terminate_backend and 20 by kill -9; then deals
-- over 10 immediate stops of the server. Of the callers of the first, 99.9 % succeed and do not try
-- again themselves.
local backend_kills = require "spec.support.workload.backend_kills"
local random        = require "spec.support.data.random"

describe("deals", function()
  local function run(what, options)
    options.seed = random.seed()
    local report, details = backend_kills.run(options)
    local text = table.concat(details, "\n")
    print(("\n%s, seed %d: %d harmed, %d made, %d failed, %d unknown, %d attempts more\n%s")
      :format(what, options.seed,
      report.harmed, report.made, report.failed, report.unknown, report.retried, text))
    for _, kind in ipairs { "lost", "duplicated", "orphaned", "denied", "unresolved", "left" } do
      assert.are.equal(0, report[kind], kind)
    end
    return report
  end

  it("survive the end of their backends", function()
    local report = run("backends ended", { callers = 20, each = 1000, terminate = 200, kill = 20 })
    assert.truthy(report.made >= report.calls * 0.999, "too many callers failed")
  end)

  it("survive the end of their server", function()
    run("server stopped", { callers = 20, each = 100, stop = 10 })
  end)
end)
