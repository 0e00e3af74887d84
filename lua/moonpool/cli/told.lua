-- moonpool.cli.told: an error as a person at a terminal reads it: the place, its line of source,
-- the statement with a caret where the server stopped reading, who called, and what to do next. The
-- person runs the call on their own machine, with their own input, so SQL, DETAIL and HINT are
-- shown.
local codes   = require "moonpool.script.codes"
local columns = require "moonpool.cli.table_text"
local errors  = require "moonpool.errors"
local host    = require "moonpool.host"

local SHOWN = 6 -- lines of a statement, on both sides of the caret

local function plain(text) return (tostring(text):gsub("[^\n%C]", " ")) end

-- The text of a line "scripts/x.lua:12"; nil if the file cannot be read.
local function source_line(place)
  local path, number = tostring(place):match "^([^:]+):(%d+)$"
  if not path then return nil end
  local file <close> = io.open(path:sub(1, 1) == "/" and path or host.app_dir .. "/" .. path, "rb")
  local at = 0
  for line in file and file:lines() or function() end do
    at = at + 1
    if at == tonumber(number) then return number, plain(line):gsub("%s+$", "") end
  end
  return nil
end

local function add_source(add, place)
  local number, line = source_line(place)
  if number then add("\n%6s | %s", number, line) end
end

-- The statement, and below its line a caret. `position` counts characters from 1.
local function add_query(add, query, position)
  local at, lines, caret_line, caret = 0, {}, nil, nil
  for line in (query .. "\n"):gmatch "(.-)\n" do
    lines[#lines + 1] = plain(line)
    local length = utf8.len(line) or #line
    if position and not caret and position <= at + length + 1 then
      caret_line, caret = #lines, position - at
    end
    at = at + length + 1
  end
  add ""
  for i, line in ipairs(lines) do
    local far = i - (caret_line or 1)
    if far >= -SHOWN and far <= SHOWN then add("    %s", line) end
    if i == caret_line then add("    %s^", (" "):rep(caret - 1)) end
  end
  if #lines > SHOWN + (caret_line or 1) then add "    ..." end
end

-- The lines of the traceback in the project's files, without the first one's place. A statement
-- that failed after its line was left has only the line that called the module.
local function callers(e)
  local list = {}
  if e.caller and not tostring(e.traceback or ""):find(e.caller, 1, true) then
    list[1] = { plain(e.caller), "" }
  end
  for line in tostring(e.traceback or ""):gmatch "[^\n]+" do
    local place, what = line:match "^%s*([^%s%[][^:]*:%d+): (.*)$"
    if place and not place:find "^moonpool/" and place ~= e.line then
      list[#list + 1] = { place, plain(what) }
    end
  end
  return list
end

local function add_callers(add, e)
  local list = callers(e)
  if list[1] then add "\ncalled from:" end
  for _, line in ipairs(columns(list, "  ")) do add("%s", line) end
end

local function add_fields(add, e)
  local rows = {}
  for i, field in ipairs(e.fields or {}) do
    rows[i] = { plain(field.path or ""), plain(field.message or "") }
  end
  for _, line in ipairs(columns(rows, "  ")) do add("%s", line) end
end

-- What else is known: whose fault, the attempts, where to read more.
local function add_end(add, e, options)
  local info = codes[e.code]
  local more = { ("%s, status %s"):format(e.code, e.status) }
  if e.sqlstate then more[#more + 1] = "SQLSTATE " .. e.sqlstate end
  if (e.attempts or 1) > 1 then more[#more + 1] = ("after %d attempts"):format(e.attempts) end
  if e.outcome_unknown then more[#more + 1] = "it may have been committed all the same" end
  add("\n%s", table.concat(more, "; "))
  if e.fields then
    if options.name then add("moonpool call %s --help shows the input", options.name) end
  elseif info or e.sqlstate then
    add("moonpool errors %s tells what it means", e.sqlstate or e.code)
  end
  if e.call_id and not options.why then add "with --why, call shows its steps" end
end

-- told(e, { name= of the operation, why= true: the steps of the call are shown already }) -> text
return function(e, options)
  e = errors.of(e)
  local lines = {}
  local function add(text, ...) lines[#lines + 1] = text:format(...) end
  local fault_of_script = not e.own_message and (e.status or 500) >= 500
  local message = plain(e.message or "")
  -- The message of a refused input is its faults in one line.
  if e.fields then message = ("the input of %s is not accepted:"):format(options.name or "it") end
  if e.line and not message:find(e.line, 1, true) and (fault_of_script or e.sqlstate) then
    add("%s: %s", plain(e.line), message)
  else
    add("%s", message)
  end
  add_fields(add, e)
  if e.line and (fault_of_script or e.sqlstate) then add_source(add, e.line) end
  if e.query and (fault_of_script or e.sqlstate) then
    add_query(add, e.query, math.tointeger(tonumber(e.position)))
  end
  if e.detail then add("\ndetail: %s", plain(e.detail)) end
  if e.hint and not message:find(e.hint, 1, true) then add("hint: %s", plain(e.hint)) end
  if fault_of_script or e.sqlstate then add_callers(add, e) end
  add_end(add, e, options)
  return table.concat(lines, "\n") .. "\n"
end
