-- create_deal, its connection cut at every message of both directions: before it, in three places
-- within it, and behind it; on a connection that is warm and on one that is new. And 400 times
-- COMMIT, and what is asked about it. For single calls, for four in a lane, and for four that share
-- a transaction.
local kill_matrix = require "spec.support.workload.kill_matrix"
local random      = require "spec.support.data.random"

for about, options in pairs {
  ["create_deal"]                = { twice = 400 },
  ["create_deal in a lane"]      = { twice = 200, together = 4 },
  ["create_deal in groups of 4"] = { twice = 100, together = 4, group = 4 },
} do
  describe(about .. ", cut at every message,", function()
    it("is made once, or the caller knows that it is not", function()
      options.seed = random.seed()
      local report, details = kill_matrix.run(options)
      print(
        ("\n%s: %d cuts of %d cases: %d calls made, %d failed, %d unknown; %d cut calls were \z
          retried and made"):format(
        about, report.cut_cuts, report.cut_messages, report.made, report.failed, report.unknown,
        report.cut_retried))
      print(table.concat(report.cut_failed, "\n", 1, math.min(5, #report.cut_failed)))
      for _, kind in ipairs { "lost", "duplicated", "orphaned", "denied", "failed",
                              "unresolved" } do
        assert.are.equal(0, report[kind], table.concat(details, "\n"))
      end
      assert.truthy(report.cut_cuts >= 1000, report.cut_cuts)
    end)
  end)
end
