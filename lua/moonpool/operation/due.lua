-- moonpool.operation.due: when a schedule is due: "5m" or a cron line, as arithmetic on seconds
-- since 1970 (UTC). Pure.
--
-- An interval is counted from 1970, so that it is due at the same times on every host: "5m" at :00,
-- :05, :10; "1d" at midnight UTC. A cron line is wall time: `offset(t)` gives by how many seconds
-- its zone is east of UTC at t. When the clock is put forward, the times that it skips are due at
-- the moment of the jump. When it is put back, a line with fixed hours is due once, not twice.
local due = {}

local Due = {}
Due.__index = Due

local MINUTE, HOUR, DAY = 60, 3600, 86400
local units = { s = 1, m = MINUTE, h = HOUR, d = DAY }

local months = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8, sep = 9,
                 oct = 10, nov = 11, dec = 12 }
local days   = { sun = 0, mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6 }
local longest = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local fields = {
  { name = "minute", low = 0, high = 59 },
  { name = "hour", low = 0, high = 23 },
  { name = "day of the month", low = 1, high = 31 },
  { name = "month", low = 1, high = 12, names = months },
  { name = "day of the week", low = 0, high = 7, names = days },
}

local short = { ["@hourly"] = "0 * * * *", ["@daily"] = "0 0 * * *", ["@weekly"] = "0 0 * * 0",
                ["@monthly"] = "0 0 1 * *",
                ["@yearly"] = "0 0 1 1 *" }

-- -- reading --------------------------------------------------------------------------------------

local function number_of(text, field)
  local value = field.names and field.names[text:lower()]
    or math.tointeger(tonumber(text:match "^%d+$"))
  if value and value >= field.low and value <= field.high then return value end
  return nil, ("%s: %q is not in %d-%d"):format(field.name, text, field.low, field.high)
end

-- "*/15", "1-5", "mon,fri" -> set of the values; any = true if the text begins with *
local function parse_field(text, field)
  local set = { any = text:sub(1, 1) == "*" }
  for part in (text .. ","):gmatch "(.-)," do
    local range, step = part:match "^([^/]+)/(%d+)$"
    range, step = range or part, math.tointeger(tonumber(step or 1))
    local low, high = field.low, field.high
    if range ~= "*" then
      local from, to = range:match "^([^-]+)-([^-]+)$"
      local fault
      low, fault = number_of(from or range, field)
      if not low then return nil, fault end
      high = low
      if to then high, fault = number_of(to, field) elseif part:find "/" then high = field.high end
      if not high then return nil, fault end
    end
    if low > high or step < 1 then return nil, ("%s: %q gives nothing"):format(field.name, part) end
    for value = low, high, step do set[value] = true end
  end
  if field.names == days and set[7] then set[0] = true end
  return set
end

local function parse_cron(text)
  local words, sets = {}, {}
  for word in (short[text] or text):gmatch "%S+" do words[#words + 1] = word end
  if #words ~= #fields then
    return nil, ("must be an interval (\"5m\"; s, m, h, d) or a cron line of five fields, not %q")
      :format(text)
  end
  for i, field in ipairs(fields) do
    local set, fault = parse_field(words[i], field)
    if not set then return nil, ("the cron line %q: %s"):format(text, fault) end
    sets[i] = set
  end
  local self = { text = text, minutes = sets[1], hours = sets[2], month_days = sets[3],
                 months = sets[4], week_days = sets[5] }
  if not self.month_days.any and self.week_days.any then
    local possible = false
    for month = 1, 12 do
      for day = 1, longest[month] do
        possible = possible or self.months[month] and self.month_days[day]
      end
    end
    if not possible then
      return nil, ("the cron line %q names a day that no month has"):format(text)
    end
  end
  return setmetatable(self, Due)
end

-- parse(text) -> a schedule; or nil and a description of the fault
function due.parse(text)
  if type(text) ~= "string" then
    return nil, "must be a text: \"5m\", or a cron line of five fields"
  end
  local count, unit = text:match "^(%d+)([smhd])$"
  if not count then return parse_cron(text) end
  local seconds = math.tointeger(tonumber(count)) and tonumber(count) * units[unit]
  if not seconds or seconds < 1 or seconds > 366 * DAY then
    return nil, "must be from 1s to 366d"
  end
  return setmetatable({ text = text, interval = math.tointeger(seconds) }, Due)
end

-- -- counting -------------------------------------------------------------------------------------

local function wall(t) return os.date("!*t", t) end

function Due:on_day(w)
  if not self.months[w.month] then return false end
  local by_month, by_week = self.month_days[w.day], self.week_days[w.wday - 1]
  if self.month_days.any then return by_week end
  if self.week_days.any then return by_month end
  return by_month or by_week -- both fields are given: one of them must match
end

function Due:at(w) return self:on_day(w) and self.hours[w.hour] and self.minutes[w.min] end

-- True if the clock was put forward at t and skipped a time at which the schedule is due.
function Due:jumped_over(t, offset)
  local jump = offset(t) - offset(t - MINUTE)
  if jump <= 0 or self.hours.any then return false end
  for skipped = t + offset(t) - jump, t + offset(t) - MINUTE, MINUTE do
    if self:at(wall(skipped)) then return true end
  end
  return false
end

-- True if the clock was put back and shows this wall time for the second time. Only for fixed
-- hours.
function Due:repeated(t, offset)
  local before = offset(t - 3 * HOUR)
  local back = before - offset(t)
  return back > 0 and not self.hours.any and offset(t - back) == before
end

-- next(t, offset) -> the first time after t at which the schedule is due; nil if there is none
-- within 3000 days
function Due:next(t, offset)
  if self.interval then return (t // self.interval + 1) * self.interval end
  local limit = t + 3000 * DAY -- 29 February comes within eight years
  t = (t // MINUTE + 1) * MINUTE
  while t < limit do
    local w = wall(t + offset(t))
    if self:jumped_over(t, offset) or (self:at(w) and not self:repeated(t, offset)) then
      return t
    end
    local left = DAY - w.hour * HOUR - w.min * MINUTE
    if not self:on_day(w) and left > 4 * HOUR then
      t = t + left - 3 * HOUR -- before midnight: a change of the clock alters the day's length
    elseif not (self:on_day(w) and self.hours[w.hour]) then
      t = (t // 900 + 1) * 900 -- clocks are changed at full quarters of an hour
    else
      t = t + MINUTE
    end
  end
  return nil
end

due.MANY = 10000

-- catch_up(seen, now, offset) -> the last due time up to `now`, and the number of missed due times:
-- those between `seen` and it. nil if no due time lies after `seen`. The count stops at due.MANY.
function Due:catch_up(seen, now, offset)
  if self.interval then
    local last = now // self.interval * self.interval
    if last <= seen then return nil end
    return last, math.max(0, last // self.interval - seen // self.interval - 1)
  end
  local last, missed = nil, -1
  local t = self:next(seen, offset)
  while t and t <= now do
    last, missed = t, missed + 1
    if missed == due.MANY then return now // MINUTE * MINUTE, missed end
    t = self:next(t, offset)
  end
  if last then return last, missed end
  return nil
end

-- The offset of the process's own time zone (TZ).
function due.local_offset(t)
  local sign, hours, minutes = os.date("%z", t):match "([+-])(%d%d)(%d%d)"
  local seconds = tonumber(hours) * HOUR + tonumber(minutes) * MINUTE
  return math.tointeger(sign == "-" and -seconds or seconds)
end

return due
