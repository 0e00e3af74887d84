-- moonpool.is.calendar: dates and times as text. The proleptic Gregorian calendar, years 0001 to 9999.
local calendar = {}

local month_days = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_leap(y) return y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0) end

local function is_day(y, m, d)
  if y < 1 or m < 1 or m > 12 or d < 1 then return false end
  return d <= (m == 2 and is_leap(y) and 29 or month_days[m])
end

-- Days since 0001-01-01, and back.
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

-- "2024-02-29" or nil.
function calendar.date(text)
  local y, m, d = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
  if not y or not is_day(tonumber(y), tonumber(m), tonumber(d)) then return nil end
  return text
end

-- Minutes east of Greenwich, or nil: Z, +hh, +hh:mm, +hhmm.
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

-- As PostgreSQL rounds what is finer (its rint): .NET gives 7 digits of a second, Go 9.
local function microseconds(fraction)
  if #fraction <= 6 then return math.tointeger(tonumber(fraction .. ("0"):rep(6 - #fraction))) end
  local exact = tonumber("0." .. fraction) * 1000000
  local whole = exact // 1
  local rest = exact - whole
  if rest > 0.5 or (rest == 0.5 and whole % 2 == 1) then whole = whole + 1 end
  return math.tointeger(whole)
end

-- The same moment in UTC as YYYY-MM-DDTHH:MM:SS[.ffffff]Z, equal moments as equal text; or nil.
function calendar.timestamp(text)
  local date, hours, minutes, rest = text:match("^(%d%d%d%d%-%d%d%-%d%d)[Tt ](%d%d):(%d%d)(.+)$")
  if not date or not calendar.date(date) then return nil end
  local seconds, fraction, zone = "00", "", rest
  if rest:sub(1, 1) == ":" then
    seconds, fraction, zone = rest:match("^:(%d%d)%.?(%d*)(.+)$")
    if not seconds or (fraction == "") == (rest:sub(4, 4) == ".") then return nil end
  end
  local offset = zone_minutes(zone)
  if not offset or #fraction > 100 then return nil end
  local h, m, s = tonumber(hours), tonumber(minutes), tonumber(seconds)
  if h > 23 or m > 59 or s > 60 then return nil end
  -- A leap second is for PostgreSQL the first one of the next day; no other minute has 61.
  if s == 60 and (h * 60 + m - offset) % 1440 ~= 1439 then return nil end
  local micros = microseconds(fraction)
  local y, month, d = date:match("(%d+)%-(%d+)%-(%d+)")
  local total = ((to_days(tonumber(y), tonumber(month), tonumber(d)) * 24 + h) * 60 + m - offset) * 60 + s + micros // 1000000
  local days = total // 86400
  if days < 0 or days >= to_days(10000, 1, 1) then return nil end
  y, month, d = from_days(days)
  fraction = (".%06d"):format(micros % 1000000):gsub("%.?0+$", "")
  return ("%04d-%02d-%02dT%02d:%02d:%02d%sZ"):format(y, month, d, total % 86400 // 3600, total % 3600 // 60, total % 60,
    fraction)
end

return calendar
