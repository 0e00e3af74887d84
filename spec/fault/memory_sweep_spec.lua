-- Memory that fails in the middle of create_deal, however it is called: nothing crashes, hangs or
-- is left, and the database holds all or nothing.
local sweep = require "spec.support.workload.memory_sweep"

local known = { OUT_OF_MEMORY = true, HOST_OUT_OF_MEMORY = true, SCRIPT_ERROR = true,
                ["not enough memory"] = true }

describe("where Lua is refused a block, create_deal does all or nothing:", function()
  for way in pairs(sweep.ways) do
    for _, count in ipairs { 1, 2, 5 } do
      it(("%s, %d in a row"):format(way, count), function()
        local report, details, asked, codes = sweep.run(way, count)
        assert.are.same({ 0, 0, 0, 0, 0 },
          { report.lost, report.duplicated, report.orphaned, report.denied, report.unresolved },
          table.concat(details, "\n"))
        assert.is_true(asked > 50 and report.made >= 4 and report.failed > 30)
        for code in pairs(codes) do assert.is_true(known[code] or false, code) end
      end)
    end
  end
end)
