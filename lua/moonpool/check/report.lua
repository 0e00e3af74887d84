-- moonpool.check.report: findings for people (as compilers show them) and for programs (JSON).
local host   = require "moonpool.host"
local json   = require "moonpool.json"
local syntax = require "moonpool.check.syntax"

local report = {}

local colours = { error = "1;31", warning = "1;33", note = "1;36", help = "1", mark = "1;32" }

local function painter(colour)
  return function(kind, text)
    return colour and ("\27[%sm%s\27[0m"):format(colours[kind], text) or text
  end
end

local LONG_LINE, BEFORE, SHOWN = 400, 60, 160 -- characters

-- The line and the column in it; of a long line the part around the column.
local function part_of(line, column)
  local count = utf8.len(line)
  if not count or count <= LONG_LINE then return line, column end
  local first = math.max(1, column - BEFORE)
  local last = math.min(count, first + SHOWN)
  local text = line:sub(utf8.offset(line, first), utf8.offset(line, last + 1) - 1)
  local cut = first > 1 and "…" or ""
  return cut .. text .. (last < count and "…" or ""), column - first + 1 + #cut // 3
end

-- The text of the line, with a caret below. Tabs stay tabs, so that the caret stands right.
local function excerpt(finding, paint)
  local line = syntax.line(finding.file, finding.line)
  if not line or line == "" then return "" end
  local column
  line, column = part_of(line, finding.column)
  local number = tostring(finding.line)
  local before = line:sub(1, (utf8.offset(line, column) or column) - 1)
  local room = before:gsub("[^\t]", " ")
  if not before:find "\t" then room = (" "):rep(column - 1) end
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

local MOST_LINES = 20

--- The faults as single lines for a log, the first ones only.
function report.lines(result)
  local lines, more = {}, 0
  for _, finding in ipairs(result.findings) do
    if finding.severity ~= "note" and #lines < MOST_LINES then
      lines[#lines + 1] = ("%s:%d:%d: %s%s [%s]"):format(finding.file.shown, finding.line,
        finding.column, finding.message, finding.help and "; " .. finding.help or "", finding.rule)
    elseif finding.severity ~= "note" then
      more = more + 1
    end
  end
  if more > 0 then lines[#lines + 1] = ("and %d more: run moonpool check"):format(more) end
  return lines
end

-- One finding in SARIF's words. Columns count from 1, in Unicode's code points.
local function sarif_result(finding)
  local text = finding.message .. (finding.help and "\n" .. finding.help or "")
  return {
    ruleId = finding.rule, level = finding.severity, message = { text = text },
    locations = json.array { {
      physicalLocation = {
        artifactLocation = { uri = finding.file.shown, uriBaseId = "PROJECT" },
        region = { startLine = finding.line, startColumn = finding.column,
                   endColumn = finding.column + finding.length },
      },
    } },
  }
end

--- The result as SARIF 2.1.0, which GitHub and others show beside the lines.
function report.sarif(result)
  local results, rules, known = json.array {}, json.array {}, {}
  for i, finding in ipairs(result.findings) do
    results[i] = sarif_result(finding)
    if not known[finding.rule] then
      known[finding.rule] = true
      rules[#rules + 1] = { id = finding.rule }
    end
  end
  return json.encode({
    ["$schema"] = "https://json.schemastore.org/sarif-2.1.0.json", version = "2.1.0",
    runs = json.array { {
      tool = { driver = { name = "moonpool check", version = host.version, rules = rules } },
      columnKind = "unicodeCodePoints", results = results,
    } },
  }, { sorted = true })
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
