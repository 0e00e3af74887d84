-- moonpool.check.findings: what a check has found, each once, in the order of the files. A comment
-- `-- check: why it is right` on the line, on the first line of its statement or above either takes
-- it back.
local syntax = require "moonpool.check.syntax"

---@class moonpool.check.finding
---@field severity "error"|"warning"|"note"
---@field rule string          "sql", "row-field", …
---@field message string
---@field help? string         what to do
---@field file moonpool.check.file
---@field line integer
---@field column integer
---@field length integer       characters that are meant
---@field sql? string
---@field sqlstate? string

local findings = {}
local Findings = {}
Findings.__index = Findings

function findings.new() return setmetatable({ list = {}, seen = {}, notes_off = {} }, Findings) end

-- The lines of a file whose code a comment speaks for.
local function excused_lines(file)
  if file.excused then return file.excused end
  local comment_at, excused = {}, {}
  for _, comment in ipairs(file.comments or {}) do
    comment_at[comment.line] = true
    if comment.contents:find "^%s*check:%s*%S" then excused[comment.line] = true end
  end
  for line in pairs(excused) do
    local below = line
    while comment_at[below] and not file.code[below] do below = below + 1 end
    excused[below] = true
  end
  file.excused = excused
  return excused
end

local function place(finding)
  local node = finding.node
  local from = finding.offset or node and node.offset or 1
  local to = finding.end_offset or node and node.end_offset or from
  finding.line, finding.column = syntax.place(finding.file, from)
  local shown = finding.file.text:sub(from, to):match "^[^\r\n]*"
  finding.length = math.max(1, utf8.len(shown) or #shown)
end

--- Adds a finding: severity, rule, message, help, file, and node or offset and end_offset.
--- `statement`: the node of the statement that it belongs to.
function Findings:add(finding)
  place(finding)
  local excused = excused_lines(finding.file)
  local statement = finding.statement
  if excused[finding.line] or statement and excused[statement.line] then return end
  local key = ("%s %d %d %s %s"):format(finding.file.shown, finding.line, finding.column,
                                        finding.rule, finding.message)
  if self.seen[key] then return end
  self.seen[key] = true
  self.list[#self.list + 1] = finding
end

--- The findings, sorted; `wanted(shown)` tells whether a file's are.
function Findings:sorted(wanted)
  local list = {}
  for _, finding in ipairs(self.list) do
    if not wanted or wanted(finding.file.shown) then list[#list + 1] = finding end
  end
  table.sort(list, function(a, b)
    if a.file.shown ~= b.file.shown then return a.file.shown < b.file.shown end
    if a.line ~= b.line then return a.line < b.line end
    if a.column ~= b.column then return a.column < b.column end
    if a.rule ~= b.rule then return a.rule < b.rule end
    return a.message < b.message
  end)
  return list
end

return findings
