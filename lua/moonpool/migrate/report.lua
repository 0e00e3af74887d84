-- moonpool.migrate.report: writes the message for a failed statement: file:line, SQLSTATE, the
-- source line with a caret, and what to do.
local report = {}

-- Advice by SQLSTATE, in addition to the server's message.
local advice = {
  ["55P03"] =
    "other sessions use the table; run migrate again when it is less busy, or with a longer \z
      --lock-timeout",
  ["40P01"] = "it and another session waited for each other; run migrate again",
  ["42501"] =
    "migrations run as the owner: MOONPOOL_OWNER_URL must name the role that owns the table",
  ["25001"] =
    "this statement cannot run in a transaction and was not recognised: put it into a file of \z
      its own",
}

-- Returns the line `number` (from 1) of a text.
local function line_of(text, number)
  local at = 1
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    if at == number then return line end
    at = at + 1
  end
  return ""
end

-- Returns the line and the column, both from 1, of the character `position`.
local function place(text, position)
  local byte = utf8.len(text) and utf8.offset(text, position) or position
  local before = text:sub(1, byte - 1)
  local _, newlines = before:gsub("\n", "")
  local column = before:match "[^\n]*$"
  return newlines + 1, (utf8.len(column) or #column) + 1
end

-- Returns "  12 | create tabel pears" with a caret below. Of a long line only the part around the
-- column is shown.
local function excerpt(number, text, column)
  local margin = string.format("%6d | ", number)
  text = text:gsub("\t", " ")
  if not utf8.len(text) then column = math.min(column, #text + 1) end
  local function cut(from, to)
    if not utf8.len(text) then return text:sub(from, to) end
    return text:sub(utf8.offset(text, from) or #text + 1,
                    (utf8.offset(text, to + 1) or #text + 1) - 1)
  end
  local from = math.max(1, column - 70)
  local shown = cut(from, math.min(utf8.len(text) or #text, from + 99))
  return margin .. shown .. "\n" .. (" "):rep(#margin - 2) .. "| " .. (" "):rep(column - from)
    .. "^"
end

--- For a text that PostgreSQL's parser refuses. `failure` is the error that moonpool.sql raised.
function report.syntax(path, first_line, text, failure)
  local lines = { string.format("%s:%d: %s", path, first_line + failure.sql_line - 1,
                                failure.sql_message) }
  if failure.sql_position > 0 then
    local line, column = place(text, failure.sql_position)
    lines[#lines + 1] = excerpt(first_line + line - 1, line_of(text, line), column)
  end
  lines[#lines + 1] = "nothing of this file was applied; correct it and run migrate again"
  return table.concat(lines, "\n")
end

--- For a failure that no statement of the file caused.
---@param failure moonpool.error
function report.other(path, failure)
  return string.format("%s: %s%s", path, failure.message,
                       failure.sqlstate and "\n  SQLSTATE  " .. failure.sqlstate or "")
end

--- For a statement that failed on the server.
---@param statement moonpool.migrate.statement
---@param failure moonpool.error
function report.statement(statement, failure)
  local position = tonumber(failure.position)
  local line, column = 1, nil
  if position and position > 0 then line, column = place(statement.sql, position) end
  local lines = { string.format("%s:%d: %s", statement.path, statement.line + line - 1,
                                failure.message or tostring(failure)) }
  local function add(label, text)
    if text then lines[#lines + 1] = string.format("  %-10s%s", label, text) end
  end
  add("SQLSTATE", failure.sqlstate)
  add("detail", failure.detail)
  add("hint", failure.hint)
  if column then
    lines[#lines + 1] = excerpt(statement.line + line - 1, line_of(statement.sql, line), column)
  else
    add("statement", line_of(statement.sql, 1))
  end
  add("advice", advice[failure.sqlstate])
  return table.concat(lines, "\n")
end

return report
