-- moonpool.check.raised: the codes of the errors that the operations of a generation raise: those
-- of `errors`, and those that moonpool.fail is given in the operation's file, in what that file
-- requires and in the operations that it calls. The files' trees are read once for each generation.
local json     = require "moonpool.json"
local registry = require "moonpool.operation.registry"
local sorted   = require "moonpool.script.sorted"
local syntax   = require "moonpool.check.syntax"

local known -- the answer: the operations of a generation do not change

-- The texts that an expression may be; false among them: it may be another one.
local function add_texts(node, texts)
  if node.tag == "String" then
    texts[node[1]] = true
  elseif node.tag == "Paren" then
    add_texts(node[1], texts)
  elseif node.tag == "Op" and node[1] == "or" and node[2].tag == "Op" and node[2][1] == "and" then
    add_texts(node[2][3], texts)
    add_texts(node[3], texts)
  else
    texts[false] = true
  end
end

-- "fail" of `moonpool.fail`
local function member_of(node)
  return node.tag == "Index" and node[1].tag == "Id" and node[2].tag == "String" and node[2][1]
end

local function module_file(files, name)
  local stem = name:gsub("%.", "/")
  return files[stem .. ".lua"] and stem .. ".lua" or files[stem .. "/init.lua"]
    and stem .. "/init.lua"
end

-- What a file raises itself, and which files it goes on to.
local function read(files, name)
  local found = { codes = {}, on = {} }
  local file = syntax.read(registry.text(name), name)
  if not file then
    found.codes[false] = true
    return found
  end
  local called = {} -- fail as a value, and not called: its codes are not seen
  syntax.each(file.tree, function(node)
    if node.tag == "Call" then
      local callee, first = node[1], node[2]
      local member = member_of(callee)
      if member == "fail" and first then
        called[callee] = true
        add_texts(first, found.codes)
      elseif first and first.tag == "String" then
        local other = callee.tag == "Id" and callee[1] == "require" and module_file(files, first[1])
          or member == "call" and registry.operations[first[1]] and first[1] .. ".lua"
        if other then found.on[#found.on + 1] = other end
      end
    elseif member_of(node) == "fail" and not called[node] then
      found.codes[false] = true
    end
  end)
  return found
end

-- Adds what a file and those that it goes on to raise.
local function collect(graph, name, codes, seen)
  if seen[name] or not graph[name] then return end
  seen[name] = true
  for code in pairs(graph[name].codes) do codes[code] = true end
  local op = registry.operations[name:match "^(.*)%.lua$"]
  for _, entry in pairs(op and op.errors or {}) do codes[entry[1]] = true end
  for _, other in ipairs(graph[name].on) do collect(graph, other, codes, seen) end
end

local function of_all()
  local files, graph, told = {}, {}, json.object()
  for _, name in ipairs(registry.files()) do files[name] = true end
  for name in pairs(files) do graph[name] = read(files, name) end
  for name in pairs(registry.operations) do
    local codes = {}
    collect(graph, name .. ".lua", codes, {})
    local open = codes[false]
    codes[false] = nil
    told[name] = { codes = json.array(sorted(codes)), open = open or nil }
  end
  return told
end

--- -> JSON: for each operation { codes = [...], open = true if there are others that are not seen }
return function()
  known = known or json.encode(json.map(of_all()), { sorted = true })
  return known
end
