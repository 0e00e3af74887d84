-- The source tree as data, for the specs of this folder: files, lines, includes, functions. Reads
-- files only; works in the host and under plain busted.
local lfs = require "lfs"

local tree = { root = os.getenv "MOONPOOL_APP" or "." }

local texts = {}

function tree.text(path)
  if not texts[path] then
    local file = assert(io.open(tree.root .. "/" .. path, "rb"))
    texts[path] = file:read "*a"
    file:close()
  end
  return texts[path]
end

function tree.split(text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n?" do lines[#lines + 1] = line end
  if lines[#lines] == "" then lines[#lines] = nil end
  return lines
end

function tree.lines(path) return tree.split(tree.text(path)) end

local function collect(folder, found)
  if lfs.attributes(tree.root .. "/" .. folder, "mode") ~= "directory" then return end
  for entry in lfs.dir(tree.root .. "/" .. folder) do
    local path = folder .. "/" .. entry
    if entry ~= "." and entry ~= ".." then
      local mode = lfs.attributes(tree.root .. "/" .. path, "mode")
      if mode == "directory" then
        collect(path, found)
      elseif mode == "file" then
        found[#found + 1] = path
      end
    end
  end
end

-- The files below `folders` whose names end as `suffixes` say, as sorted paths from the root. A
-- folder that is missing has no files.
function tree.files(folders, suffixes)
  local all, kept = {}, {}
  for _, folder in ipairs(folders) do collect(folder, all) end
  for _, path in ipairs(all) do
    for _, suffix in ipairs(suffixes) do
      if path:sub(-#suffix) == suffix then kept[#kept + 1] = path end
    end
  end
  table.sort(kept)
  return kept
end

function tree.words(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

-- What an #include line of C names, with its quotes or brackets, or nil.
function tree.included(line) return line:match '^%s*#%s*include%s*([<"][^>"]+[>"])' end

-- C without its comments, strings and characters: each becomes spaces, so that lines keep their
-- numbers.
function tree.bare_c(text)
  local out, at = {}, 1
  local function blank(first, last)
    out[#out + 1] = (text:sub(first, last):gsub("[^\n]", " "))
  end
  while at <= #text do
    local first = text:find("[/\"']", at)
    if not first then break end
    out[#out + 1] = text:sub(at, first - 1)
    local two = text:sub(first, first + 1)
    if two == "//" then
      at = text:find("\n", first, true) or #text + 1
      blank(first, at - 1)
    elseif two == "/*" then
      local _, last = text:find("*/", first + 2, true)
      at = (last or #text) + 1
      blank(first, at - 1)
    elseif two:sub(1, 1) == "/" then
      out[#out + 1] = "/"
      at = first + 1
    else
      local quote, last = text:sub(first, first), first + 1
      while last <= #text and text:sub(last, last) ~= quote do
        last = last + (text:sub(last, last) == "\\" and 2 or 1)
      end
      out[#out + 1] = quote
      blank(first + 1, last - 1)
      out[#out + 1] = quote
      at = last + 1
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

-- The functions that a C text defines, as name, first and last line. clang-format has put the name
-- of each at the left margin and its end alone at the margin, or all of it on one line.
function tree.c_functions(text)
  local found, head, first = {}, nil, nil
  for number, line in ipairs(tree.split(tree.bare_c(text))) do
    if head and line:find "^}" then
      local name = head:match "([%w_]+)%s*%("
      found[#found + 1] = { name = name, first = first, last = number }
      head = nil
    elseif not head and line:find "^[%a_]" then
      head, first = "", number
    end
    if head then
      local before = head
      head = before:find "{" and before or before .. line .. " "
      if not before:find "{" then
        if head:find ";%s*$" and not head:find "{" then
          head = nil -- a declaration
        elseif head:find "{" and (head:find "^[^{]*=" or not head:find "^[^{]*%(") then
          head = nil -- data or a type
        elseif line:find "}%s*$" and select(2, line:gsub("{", "")) == select(2,
          line:gsub("}", "")) then
          found[#found + 1] = { name = head:match "([%w_]+)%s*%(", first = first, last = number }
          head = nil
        end
      end
    end
  end
  return found
end

-- Lua without its comments and strings; lines keep their numbers.
function tree.bare_lua(text)
  local out, at = {}, 1
  while at <= #text do
    local first = text:find("[%-%[\"']", at)
    if not first then break end
    out[#out + 1] = text:sub(at, first - 1)
    local long = text:match("^%-%-%[(=*)%[", first)
    local last
    if long then
      last = select(2, text:find("]" .. long .. "]", first, true)) or #text
    elseif text:sub(first, first + 1) == "--" then
      last = (text:find("\n", first, true) or #text + 1) - 1
    elseif text:find("^%[=*%[", first) then
      last = select(2, text:find("]" .. text:match("^%[(=*)%[", first) .. "]", first, true))
        or #text
    elseif text:find("^[\"']", first) then
      local quote = text:sub(first, first)
      last = first + 1
      while last <= #text and text:sub(last, last) ~= quote do
        last = last + (text:sub(last, last) == "\\" and 2 or 1)
      end
    end
    if last then
      out[#out + 1] = (text:sub(first, last):gsub("[^\n]", " "))
      at = last + 1
    else
      out[#out + 1] = text:sub(first, first)
      at = first + 1
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

local opens = tree.words "function do if repeat"

-- The functions of a Lua text, as name ("?" if it has none), the line that begins it, first and
-- last line; in the order of their ends.
function tree.lua_functions(text)
  local found, open = {}, {}
  local source = tree.split(text)
  for number, line in ipairs(tree.split(tree.bare_lua(text))) do
    for at, word in line:gmatch "()%f[%w_]([%a_][%w_]*)" do
      if opens[word] then
        local name = line:match("^function%s+([%w_.:]+)", at)
          or line:sub(1, at - 1):match "([%w_.]+)%s*=%s*$"
        open[#open + 1] = { word = word, name = name or "?", head = source[number], first = number }
      elseif word == "end" or word == "until" then
        local block = table.remove(open)
        if block and block.word == "function" then
          block.last = number
          found[#found + 1] = block
        end
      end
    end
  end
  return found
end

-- Fails with all problems at once.
function tree.report(problems)
  table.sort(problems)
  if #problems > 0 then
    error(#problems .. " found:\n  " .. table.concat(problems, "\n  "), 0)
  end
end

-- A list that only shrinks. `found` is what breaks a rule now: key = what to say. `known` are the
-- keys that broke it when the rule was made. Fails on a new one, and on an entry of the list that
-- is mended.
function tree.ratchet(found, known)
  local problems = {}
  for key, words in pairs(found) do
    if not known[key] then problems[#problems + 1] = words end
  end
  for key in pairs(known) do
    if not found[key] then
      problems[#problems + 1] = key .. " breaks the rule no more: delete it from this spec's list"
    end
  end
  tree.report(problems)
end

-- The circles of a graph (node = set of nodes): its strongly connected parts of more than one node,
-- each as its sorted names with spaces between.
function tree.circles(graph)
  local index, low, stack, on_stack, count, found = {}, {}, {}, {}, 0, {}
  local function visit(node)
    count = count + 1
    index[node], low[node] = count, count
    stack[#stack + 1] = node
    on_stack[node] = true
    for other in pairs(graph[node] or {}) do
      if not index[other] then
        visit(other)
        low[node] = math.min(low[node], low[other])
      elseif on_stack[other] then
        low[node] = math.min(low[node], index[other])
      end
    end
    if low[node] == index[node] then
      local part = {}
      repeat
        local last = table.remove(stack)
        on_stack[last] = nil
        part[#part + 1] = last
      until last == node
      table.sort(part)
      if #part > 1 then found[#found + 1] = table.concat(part, " ") end
    end
  end
  for node in pairs(graph) do
    if not index[node] then visit(node) end
  end
  return found
end

return tree
