-- What transactions see of each other, judged from their histories: SERIALIZABLE can always be
-- explained by some order; READ COMMITTED, as a control, cannot, so the judge is able to see it.
-- The long form: spec/soak/isolation_soak.lua.
local fault       = require "spec.support.workload.fault"
local list_append = require "spec.support.workload.list_append"
local random      = require "spec.support.data.random"

describe("histories of transactions", function()
  local seed = random.seed()

  after_each(fault.assert_quiet)

  local function run(isolation, meddle)
    local report, details = list_append.run { isolation = isolation, transactions = 2000,
                                              seed = seed, fault = meddle }
    local function zero(...)
      for _, name in ipairs { ... } do
        assert.are.equal(0, report[name],
                         ("%s, seed %d: %s"):format(name, seed, table.concat(details, "\n")))
      end
    end
    assert.are.equal(2000, report.transactions)
    return report, zero
  end

  it("are explained by an order when SERIALIZABLE", function()
    local report, zero = run "serializable"
    zero("cycles", "write_cycles", "aborted", "intermediate", "incompatible", "repeated", "lost",
         "unknown")
    assert.truthy(report.committed > 1000, report.committed)
  end)

  it("are so, too, when backends are ended under them", function()
    local report, zero = run("serializable", function(n)
      if n % 50 == 0 then list_append.end_a_backend() end
    end)
    zero("cycles", "write_cycles", "aborted", "intermediate", "incompatible", "repeated", "lost",
         "unknown")
    assert.truthy(report.committed > 1000, report.committed)
  end)

  it("are not when READ COMMITTED, and lose nothing all the same", function()
    local report, zero = run "read committed"
    zero("aborted", "incompatible", "repeated", "lost", "unknown", "failed")
    assert.truthy(report.cycles > 0, "the judge sees nothing")
  end)
end)
