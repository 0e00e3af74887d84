-- The long form of reload_flight_spec.lua: 1,000 good reloads and 1,000 broken ones while 500 calls
-- are made per second. ROUNDS and RATE in the environment make it shorter. Run it alone: moonpool
-- spec spec/soak/reload_soak.lua
local scratch = require "spec.support.data.scratch"
local serving = require "spec.support.process.serving"

local ROUNDS = tonumber(os.getenv "ROUNDS" or 1000)
local RATE   = tonumber(os.getenv "RATE" or 500)
local WARM   = 50 -- rounds before memory is compared

local broken = {
  { ["scripts/lib/early.lua"] = "return {" },
  { ["scripts/versions.lua"] = "return 1" },
  { ["scripts/lib/late.lua"] = "local x =\n= 1" },
  { ["scripts/versions.lua"] = 'error "no"' },
  { ["scripts/lib/early.lua"] = 'return require "lib.nowhere"' },
  { ["scripts/smoke.lua"] = 'error "I refuse"' },
}

describe("a thousand reloads, and a thousand that are refused", function()
  it("fail no call, mix no two generations, and keep no memory", function()
    local host = serving.start(serving.versions(1))
    local storm = host:storm(20, RATE)
    local before, took = nil, {}
    for round = 1, ROUNDS do
      for name, text in pairs(broken[round % #broken + 1]) do host:write { [name] = text } end
      assert.is_false(host:reload().ok)
      host:write(serving.versions(round + 1))
      host:write { ["scripts/smoke.lua"] = "return true" }
      local report = host:reload()
      assert.is_true(report.ok, report.report)
      took[#took + 1] = report.ms
      if round == math.min(WARM, ROUNDS // 2) then before = host:resident() end
    end
    local seen = storm.stop()
    scratch.await("one generation", function() return #host:generations() == 1 end)
    local after = host:resident()
    table.sort(took)
    print(
      ("\n%d good and %d broken reloads, %d calls (%d generations answered): %d failed, %d \z
        mixed, %d lost"):format(ROUNDS,
      ROUNDS, seen.calls, seen.generations, seen.failed, seen.mixed, seen.lost))
    print(
      ("call: p50 %.1f ms, p99 %.1f ms, slowest %.1f ms; reload: median %.1f ms, slowest %.1f ms")
        :format(seen.p50_ms,
      seen.p99_ms, seen.slowest_ms, took[#took // 2 + 1], took[#took]))
    print(("resident memory: %d KiB after round %d, %d KiB at the end (%+.1f %%)"):format(before,
      math.min(WARM, ROUNDS // 2),
      after, (after / before - 1) * 100))
    host:stop()
    assert.are.same({ 0, 0, 0 }, { seen.failed, seen.mixed, seen.lost }, seen.first_failure)
    assert.is_true(after < before * 1.05, "memory grew by more than 5 %")
  end)
end)
