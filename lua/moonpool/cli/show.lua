-- moonpool.cli.show: a value as text for a person: rows as a table, all else as JSON where it can
-- be. Reading a lazy row may wait for the database.
local json = require "moonpool.json"

local WIDEST, MOST = 60, 1000 -- characters of a column, rows

local function is_row(value)
  return type(value) == "userdata" and (debug.getmetatable(value) or {}).__name == "moonpool.row"
end

local function cell(value)
  if value == nil then return "" end
  local text = tostring(value)
  if type(value) == "table" then
    local ok, encoded = pcall(json.encode, value, { decimal_strings = true })
    text = ok and encoded or text
  end
  text = text:gsub("%c", " ")
  local length = utf8.len(text)
  if not length or length <= WIDEST then return text end
  return text:sub(1, utf8.offset(text, WIDEST) - 1) .. "…"
end

local function pad(text, width, right)
  local blanks = (" "):rep(width - (utf8.len(text) or #text))
  return right and blanks .. text or text .. blanks
end

-- Columns in the order of the first row.
local function rows_text(rows)
  local names, numbers, widths, cells = {}, {}, {}, {}
  for name, value in pairs(rows[1]) do
    names[#names + 1] = name
    numbers[name] = type(value) == "number"
  end
  for i = 1, math.min(#rows, MOST) do
    cells[i] = {}
    for k, name in ipairs(names) do
      cells[i][k] = cell(rows[i][name])
      widths[k] = math.max(widths[k] or utf8.len(name), utf8.len(cells[i][k]) or #cells[i][k])
    end
  end
  local lines, head, rule = {}, {}, {}
  for k, name in ipairs(names) do
    head[k], rule[k] = pad(name, widths[k]), ("-"):rep(widths[k])
  end
  lines[1], lines[2] = table.concat(head, " | "):gsub("%s+$", ""), table.concat(rule, "-+-")
  for i, row in ipairs(cells) do
    for k, name in ipairs(names) do row[k] = pad(row[k], widths[k], numbers[name]) end
    lines[i + 2] = table.concat(row, " | "):gsub("%s+$", "")
  end
  lines[#lines + 1] = #rows == 1 and "(1 row)" or ("(%d rows)"):format(#rows)
  if #rows > MOST then lines[#lines] = ("(%d rows, the first %d)"):format(#rows, MOST) end
  return table.concat(lines, "\n")
end

-- show(value) -> text
return function(value)
  if is_row(value) then return rows_text { value } end
  if type(value) == "table" and is_row(value[1]) then return rows_text(value) end
  if type(value) == "table" and not (debug.getmetatable(value) or {}).__tostring then
    local ok, text = pcall(json.encode, value, { pretty = true, sorted = true,
                                                 decimal_strings = true })
    if ok then return text end
  end
  if type(value) == "string" then return ("%q"):format(value):gsub("\\\n", "\\n") end
  return tostring(value)
end
