-- Functions are short enough to be seen at once. In specs, a block of describe is no function in
-- this sense.
local root = os.getenv "MOONPOOL_APP" or "."
local tree = dofile(root .. "/spec/structure/tree.lua")

local max_c, max_lua = 80, 100

-- What was longer when these rules were made. These lists only shrink.
local known_c = {}
local known_lua = { ["scripts/create_deal.lua run"] = true }

local function long_c()
  local found = {}
  for _, path in ipairs(tree.files({ "src", "spec" }, { ".c", ".h" })) do
    for _, f in ipairs(tree.c_functions(tree.text(path))) do
      local lines = f.last - f.first + 1
      if lines > max_c then
        found[path .. " " .. f.name] =
          ("%s:%d: %s has %d lines"):format(path, f.first, f.name, lines)
      end
    end
  end
  return found
end

local function long_lua()
  local found = {}
  for _, path in ipairs(tree.files({ "lua", "scripts", "spec" }, { ".lua" })) do
    for _, f in ipairs(tree.lua_functions(tree.text(path))) do
      local lines = f.last - f.first + 1
      if lines > max_lua and not f.head:find "^%s*describe%f[%W]" then
        found[path .. " " .. f.name] =
          ("%s:%d: %s has %d lines"):format(path, f.first, f.name, lines)
      end
    end
  end
  return found
end

describe("functions", function()
  it("of C have at most " .. max_c .. " lines", function() tree.ratchet(long_c(), known_c) end)

  it("of Lua have at most " .. max_lua .. " lines", function()
    tree.ratchet(long_lua(), known_lua)
  end)

  it("are measured by a reader that knows where they end", function()
    assert.same({ { name = "f", first = 2, last = 6 }, { name = "g", first = 8, last = 8 } },
      tree.c_functions [[
struct s {};
static int f(int a,
             int b) {
  char c = '}'; /* } */
  if (a) { b = '{'; }
}

int g(void) { return 0; }
static const int table[] = {
  1,
};
]])
    local found = tree.lua_functions [[
local function a(x)
  if x then return function() end end -- end
  while true do local s = "end" break end
  repeat local t = [=[ function ]=] until x
  for i = 1, 2 do end
end
describe("b", function()
end)
]]
    local seen = {}
    for _, f in ipairs(found) do seen[#seen + 1] = f.name .. " " .. f.first .. "-" .. f.last end
    assert.same({ "? 2-2", "a 1-6", "? 7-8" }, seen)
  end)
end)
