-- moonpool.check.statements: judges the SQL texts that a script gives to tx and db: the server
-- describes each, and its words are brought to the place in the script.
local access     = require "moonpool.check.access"
local inserts    = require "moonpool.check.inserts"
local lints      = require "moonpool.check.lints"
local nearest    = require "moonpool.is.nearest"
local nullable   = require "moonpool.check.nullable"
local parameters = require "moonpool.check.parameters"
local syntax     = require "moonpool.check.syntax"
local values     = require "moonpool.check.values"

local statements = {}

-- -- places ---------------------------------------------------------------------------------------

-- The byte of the script's text that character `position` of the text as sent comes from: $name
-- has become $1.
local function byte_in_script(text, sent, position)
  local target = utf8.offset(sent, position) or position
  local from, at = 1, 1
  while at < target and from <= #text do
    if text:byte(from) == 36 and text:find("^[%a_\x80-\xff]", from + 1)
      and sent:find("^%$%d", at) then
      from, at = text:match("^%$[%w_\x80-\xff]+()", from), sent:match("^%$%d+()", at)
    else
      from, at = from + 1, at + 1
    end
  end
  return from
end

-- The file and the offsets of a word of the text; nil if a value made that part.
local function place_in_script(text, byte)
  for _, piece in ipairs(text.pieces) do
    if byte <= #piece.s then
      if not piece.node then return nil end
      local word = piece.s:match("^[%w_.]+", byte) or piece.s:match('^"[^"]*"', byte) or "."
      local from = syntax.string_offset(piece.file, piece.node, piece.at + byte - 1)
      return piece.file, from, from + #word - 1
    end
    byte = byte - #piece.s
  end
end

-- -- what the server says -------------------------------------------------------------------------

local advice = {}

-- The names of a column and its table in the server's message.
local function names_in(message)
  local alias, column = message:match '^column ([%w_]+)%.([%w_]+) does not exist'
  return column or message:match '^column "([^"]+)"', alias
end

-- The tables that a text names.
local function tables_of(self, sql)
  local found = {}
  for name in sql:lower():gmatch "[%a_][%w_.]*" do
    local known = self.project.catalog.tables[name]
    if known then found[known] = true end
  end
  return found
end

advice["42703"] = function(self, fault, sql)
  local name = names_in(fault.message)
  local known, shown = {}, {}
  for each in pairs(tables_of(self, sql)) do
    shown[#shown + 1] = each.name
    for column in pairs(each.columns) do known[column] = true end
  end
  if not name or not next(known) then return nil end
  table.sort(shown)
  return access.advice(name, known, table.concat(shown, " and ") .. " have: ")
end

advice["42P01"] = function(self, fault)
  local name = fault.message:match 'relation "([^"]+)"'
  if not name then return nil end
  local _, near = self.project.catalog:table(name)
  return (near and ("did you mean `%s`? "):format(near) or "")
    .. "the database has no such table: is its migration in migrations/?"
end

advice["42501"] = function(self, fault)
  local what = fault.message:match "permission denied for ([%w ]+)" or "it"
  local role = self.project.catalog.role
  return ("the application's role %s may not do this; in a migration: grant … on %s to %s")
    :format(role, what:gsub("^table ", ""), role)
end

advice["42883"] = function()
  return "the types do not match, or there is no such function; cast a value as in $id::uuid"
end

advice["42P18"] = function() return "say which type the parameter has, as in $id::uuid" end

-- Reports what the server says of the text, at its place.
local function report_fault(self, call, at, text, fault)
  local sql = values.plain(text)
  local sent, position = fault.query or sql, tonumber(fault.position)
  local message = inserts.message(fault)
  local help = advice[fault.sqlstate] and advice[fault.sqlstate](self, fault, sql) or fault.hint
  local file, from, to
  if position and not sent:find "^explain " then
    file, from, to = place_in_script(text, byte_in_script(sql, sent, position))
  end
  self:add { severity = "error", rule = "sql", file = file,
    node = not file and (call.node[at + 1] or call.node) or nil, offset = from, end_offset = to,
    message = message, help = help, sql = sql, sqlstate = fault.sqlstate }
end

-- Texts of several branches are put together as they may never be in a run, so that a fault may be
-- an artifact. It is none if it names what the database does not have at all.
local function certain(self, fault)
  if fault.sqlstate == "42703" then
    local name = names_in(fault.message)
    return name ~= nil and not self.project.catalog.column_names[name]
  end
  if fault.sqlstate == "42P01" then return fault.message:find "^relation" ~= nil end
  return fault.sqlstate ~= "42601" and fault.sqlstate ~= nil
end

-- -- one text -------------------------------------------------------------------------------------

-- A hole of the text is reported. -> true if there was one
local function report_hole(self, call, text)
  for _, piece in ipairs(text.pieces) do
    if piece.hole == "value" then
      self:add { severity = "error", rule = "sql-value", file = piece.file,
        node = piece.node, message = ("the SQL text is made with a value: %s"):format(piece.what),
        help = "whoever chooses the value chooses the SQL: write $name, and pass the value by \z
          that name" }
      return true
    end
  end
  for _, piece in ipairs(text.pieces) do
    if piece.hole then
      self:report("note", "sql-unseen", call.node, "this SQL text cannot be seen without running it"
        .. (piece.what and ": " .. piece.what or ""),
        "say why it is right: -- check: …")
      return true
    end
  end
  return false
end

local writes = { InsertStmt = "INSERT", UpdateStmt = "UPDATE", DeleteStmt = "DELETE",
                 MergeStmt = "MERGE" }

local locks = { "update", "no key update", "share", "key share" }

-- "SELECT … FOR UPDATE" if the text locks rows.
local function lock_of(sql)
  local words = sql:lower():gsub("%s+", " ")
  for _, lock in ipairs(locks) do
    if words:find("%f[%w]for " .. lock .. "%f[%W]") then return "SELECT … FOR " .. lock:upper() end
  end
end

local function check_rules(self, info, call, at, tx)
  local node = call.node[at + 1] or call.node
  if tx and info.refused then
    self:report("error", "refused", node, "this statement " .. info.refused)
  end
  local what = writes[info.kind] or lock_of(info.sql)
  if tx and tx.read_only and what then
    self:report("error", "read-only", node,
      ("%s fails here: the transaction is read_only"):format(what),
      "remove `read_only`, or do this in an operation without it")
  end
end

-- Columns are read by their names, so that one would hide the other.
local function check_names(self, info, call, at)
  local seen = {}
  for i, column in ipairs(info.columns) do
    local first = seen[column.name or ""]
    if first then
      self:report("error", "sql", call.node[at + 1] or call.node,
        ("columns %d and %d of the result are both named `%s`"):format(first, i, column.name),
        "give each a name of its own, with `as`")
      return
    end
    seen[column.name or ""] = i
  end
end

local function row_of(self, info)
  local columns = {}
  for _, column in ipairs(info.columns) do
    columns[column.name or ""] = { type = column.type,
      nullable = nullable.reason(self.project.catalog, info, column) }
  end
  return { kind = "row", columns = columns, list = info.columns }
end

-- Describes the texts. -> what is known of each that the server takes
local function describe(self, call, at, texts)
  local good, faults = {}, {}
  for _, text in ipairs(texts) do
    local info, fault = self.project.catalog:describe((values.plain(text)))
    if info then
      good[#good + 1] = info
      info.text = (values.plain(text))
    else
      faults[#faults + 1] = { text = text, fault = fault }
    end
  end
  for i, wrong in ipairs(faults) do
    if not good[1] and i == 1 or certain(self, wrong.fault) or not texts[2] then
      report_fault(self, call, at, wrong.text, wrong.fault)
    end
  end
  return good
end

-- -- a call ---------------------------------------------------------------------------------------

local shapes = {
  one   = function(row) return row end,
  first = function(row)
    row.perhaps = true
    return values.union(row, values.none)
  end,
  query = function(row) return { kind = "rows", row = row } end,
  count = function() return { kind = "number" } end,
  exec  = function() return values.none end,
  value = function(row)
    local first = row.list and row.list[1]
    return values.union({ kind = "column", type = first and first.type or 0, path = "the value" },
                        values.none)
  end,
}

-- The texts among the values of the argument; reports those that are none.
local function texts_of(self, call, at)
  local texts, value = {}, call.arguments[at]
  local node = call.node[at + 1] or call.node
  for _, member in ipairs(values.members(value or values.none)) do
    if member.kind == "text" then
      if not report_hole(self, call, member) then texts[#texts + 1] = member end
    elseif member.kind == "data" or member.kind == "column" then
      report_hole(self, call, { pieces = { { hole = "value", what = member.path, file = self.file,
                                             node = node } } })
    elseif member.kind == "none" and not value and not call.arguments.open then
      self:report("error", "sql", node, "the SQL text is missing")
    elseif member.kind ~= "none" then
      report_hole(self, call, { pieces = { { hole = "unknown" } } })
    end
  end
  return texts
end

-- "Order not found: $order_id": names that the statement does not have stay as they are.
local function check_message(self, call, at, infos)
  local message = call.arguments[at]
  if not (message and message.kind == "text" and infos[1]) then return end
  local known = {}
  for _, info in ipairs(infos) do
    for _, parameter in ipairs(info.parameters) do known[parameter.name or ""] = true end
  end
  for name in values.plain(message):gmatch "%$([%a_][%w_]*)" do
    if not known[name] then
      local near = nearest(name, known)
      self:report("warning", "message", call.node[at + 1] or call.node,
        ("the message names `$%s`, which is no parameter of the statement"):format(name),
        near and ("did you mean `$%s`?"):format(near) or "callers would see it literally")
    end
  end
end

--- Judges a call of tx or db. `at`: the argument that is the text. -> what the call gives
function statements.judge(self, call, method, tx, at)
  if method == "insert" then return inserts.judge(self, call, tx, at) end
  local infos = describe(self, call, at, texts_of(self, call, at))
  local rows = {}
  for i, info in ipairs(infos) do
    check_rules(self, info, call, at, tx)
    lints.judge(self, info, info.text, call.node[at + 1] or call.node, method)
    if method ~= "exec" and method ~= "count" then check_names(self, info, call, at) end
    parameters.check(self, info, call, at + 1, method)
    self.project:statement(self, info, call, at, tx)
    rows[i] = shapes[method](row_of(self, info))
  end
  if method == "one" then check_message(self, call, at + 2, infos) end
  if not rows[1] then return shapes[method] { kind = "row" } end
  return values.union(table.unpack(rows))
end

return statements
