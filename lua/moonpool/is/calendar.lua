-- moonpool.is.calendar: dates and times as text, in the range of PostgreSQL's columns and in the
-- form in which the host returns columns. A year outside 0001 to 9999 has ISO 8601's expanded form:
-- +012345, or -000043 (44 BC). infinity and -infinity are accepted. The calendar is the proleptic
-- Gregorian one.
local calendar = {}

local month_days = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_leap(y) return y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0) end

local function is_day(y, m, d)
  if m < 1 or m > 12 or d < 1 then return false end
  return d <= (m == 2 and is_leap(y) and 29 or month_days[m])
end

-- to_days returns the days since 0001-01-01; from_days returns year, month and day.
local function to_days(y, m, d)
  local before = y - 1
  local days = before * 365 + before // 4 - before // 100 + before // 400
  for i = 1, m - 1 do days = days + (i == 2 and is_leap(y) and 29 or month_days[i]) end
  return days + d - 1
end

local function from_days(days)
  local y = days * 400 // 146097 + 1 -- at most one year off
  while to_days(y, 1, 1) > days do y = y - 1 end
  while to_days(y + 1, 1, 1) <= days do y = y + 1 end
  local rest, m = days - to_days(y, 1, 1), 1
  while true do
    local n = m == 2 and is_leap(y) and 29 or month_days[m]
    if rest < n then return y, m, rest + 1 end
    rest, m = rest - n, m + 1
  end
end

local FIRST = to_days(-4713, 11, 24) -- the first day that PostgreSQL can store
local LAST_YEAR_OF_DATES, LAST_YEAR_OF_TIMES = 5874897, 294276

local infinite = { infinity = true, ["-infinity"] = true }

-- Returns the days since 0001-01-01, and the year. For other text returns nil, with a message if
-- the text has the form of a date.
local function read_date(text)
  local sign, year, m, d = text:match("^([+-]?)(%d+)%-(%d%d)%-(%d%d)$")
  if not year then return nil end
  if sign == "" and (#year ~= 4 or year == "0000") or sign ~= "" and (#year < 6 or #year > 7) then
    return nil, "the year has four digits, from 0001, or a sign and six: +012345"
  end
  local y = math.tointeger(tonumber(sign .. year))
  if not is_day(y, tonumber(m), tonumber(d)) then return nil, "there is no such day" end
  return to_days(y, tonumber(m), tonumber(d)), y
end

local function outside(last_year)
  return ("only the days from -004713-11-24 to %+07d-12-31 can be stored"):format(last_year)
end

-- Returns the date; or nil and perhaps a message.
function calendar.date(text)
  if infinite[text] then return text end
  local days, year = read_date(text)
  if not days then return nil, year end
  if days < FIRST or year > LAST_YEAR_OF_DATES then return nil, outside(LAST_YEAR_OF_DATES) end
  return text
end

-- Returns the minutes east of Greenwich of Z, +hh, +hh:mm or +hhmm; nil for other text.
local function zone_minutes(zone)
  if zone == "Z" or zone == "z" then return 0 end
  local sign, hours, minutes = zone:match("^([+-])(%d%d):?(%d%d)$")
  if not sign then
    sign, hours = zone:match("^([+-])(%d%d)$")
    minutes = "0"
  end
  if not sign or tonumber(hours) > 15 or tonumber(minutes) > 59 then return nil end
  local total = tonumber(hours) * 60 + tonumber(minutes)
  return sign == "-" and -total or total
end

-- More than 6 digits are rounded as PostgreSQL rounds them (rint: half to even): .NET writes 7
-- digits of a second, Go 9.
local function microseconds(fraction)
  if #fraction <= 6 then return math.tointeger(tonumber(fraction .. ("0"):rep(6 - #fraction))) end
  local exact = tonumber("0." .. fraction) * 1000000
  local whole = exact // 1
  local rest = exact - whole
  if rest > 0.5 or (rest == 0.5 and whole % 2 == 1) then whole = whole + 1 end
  return math.tointeger(whole)
end

-- Reads the time of a day with its zone. Returns the minutes of the day, the seconds, the digits of
-- the fraction of a second, and the minutes of the zone; or nil and perhaps a message.
local function read_time(text)
  local hours, minutes, rest = text:match("^(%d%d):(%d%d)(.+)$")
  if not hours then return nil end
  local seconds, fraction, zone = "00", "", rest
  if rest:sub(1, 1) == ":" then
    seconds, fraction, zone = rest:match("^:(%d%d)%.?(%d*)(.+)$")
    if not seconds or #fraction > 100 then return nil end
    if (fraction == "") == (rest:sub(4, 4) == ".") then return nil end
  end
  local offset = zone_minutes(zone)
  if not offset then return nil, "the zone is Z, or at most 15:59 from it" end
  local h, m, s = tonumber(hours), tonumber(minutes), tonumber(seconds)
  local midnight = h == 24 and m == 0 and s == 0 and not fraction:find("[^0]")
  if h > 23 and not midnight or m > 59 or s > 60 then
    return nil, "there is no such time of a day"
  end
  -- PostgreSQL takes a leap second for the first second of the next day.
  if s == 60 and (h * 60 + m - offset) % 1440 ~= 1439 then
    return nil, "only the last minute of a day in UTC may have a second 60"
  end
  return h * 60 + m, s, fraction, offset
end

-- Returns the same moment in UTC as YYYY-MM-DDTHH:MM:SS[.ffffff]Z; equal moments give equal text.
-- Otherwise returns nil and perhaps a message.
function calendar.timestamp(text)
  if infinite[text] then return text end
  local date, time = text:match("^([+-]?%d+%-%d%d%-%d%d)[Tt ](.+)$")
  if not date then return nil end
  local day, wrong = read_date(date)
  if not day then return nil, wrong end
  local minutes, seconds, fraction, offset = read_time(time)
  if not minutes then return nil, seconds end
  local micros = microseconds(fraction)
  local total = (day * 1440 + minutes - offset) * 60 + seconds + micros // 1000000
  local y, month, d = from_days(total // 86400)
  if total // 86400 < FIRST or y > LAST_YEAR_OF_TIMES then
    return nil, outside(LAST_YEAR_OF_TIMES)
  end
  local h, m, s = total % 86400 // 3600, total % 3600 // 60, total % 60
  fraction = (".%06d"):format(micros % 1000000):gsub("%.?0+$", "")
  return ((y < 1 or y > 9999) and "%+07d" or "%04d"):format(y)
    .. ("-%02d-%02dT%02d:%02d:%02d%sZ"):format(month, d, h, m, s, fraction)
end

return calendar
