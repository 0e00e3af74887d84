-- moonpool.check.values: what is known of a value that a script computes, without running it.
--
-- A value is a table with a `kind`:
--   unknown, none (nil), number, boolean
--   text      pieces: a list of { s =, file =, node =, at = } (bytes `at`… of a String) and holes
--             { hole = "value" | "unknown", what =, file =, node = }
--   union     list: one of several values; never nested
--   table     fields: name -> cell, items: list of cells, open: it may have more
--   func      node, file, scope
--   module    name: of the host; member: a function or value in it (module =, name =)
--   tx        a transaction; conn: a database or a connection of it
--   data      part of the input: schema (a definition, or nil), path
--   row       columns: name -> { type =, nullable = }, or nil if not known; rows: row; column: type
--   operation table: what moonpool.operation was given
--
-- A cell is { value = … }: a variable, or a field of a table.
local values = {}

local MOST = 64 -- values of a union; with more, the value counts as not seen

values.unknown = { kind = "unknown" }
values.none    = { kind = "none" }
values.boolean = { kind = "boolean" }

function values.text(s, file, node)
  return { kind = "text", pieces = { { s = s, file = file, node = node, at = 1 } } }
end

--- The text with the holes left out, and whether it has none.
function values.plain(text)
  local parts, whole = {}, true
  for i, piece in ipairs(text.pieces) do
    parts[i] = piece.s or "\0"
    whole = whole and piece.s ~= nil
  end
  return table.concat(parts), whole
end

-- What makes two values one; nil: only the value itself.
local function key_of(value)
  if value.kind == "text" then return "text " .. (values.plain(value)) end
  if value.kind == "number" then return "number " .. tostring(value.n) end
  if value.kind == "column" then return "column " .. value.type .. " " .. tostring(value.path) end
  if value.kind == "data" and not value.schema then return "data " .. tostring(value.path) end
  if value.kind == "unknown" or value.kind == "none" or value.kind == "boolean" then
    return value.kind
  end
end

--- The members of a value: itself, or those of a union.
function values.members(value)
  return value.kind == "union" and value.list or { value }
end

--- One of the given values.
function values.union(...)
  local list, seen = {}, {}
  for i = 1, select("#", ...) do
    for _, member in ipairs(values.members((select(i, ...)) or values.none)) do
      local key = key_of(member) or member
      if not seen[key] then
        seen[key] = true
        list[#list + 1] = member
      end
    end
  end
  if #list == 0 then return values.none end
  if #list == 1 then return list[1] end
  if #list > MOST then return values.unknown end
  return { kind = "union", list = list }
end

--- The value where it is not nil; values.none if it always is.
function values.present(value)
  if value.kind ~= "union" then return value end
  local list = {}
  for _, member in ipairs(value.list) do
    if member.kind ~= "none" then list[#list + 1] = member end
  end
  return values.union(table.unpack(list))
end

function values.may_be_nil(value)
  for _, member in ipairs(values.members(value)) do
    if member.kind == "none" then return true end
  end
  return false
end

--- A text that is not seen.
function values.hole(file, node, what)
  return { kind = "text", pieces = { { hole = "unknown", what = what, file = file, node = node } } }
end

-- The names of an enumeration as texts; nil for anything else.
local function enumerated(value)
  local schema = value.kind == "data" and value.schema
  if not (schema and schema.kind == "enum") then return nil end
  local list = {}
  for i, name in ipairs(schema.names) do list[i] = values.text(name) end
  return list
end

-- A value as a part of a text.
local function as_texts(value, file, node)
  local list = {}
  for _, member in ipairs(values.members(value)) do
    if member.kind == "text" then
      list[#list + 1] = member
    elseif member.kind == "number" and member.n then
      list[#list + 1] = values.text(tostring(member.n), file, node)
    elseif enumerated(member) then
      table.move(enumerated(member), 1, #member.schema.names, #list + 1, list)
    elseif member.kind ~= "none" then
      local seen = member.kind == "data" or member.kind == "column"
      list[#list + 1] = { kind = "text", pieces = { { hole = seen and "value" or "unknown",
        what = member.path, file = file, node = node } } }
    end
  end
  return list[1] and list or { values.hole(file, node) }
end

--- The texts that the parts make one behind another. A part is { value, file, node }.
function values.concat(parts)
  local made = { {} }
  for _, part in ipairs(parts) do
    local next_made = {}
    for _, text in ipairs(as_texts(part[1], part[2], part[3])) do
      for _, before in ipairs(made) do
        local pieces = table.move(before, 1, #before, 1, {})
        table.move(text.pieces, 1, #text.pieces, #pieces + 1, pieces)
        next_made[#next_made + 1] = pieces
      end
    end
    if #next_made > MOST then
      return values.hole(part[2], part[3], "more than " .. MOST .. " texts")
    end
    made = next_made
  end
  for i, pieces in ipairs(made) do made[i] = { kind = "text", pieces = pieces } end
  return values.union(table.unpack(made))
end

-- Pieces `from` … `to` (bytes) of one piece.
local function cut(piece, from, to)
  return { s = piece.s:sub(from, to), file = piece.file, node = piece.node,
           at = piece.at + from - 1 }
end

-- "%03d" of a number that is known.
local function formatted(spec, value)
  local known = value.kind == "number" and value.n
  if value.kind == "text" then
    local s, whole = values.plain(value)
    known = whole and s
  end
  local ok, s = pcall(string.format, spec, known or nil)
  if known and ok then return values.text(s) end
  return value.kind ~= "text" and value.kind ~= "number" and value or values.unknown
end

--- string.format: parts of the format's own text keep their places.
function values.format(format, arguments, file, node)
  if #format.pieces ~= 1 or not format.pieces[1].s then return values.hole(file, node) end
  local piece, parts, at, used = format.pieces[1], {}, 1, 0
  while true do
    local from, to, kind = piece.s:find("%%[-+ #0]*%d*%.?%d*([%a%%])", at)
    parts[#parts + 1] = { { kind = "text", pieces = { cut(piece, at, (from or 0) - 1) } } }
    if not from then break end
    if kind == "%" then
      parts[#parts + 1] = { { kind = "text", pieces = { cut(piece, to, to) } } }
    else
      used = used + 1
      local value = arguments[used] or values.unknown
      local spec = piece.s:sub(from, to)
      parts[#parts + 1] = { spec == "%s" and value or formatted(spec, value), file, node }
    end
    at = to + 1
  end
  return values.concat(parts)
end

function values.cell(value) return { value = value or values.none } end

function values.table(fields, items, open)
  local made = { kind = "table", fields = {}, items = {}, open = open or false }
  for name, value in pairs(fields or {}) do made.fields[name] = values.cell(value) end
  for i, value in ipairs(items or {}) do made.items[i] = values.cell(value) end
  return made
end

return values
