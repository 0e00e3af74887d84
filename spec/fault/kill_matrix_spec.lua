-- create_deal, its connection cut before, within or behind a message of either direction: a seeded
-- sample of the matrix, COMMIT always among it; one call at a time, four in a lane, whose
-- connection goes from one to the next, and four that share a transaction. The whole:
-- spec/soak/kill_matrix_soak.lua.
local kill_matrix = require "spec.support.workload.kill_matrix"
local random      = require "spec.support.data.random"

for about, options in pairs {
  ["create_deal"]                = { cases = 60, twice = 15, least = 55 },
  ["create_deal in a lane"]      = { cases = 60, twice = 15, least = 50, together = 4 },
  ["create_deal in groups of 4"] = { cases = 40, twice = 10, least = 35, together = 4, group = 4 },
} do
  describe(about .. ", cut at any message,", function()
    local report, details
    local seed = random.seed()

    setup(function()
      options.seed = seed
      report, details = kill_matrix.run(options)
    end)

    local function zero(name)
      assert.are.equal(0, report[name], ("seed %d: %s"):format(seed, table.concat(details, "\n")))
    end

    it("was cut", function()
      assert.truthy(report.cut_cuts >= options.least, report.cut_cuts)
      if options.together then assert.truthy(report.refused >= options.least, report.refused) end
      if options.group then
        assert.truthy(report.cut_grouped > report.made / 2, report.cut_grouped)
      end
    end)
    it("loses nothing that the caller was told of", function() zero "lost" end)
    it("is never stored twice", function() zero "duplicated" end)
    it("leaves no half of it, and no gap in the numbers", function() zero "orphaned" end)
    it("is never stored when the caller was told that it failed", function() zero "denied" end)
    it("succeeds, or nobody knows: a cut before COMMIT is retried", function() zero "failed" end)
    it("always comes to be known", function() zero "unresolved" end)
  end)
end
