-- 20,000 transactions of each isolation level, judged from their histories.
local list_append = require "spec.support.list_append"
local random      = require "spec.support.random"

describe("histories of 20,000 transactions", function()
  for _, level in ipairs { "serializable", "repeatable read", "read committed" } do
    it("show what " .. level .. " promises", function()
      local seed = random.seed()
      local report, details = list_append.run { isolation = level, transactions = 20000, seed = seed, callers = 12 }
      print(("\n%s, seed %d: %d committed, %d failed, %d retries; %d cycles"):format(level, seed, report.committed,
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
