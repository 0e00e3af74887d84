-- moonpool.migrate.scan: finds the quotes and comments of a text by PostgreSQL's lexical rules. The
-- built-in scanner cannot be used: it refuses the whole text if the text contains data of COPY, or
-- a number in the notation of newer servers.
local scan = {}

local IDENT = "[%w_$\128-\255]"

-- The functions below return the position of the last character of the quote or comment that begins
-- at `at`. Without an end mark, that is the end of the text.
local function quote_end(text, at, quote)
  repeat
    at = text:find(quote, at + 1, true)
    if not at then return #text end
    at = at + 1
  until text:sub(at, at) ~= quote
  return at - 1
end

-- E'…': a backslash escapes the next character, and a string that begins on a later line, with only
-- blanks and comments between, continues this one.
local function escape_end(text, at)
  while true do
    at = text:find("['\\]", at + 1)
    if not at then return #text end
    local doubled = text:sub(at, at + 1) == "''"
    if text:sub(at, at) == "\\" or doubled then
      at = at + 1
    else
      local gap = text:match("^%s*()", at + 1)
      while text:sub(gap, gap + 1) == "--" do gap = text:match("^[^\r\n]*%s*()", gap) end
      if text:sub(gap, gap) ~= "'" or not text:sub(at, gap):find "[\r\n]" then return at end
      at = gap
    end
  end
end

local function is_escaped(text, at)
  if at == 1 or not text:find("^[eE]", at - 1) then return false end
  return at == 2 or not text:find("^" .. IDENT, at - 2)
end

local function comment_end(text, at)
  local depth = 1
  at = at + 2
  while depth > 0 do
    at = text:find("[/*]", at)
    if not at then return #text end
    local two = text:sub(at, at + 1)
    if two == "/*" then depth = depth + 1 elseif two == "*/" then depth = depth - 1 end
    at = at + ((two == "/*" or two == "*/") and 2 or 1)
  end
  return at - 1
end

-- `$tag$ … $tag$`. If the `$` belongs to an identifier or a parameter, returns nil and the position
-- at which the scan goes on. An identifier around `at` cannot begin before `floor`.
local function dollar_end(text, at, floor)
  local first = at
  while first > floor and text:find("^" .. IDENT, first - 1) do first = first - 1 end
  if text:find("^[%a_\128-\255]", first) then return nil, text:match("^" .. IDENT .. "+()", at) end
  local tag = text:match("^%$[%a_\128-\255][%w_\128-\255]*%$", at) or text:match("^%$%$", at)
  if not tag then return nil, text:match("^%$%d*()", at) end
  local _, last = text:find(tag, at + #tag, true)
  return last or #text
end

--- for kind, from, to in scan.pieces(text): `kind` is "quote" or "comment", with the marks included
--- in from..to; or ";" or "\\" outside of both.
function scan.pieces(text)
  local at, floor = 1, 1
  return function()
    while true do
      at = text:find("[;\\'\"$/-]", at)
      if not at then return nil end
      local from, mark, two = at, text:sub(at, at), text:sub(at, at + 1)
      local kind, to = "quote", nil
      if mark == ";" or mark == "\\" then
        kind, to = mark, at
      elseif mark == '"' then
        to = quote_end(text, at, mark)
      elseif mark == "'" then
        to = is_escaped(text, at) and escape_end(text, at) or quote_end(text, at, mark)
      elseif mark == "$" then
        to, at = dollar_end(text, at, floor)
        floor = at or to + 1
      elseif two == "--" then
        kind, to = "comment", text:match("^[^\r\n]*()", at) - 1
      elseif two == "/*" then
        kind, to = "comment", comment_end(text, at)
      else
        at = at + 1
      end
      if to then
        at = to + 1
        return kind, from, to
      end
    end
  end
end

return scan
