-- Reads the text format in which Prometheus scrapes metrics, and refuses whatever is not in its
-- grammar.
local page = {}

local Page = {}
Page.__index = Page

local kinds = { counter = true, gauge = true, histogram = true }

local function fail(number, line, what)
  error(("line %d: %s: %s"):format(number, what, line), 0)
end

-- {a="x",b="y"} -> table
local function labels_of(text, number, line)
  local labels, at = {}, 1
  while at <= #text do
    local name, from = text:match('^([%a_][%w_]*)="()', at)
    if not name then fail(number, line, "a label is broken") end
    local value, i = {}, from
    while text:sub(i, i) ~= '"' do
      local c = text:sub(i, i)
      if c == "" then fail(number, line, "a label value does not end") end
      if c == "\\" then
        i = i + 1
        c = ({ n = "\n", ["\\"] = "\\", ['"'] = '"' })[text:sub(i, i)]
          or fail(number, line, "a bad escape")
      end
      value[#value + 1] = c
      i = i + 1
    end
    if labels[name] then fail(number, line, "a label is there twice") end
    labels[name] = table.concat(value)
    at = i + 1
    if at <= #text then
      if text:sub(at, at) ~= "," then fail(number, line, "a comma is missing") end
      at = at + 1
    end
  end
  return labels
end

local function family_of(self, name)
  if self.families[name] then return self.families[name] end
  local base = name:match "^(.*)_bucket$" or name:match "^(.*)_sum$" or name:match "^(.*)_count$"
  local family = base and self.families[base]
  return family and family.kind == "histogram" and family or nil
end

local function read_sample(self, number, line)
  local name, rest = line:match "^([%a_:][%w_:]*)(.*)$"
  if not name then fail(number, line, "no metric name") end
  local inner, value = rest:match "^{(.*)} (%S+)$"
  if not inner then inner, value = "", rest:match "^ (%S+)$" end
  local parsed = value and (tonumber(value)
                            or ({ ["+Inf"] = math.huge, ["-Inf"] = -math.huge,
                                  NaN = 0 / 0 })[value])
  if not parsed then fail(number, line, "no value") end
  local family = family_of(self, name)
  if not family then fail(number, line, "a sample without a TYPE before it") end
  if family ~= self.current then fail(number, line, "samples of one metric must stand together") end
  local sample = { name = name, labels = labels_of(inner, number, line), value = parsed }
  local key = name .. "{" .. inner .. "}"
  if self.seen[key] then fail(number, line, "the series is there twice") end
  self.seen[key] = true
  if family.kind == "counter" and (parsed < 0 or parsed ~= parsed) then
    fail(number, line, "a counter below 0")
  end
  self.samples[#self.samples + 1] = sample
end

-- Buckets rise, end in +Inf, and agree with _count.
local function check_histograms(self)
  local last = {}
  for _, sample in ipairs(self.samples) do
    local base = sample.name:match "^(.*)_bucket$"
    local family = family_of(self, sample.name)
    if family.kind == "histogram" then
      local rest = {}
      for name, value in pairs(sample.labels) do
        if name ~= "le" then rest[#rest + 1] = name .. "=" .. value end
      end
      table.sort(rest)
      local key = family.name .. "{" .. table.concat(rest, ",") .. "}"
      if base then
        local le = sample.labels.le == "+Inf" and math.huge or tonumber(sample.labels.le)
        local before = last[key]
        if before and not (before.le < le and before.value <= sample.value) then
          error(key .. ": its buckets do not rise", 0)
        end
        last[key] = { le = le, value = sample.value }
      elseif sample.name:find "_count$"
        and (last[key].le ~= math.huge or last[key].value ~= sample.value) then
        error(key .. ": its count is not that of its last bucket", 0)
      end
    end
  end
end

--- Raises with the line that is wrong.
function page.read(text)
  local self = setmetatable({ families = {}, samples = {}, seen = {} }, Page)
  if text:sub(-1) ~= "\n" then error("the last line does not end", 0) end
  local number, help = 0, nil
  for line in text:gmatch "([^\n]*)\n" do
    number = number + 1
    local named, about = line:match "^# HELP ([%a_:][%w_:]*) (.+)$"
    local typed, kind = line:match "^# TYPE ([%a_:][%w_:]*) (%l+)$"
    if named then
      help = { name = named, text = about }
    elseif typed then
      if not kinds[kind] or self.families[typed] then
        fail(number, line, "an unknown or repeated TYPE")
      end
      if not help or help.name ~= typed then fail(number, line, "no HELP before it") end
      self.current = { name = typed, kind = kind, help = help.text }
      self.families[typed] = self.current
    elseif line:sub(1, 1) == "#" then
      fail(number, line, "not understood")
    else
      read_sample(self, number, line)
    end
  end
  check_histograms(self)
  return self
end

--- The sum over the series that have these labels; nil if there are none.
function Page:value(name, labels)
  local sum
  for _, sample in ipairs(self.samples) do
    local fits = sample.name == name
    for label, value in pairs(labels or {}) do fits = fits and sample.labels[label] == value end
    if fits then sum = (sum or 0) + sample.value end
  end
  return sum
end

--- How many series a metric has.
function Page:count(name)
  local n = 0
  for _, sample in ipairs(self.samples) do n = n + (sample.name == name and 1 or 0) end
  return n
end

return page
