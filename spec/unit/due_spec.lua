-- When a schedule is due: intervals and cron lines, over ends of months, leap years and clocks that
-- are put forward and back.
local due = require "moonpool.operation.due"

local function utc() return 0 end

-- Seconds of a UTC time, whatever the zone of this process is.
local function at(text)
  local year, month, day, hour, minute, second = text:match "(%d+)-(%d+)-(%d+) (%d+):(%d+):?(%d*)"
  local y = tonumber(year) - (tonumber(month) <= 2 and 1 or 0)
  local era = y // 400
  local of_era, m = y - era * 400, (tonumber(month) + 9) % 12
  local of_year = (153 * m + 2) // 5 + tonumber(day) - 1
  local count = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
  return count * 86400 + tonumber(hour) * 3600 + tonumber(minute) * 60 + (tonumber(second) or 0)
end

-- Central Europe in 2026: summer time from 29 March 01:00 to 25 October 01:00 UTC.
local function berlin(t)
  return t >= at "2026-03-29 01:00" and t < at "2026-10-25 01:00" and 7200 or 3600
end

local function text(t) return os.date("!%Y-%m-%d %H:%M:%S", t) end

local function series(line, from, offset, count)
  local schedule = assert(due.parse(line))
  local t, list = at(from), {}
  for i = 1, count do
    t = schedule:next(t, offset)
    list[i] = text(t)
  end
  return list
end

describe("an interval", function()
  it("falls on the same times everywhere", function()
    assert.are.same({ "2026-01-01 00:05:00", "2026-01-01 00:10:00" },
                    series("5m", "2026-01-01 00:00", utc, 2))
    assert.are.same({ "2026-01-01 00:00:30" }, series("30s", "2026-01-01 00:00:01", berlin, 1))
    assert.are.same({ "2026-03-30 00:00:00" }, series("1d", "2026-03-29 00:00", berlin, 1))
  end)
end)

describe("a cron line", function()
  local cases = {
    { "*/15 * * * *", "2026-05-01 10:07", utc, "2026-05-01 10:15:00", "2026-05-01 10:30:00" },
    { "0 9-17/4 * * mon-fri", "2026-05-01 13:00", utc, "2026-05-01 17:00:00",
      "2026-05-04 09:00:00" },
    { "30 4 1,15 * *", "2026-01-15 04:30", utc, "2026-02-01 04:30:00", "2026-02-15 04:30:00" },
    { "0 0 31 * *", "2026-01-31 00:00", utc, "2026-03-31 00:00:00", "2026-05-31 00:00:00" },
    { "0 0 29 2 *", "2026-01-01 00:00", utc, "2028-02-29 00:00:00", "2032-02-29 00:00:00" },
    { "59 23 31 dec *", "2026-12-31 23:58", utc, "2026-12-31 23:59:00", "2027-12-31 23:59:00" },
    { "0 12 13 * fri", "2026-02-01 00:00", utc, "2026-02-06 12:00:00", "2026-02-13 12:00:00" },
    { "0 0 * * 7", "2026-05-02 00:00", utc, "2026-05-03 00:00:00", "2026-05-10 00:00:00" },
    { "@daily", "2026-02-28 12:00", utc, "2026-03-01 00:00:00", "2026-03-02 00:00:00" },
    { "5/20 * * * *", "2026-05-01 10:00", utc, "2026-05-01 10:05:00", "2026-05-01 10:25:00" },
    -- midnight in Berlin, in winter and in summer
    { "0 0 * * *", "2026-03-28 00:00", berlin, "2026-03-28 23:00:00", "2026-03-29 22:00:00" },
    -- 02:30 does not exist on 29 March: due when the clock jumps from 02:00 to 03:00
    { "30 2 * * *", "2026-03-28 12:00", berlin, "2026-03-29 01:00:00", "2026-03-30 00:30:00" },
    -- 02:30 comes twice on 25 October: due once
    { "30 2 * * *", "2026-10-24 12:00", berlin, "2026-10-25 00:30:00", "2026-10-26 01:30:00" },
    -- every half hour is every half hour
    { "*/30 * * * *", "2026-10-25 00:10", berlin, "2026-10-25 00:30:00", "2026-10-25 01:00:00",
      "2026-10-25 01:30:00",
      "2026-10-25 02:00:00" },
    { "*/30 * * * *", "2026-03-29 00:20", berlin, "2026-03-29 00:30:00", "2026-03-29 01:00:00",
      "2026-03-29 01:30:00" },
  }
  for _, case in ipairs(cases) do
    it(("%s after %s%s"):format(case[1], case[2], case[3] == berlin and " in Berlin" or ""),
       function()
      assert.are.same({ table.unpack(case, 4) }, series(case[1], case[2], case[3], #case - 3))
    end)
  end
end)

describe("what is no schedule", function()
  for _, line in ipairs { "", "5", "0s", "400d", "5 m", "* * * *", "60 * * * *", "* 24 * * *",
                          "* * 0 * *", "* * * 13 *",
                          "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *", "0 0 30 2 *",
                          "0 0 31 4,6 *", "1,, * * * *",
                          "@often", "99999999999999999999s" } do
    it(("%q is refused with a reason"):format(line), function()
      local schedule, fault = due.parse(line)
      assert.is_nil(schedule)
      assert.are.equal("string", type(fault))
    end)
  end
end)

describe("after a pause", function()
  local function catch_up(line, seen, now)
    local last, missed = due.parse(line):catch_up(at(seen), at(now), utc)
    return last and text(last), missed
  end

  it("the last time is due, those before it are missed", function()
    assert.are.same({ "2026-05-01 11:00:00", 11 },
                    { catch_up("5m", "2026-05-01 10:00", "2026-05-01 11:03") })
    assert.are.same({ "2026-05-04 00:00:00", 2 },
                    { catch_up("0 0 * * *", "2026-05-01 00:00", "2026-05-04 23:00") })
    assert.are.same({ "2026-05-01 10:05:00", 0 },
                    { catch_up("5m", "2026-05-01 10:00", "2026-05-01 10:05") })
  end)

  it("nothing is due before its time", function()
    assert.is_nil((catch_up("5m", "2026-05-01 10:00", "2026-05-01 10:04:59")))
    assert.is_nil((catch_up("0 0 * * *", "2026-05-01 00:00", "2026-05-01 23:59")))
  end)

  it("years of minutes are not counted one by one", function()
    local last, missed = catch_up("* * * * *", "2016-01-01 00:00", "2026-05-01 10:00:30")
    assert.are.same({ "2026-05-01 10:00:00", due.MANY }, { last, missed })
  end)
end)
