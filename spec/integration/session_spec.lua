-- What the host asks for at connect is what it gets, or it does not connect: dates would be wrong
-- silently.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"

local function with_options(options)
  return ("%s%soptions=%s"):format(host.app_url, host.app_url:find "?" and "&" or "?", options)
end

describe("a connection whose session is not as the host asked for", function()
  for name, value in pairs { DateStyle = "German", TimeZone = "Europe/Berlin",
                             IntervalStyle = "postgres",
                             standard_conforming_strings = "off" } do
    it("is refused, with what to do: " .. name, function()
      local other = db.open { url = with_options(("-c%%20%s%%3D%s"):format(name, value)), max = 1 }
      local e = failure(other.value, "select 1")
      other.close()
      assert.are.equal("NO_DATABASE", e.code)
      inline.contains(e.message, name .. " is ", "but the host requested", "pooler")
    end)
  end

  it("is taken with settings of the URL that mean nothing to values", function()
    local other = db.open { url = with_options "-c%20work_mem%3D8MB", max = 1 }
    assert.are.equal("8MB", other.value "show work_mem")
    other.close()
  end)
end)
