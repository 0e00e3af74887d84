-- moonpool.check.report: findings for people (as compilers show them) and for programs (JSON).
local json   = require "moonpool.json"
local syntax = require "moonpool.check.syntax"

local report = {}

local colours = { error = "1;31", warning = "1;33", note = "1;36", help = "1", mark = "1;32" }

local function painter(colour)
  return function(kind, text)
    return colour and ("\27[%sm%s\27[0m"):format(colours[kind], text) or text
  end
end

-- The text of the line, with a caret below. Tabs stay tabs, so that the caret stands right.
local function excerpt(finding, paint)
  local line = syntax.line(finding.file, finding.line)
  if not line or line == "" then return "" end
  local number = tostring(finding.line)
  local before = line:sub(1, (utf8.offset(line, finding.column) or finding.column) - 1)
  local room = before:gsub("[^\t]", " ")
  if not before:find "\t" then room = (" "):rep(finding.column - 1) end
  local mark = "^" .. ("~"):rep(math.min(finding.length, 60) - 1)
  return ("  %s | %s\n  %s | %s%s\n"):format(number, line, (" "):rep(#number), room,
                                             paint("mark", mark))
end

-- Words in lines of at most 92 characters.
local function wrapped(text, indent)
  local lines, line = {}, nil
  for word in text:gmatch "%S+" do
    if line and #line + #word + 1 > 92 then
      lines[#lines + 1], line = line, nil
    end
    line = line and line .. " " .. word or word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n" .. (" "):rep(indent))
end

--- One finding as text.
function report.finding(finding, colour)
  local paint = painter(colour)
  local head = ("%s:%d:%d: %s: %s [%s]\n"):format(finding.file.shown, finding.line,
    finding.column, paint(finding.severity, finding.severity), finding.message, finding.rule)
  local help = finding.help
    and ("  %s %s\n"):format(paint("help", "help:"), wrapped(finding.help, 8)) or ""
  return head .. excerpt(finding, paint) .. help
end

local function counted(number, word)
  return ("%d %s%s"):format(number, word, number == 1 and "" or "s")
end

--- The last line: what was checked, and how many findings there are.
function report.summary(result)
  local count = { error = 0, warning = 0, note = 0 }
  for _, finding in ipairs(result.findings) do
    count[finding.severity] = count[finding.severity] + 1
  end
  local parts = {}
  for _, severity in ipairs { "error", "warning", "note" } do
    if count[severity] > 0 then parts[#parts + 1] = counted(count[severity], severity) end
  end
  return ("%s, %s, %s: %s"):format(counted(result.files, "file"),
    counted(result.operations, "operation"), counted(result.statements, "statement"),
    parts[1] and table.concat(parts, ", ") or "no faults")
end

--- True if one of the findings is a fault: a note is none.
function report.failed(result)
  for _, finding in ipairs(result.findings) do
    if finding.severity ~= "note" then return true end
  end
  return false
end

--- The result as JSON text.
function report.json(result)
  local list = json.array {}
  for i, finding in ipairs(result.findings) do
    list[i] = { file = finding.file.shown, line = finding.line, column = finding.column,
                length = finding.length, severity = finding.severity, rule = finding.rule,
                message = finding.message, help = finding.help, sql = finding.sql,
                sqlstate = finding.sqlstate }
  end
  return json.encode({ files = result.files, operations = result.operations,
                       statements = result.statements, findings = list }, { sorted = true })
end

return report
