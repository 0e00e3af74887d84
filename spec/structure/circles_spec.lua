-- Includes and requires go one way only: no two files know each other. A .c file and its header are
-- one unit, and so is the private header of a room (call.c, call.h, call_priv.h).
local root = os.getenv "MOONPOOL_APP" or "."
local tree = dofile(root .. "/spec/structure/tree.lua")

-- Circles that were there when this spec was written. This list only shrinks.
local known_c = {
  ["script/require script/vm"] = true,
}
local known_lua = {}

local function unit(path)
  return (path:gsub("%.[ch]$", ""):gsub("_priv$", ""):gsub("_internal$", ""))
end

local function module_of(path)
  return (path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/", "."))
end

local function c_graph()
  local graph = {}
  for _, path in ipairs(tree.files({ "src" }, { ".c", ".h" })) do
    local from = unit(path:sub(#"src/" + 1))
    graph[from] = graph[from] or {}
    for _, line in ipairs(tree.lines(path)) do
      local header = (tree.included(line) or ""):match '^"(.*)"$'
      if header and unit(header) ~= from then graph[from][unit(header)] = true end
    end
  end
  return graph
end

-- A require inside of a function counts too: it hides a circle, it does not end it.
local function lua_graph()
  local graph = {}
  for _, path in ipairs(tree.files({ "lua" }, { ".lua" })) do
    graph[module_of(path)] = {}
  end
  for _, path in ipairs(tree.files({ "lua" }, { ".lua" })) do
    local from = module_of(path)
    for _, line in ipairs(tree.lines(path)) do
      local code = line:gsub("%-%-.*", "")
      for name in code:gmatch "%f[%w_]require%s*%(?%s*[\"']([%w_.]+)[\"']" do
        local other = graph[name] and name or name .. ".init"
        if graph[other] and other ~= from then graph[from][other] = true end
      end
    end
  end
  return graph
end

local function found(graph, words)
  local circles = {}
  for _, circle in ipairs(tree.circles(graph)) do circles[circle] = words .. circle end
  return circles
end

describe("circles", function()
  it("of includes do not exist", function()
    tree.ratchet(found(c_graph(), "these files include each other: "), known_c)
  end)

  it("of requires do not exist", function()
    tree.ratchet(found(lua_graph(), "these modules require each other: "), known_lua)
  end)

  it("are seen by a check that finds one", function()
    local graph = { a = { b = true }, b = { c = true }, c = { b = true, d = true }, d = {} }
    assert.same({ "b c" }, tree.circles(graph))
    assert.same({}, tree.circles { a = { b = true }, b = { c = true } })
    assert.equal("ops/call", unit "ops/call_priv.h")
    local found_one = { ["b c"] = "these files include each other: b c" }
    local ok, problem = pcall(tree.ratchet, found_one, { ["x y"] = true })
    assert.is_false(ok)
    assert.matches("each other: b c", problem)
    assert.matches("x y breaks the rule no more", problem)
  end)
end)
