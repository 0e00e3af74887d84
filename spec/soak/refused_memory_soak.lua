-- libmoonpool in a program whose memory is used up: each request for memory of a runtime's life is
-- refused once. With MP_SEED=N only every 16th, from N on.
local program = require "spec.support.process.desk"
local test    = require "moonpool.test"

local seed = tonumber(os.getenv "MP_SEED")

local function sweep(kind, stride)
  local dir = program.project("soak", "workshop", { ["careful.lua"] = program.careful })
  local url = test.database().app_url
  local lot = ("DESK_SWEEP=%d %d %d"):format(kind, seed and seed % 16 or 0, seed and 16 or stride)
  assert.matches("sweep is as expected",
    program.run("soak", "desk", { "sweep", dir, dir, url, url, "{}", "{}" }, { lot }, 1800))
end

describe("libmoonpool in a program", function()
  setup(function() program.build "soak" end)

  it("lives on when one request for memory is refused", function() sweep(0, 1) end)
  it("ends well when all memory is refused from a request on", function() sweep(1, 7) end)
end)
