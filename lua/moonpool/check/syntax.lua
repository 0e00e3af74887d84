-- moonpool.check.syntax: a file of Lua as a tree, with luacheck's parser (Debian: lua-check), which
-- is built into the executable.
--
-- A node is a table { tag = "Call", line, offset, end_offset, … }; offsets are bytes of the file,
-- from 1. Tags and parts are those of luacheck's parser.
local syntax = {}

local found, parser = pcall(require, "luacheck.parser")
local decoder = found and require "luacheck.decoder"

--- Returns nil, or why no file can be read.
function syntax.missing()
  if found then return nil end
  return "this moonpool was built without luacheck's parser: install it (Debian: apt install \z
    lua-check) and build moonpool again"
end

---@class moonpool.check.file
---@field shown string            "scripts/place_order.lua"
---@field text string
---@field tree table              the body, an array of statements
---@field comments table[]        contents, line, offset, end_offset of each short comment
---@field code table<integer, true>   the lines that have code
---@field starts integer[]        the offset at which each line begins

--- Reads a file. Returns it; or nil, the offset of the fault and the parser's words.
---@return moonpool.check.file?, integer?, string?
function syntax.read(text, shown)
  -- Behind a byte that is no UTF-8 the decoder counts bytes, not characters.
  local ok, tree, comments, code = pcall(parser.parse, decoder.decode(text .. "\n--\xff"))
  if not ok then
    local fault = tree
    if type(fault) ~= "table" then error(fault, 0) end
    return nil, fault.offset, fault.msg
  end
  local starts = { 1 }
  for at in text:gmatch "\n()" do starts[#starts + 1] = at end
  return { shown = shown, text = text, tree = tree, comments = comments, code = code,
           starts = starts }
end

--- The line and the column (in characters, from 1) of an offset.
function syntax.place(file, offset)
  local low, high = 1, #file.starts
  while low < high do
    local middle = (low + high + 1) // 2
    if file.starts[middle] <= offset then low = middle else high = middle - 1 end
  end
  local before = file.text:sub(file.starts[low], offset - 1)
  return low, (utf8.len(before) or #before) + 1
end

--- The text of a line, without its end.
function syntax.line(file, number)
  local from = file.starts[number]
  return from and file.text:match("^[^\r\n]*", from)
end

-- The length in the file, and in the value, of the escape at `at` of a string's raw text.
local function escape_size(raw, at)
  local kind = raw:sub(at + 1, at + 1)
  if kind == "z" then return 2 + #raw:match("^%s*", at + 2), 0 end
  if kind:find "%d" then return 1 + #raw:match("^%d%d?%d?", at + 1), 1 end
  if kind == "x" then return 4, 1 end
  if kind == "u" then
    local digits = raw:match("^u{(%x+)}", at + 1)
    return digits and #digits + 4 or 2, digits and #utf8.char(tonumber(digits, 16)) or 1
  end
  return 2, 1
end

--- The offset in the file of byte `index` (from 1) of a String's value.
function syntax.string_offset(file, node, index)
  local raw = file.text:sub(node.offset, node.end_offset)
  local open = raw:match "^%[=*%[\r?\n?"
  if open then return node.offset + #open + index - 1 end
  local at, count = 2, 1
  while at <= #raw do
    local size, value = 1, 1
    if raw:byte(at) == 92 then size, value = escape_size(raw, at) end
    if value > 0 and count + value > index then break end
    at, count = at + size, count + value
  end
  return node.offset + at - 1
end

--- Calls visit(node) for each node below `node`, itself included, outer nodes first.
function syntax.each(node, visit)
  if node.tag then visit(node) end
  for _, part in ipairs(node) do
    if type(part) == "table" then syntax.each(part, visit) end
  end
end

return syntax
