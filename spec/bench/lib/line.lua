-- One flat JSON object a line: what a peer prints about a run. Written and read without the host,
-- so that the comparison also works around peers of other kinds.
local line = {}

-- The order in which people want to read the fields; others follow by name.
local order = {}
for name in ([[case round peer failed check clients isolation ops errors retries retries_pct seconds
  ops_per_s p50_ms p99_ms p999_ms max_ms ops_total cpu_s rss_kb client_us server_us foreign
  last_error]]):gmatch "%S+" do
  order[#order + 1] = name
  order[name] = #order
end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
local unescapes = { n = "\n", r = "\r", t = "\t", b = "\b", f = "\f" }

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    return escapes[c] or string.format("\\u%04x", c:byte())
  end) .. '"'
end

local function encoded(value)
  if math.type(value) == "float" then
    if value ~= value or value - value ~= 0 then return "null" end
    return (string.format("%.3f", value):gsub("0+$", ""):gsub("%.$", ""))
  end
  return type(value) == "string" and quoted(value) or tostring(value)
end

--- The record as one line of JSON, without a line feed.
---@param record table<string, string | number | boolean>
---@return string
function line.encode(record)
  local names = {}
  for name in pairs(record) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    local first, second = order[a] or #order + 1, order[b] or #order + 1
    if first ~= second then return first < second end
    return a < b
  end)
  for i, name in ipairs(names) do names[i] = quoted(name) .. ":" .. encoded(record[name]) end
  return "{" .. table.concat(names, ",") .. "}"
end

-- The string that begins behind the quote at `at`; its value and the position behind it.
local function read_string(text, at)
  local parts = {}
  while true do
    local plain, stop, behind = text:match('^([^"\\]*)(["\\])()', at)
    if not stop then return nil end
    parts[#parts + 1] = plain
    if stop == '"' then return table.concat(parts), behind end
    local escape = text:sub(behind, behind)
    if escape == "u" then
      parts[#parts + 1] = utf8.char(tonumber(text:sub(behind + 1, behind + 4), 16) or 0xFFFD)
      at = behind + 5
    else
      parts[#parts + 1] = unescapes[escape] or escape
      at = behind + 1
    end
  end
end

local words = { ["true"] = true, ["false"] = false }

--- The record of a line, nil if the line is no flat JSON object.
---@param text string
---@return table<string, any>?
function line.decode(text)
  local at = text:match "^%s*{%s*()"
  if not at then return nil end
  local record = {}
  while text:sub(at, at) == '"' do
    local name, value, raw
    name, at = read_string(text, at + 1)
    at = name and text:match("^%s*:%s*()", at)
    if not at then return nil end
    if text:sub(at, at) == '"' then
      value, at = read_string(text, at + 1)
      if value == nil then return nil end
    else
      raw, at = text:match("^([%w.+-]+)()", at)
      if not raw then return nil end
      value = words[raw]
      if value == nil then value = tonumber(raw) end
    end
    record[name] = value
    at = text:match("^%s*,?%s*()", at)
  end
  return text:match("^}%s*$", at) and record or nil
end

return line
