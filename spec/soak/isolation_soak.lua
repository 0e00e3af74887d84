-- 20,000 transactions of each isolation level, judged from their histories.
local list_append = require "spec.support.workload.list_append"
local random      = require "spec.support.data.random"

describe("histories of 20,000 transactions", function()
  for _, case in ipairs { { "serializable" }, { "serializable", kills = 200 },
                          { "repeatable read" }, { "read committed" } } do
    local level = case[1]
    it(("show what %s promises%s")
      :format(level, case.kills and ", with backends ended under them" or ""), function()
      local seed = random.seed()
      local report, details = list_append.run { isolation = level, transactions = 20000,
                                                seed = seed, callers = 12,
        fault = case.kills and function(n)
          if n % (20000 // case.kills) == 0 then list_append.end_a_backend() end
        end }
      print(("\n%s, seed %d: %d committed, %d failed, %d retries; %d cycles"):format(level, seed,
        report.committed,
        report.failed, report.retries, report.cycles))
      local text = table.concat(details, "\n")
      for _, kind in ipairs { "aborted", "incompatible", "repeated", "lost", "unknown" } do
        assert.are.equal(0, report[kind], text)
      end
      if level == "serializable" then
        assert.are.equal(0, report.cycles, text)
      else
        assert.truthy(report.cycles > 0, "the judge sees nothing")
      end
    end)
  end
end)
