-- Names of C: a tag names one type, and what a header declares is defined and used.
local root = os.getenv "MOONPOOL_APP" or "."
local tree = dofile(root .. "/spec/structure/tree.lua")

local sources = tree.files({ "src" }, { ".c", ".h" })

local function tags_twice()
  local first, found = {}, {}
  for _, path in ipairs(sources) do
    for number, line in ipairs(tree.split(tree.bare_c(tree.text(path)))) do
      for kind, tag in line:gmatch "%f[%w_](%l+) ([%a_][%w_]*) {" do
        if kind == "struct" or kind == "union" or kind == "enum" then
          local place = path .. ":" .. number
          if first[tag] then
            found[tag] = ("%s %s is defined at %s and at %s"):format(kind, tag, first[tag], place)
          end
          first[tag] = first[tag] or place
        end
      end
    end
  end
  return found
end

-- The functions that the text of a header declares: name = line.
local function declared(text)
  local names, statement, first = {}, "", nil
  local depth = 0
  for number, line in ipairs(tree.split((tree.bare_c(text):gsub("\\\n", "  ")))) do
    if not line:find "^%s*#" then
      if depth == 0 and statement == "" then first = number end
      local outside = depth == 0
      local _, opened = line:gsub("{", "")
      local _, closed = line:gsub("}", "")
      depth = depth + opened - closed
      if outside and opened == 0 then
        statement = statement .. line .. " "
        local name = statement:match "^%s*[%a_][%w_%s*]-([%a_][%w_]*)%s*%b()[^;=]*;%s*$"
        if name and not statement:find "^%s*typedef" then names[name] = first end
        if statement:find ";%s*$" then statement = "" end
      else
        statement = ""
      end
    end
  end
  return names
end

-- Each word of the C files of these folders: word = how often.
local function count_words(folders)
  local counts = {}
  for _, path in ipairs(tree.files(folders, { ".c", ".h" })) do
    for word in tree.bare_c(tree.text(path)):gmatch "[%a_][%w_]*" do
      counts[word] = (counts[word] or 0) + 1
    end
  end
  return counts
end

local function dead_declarations()
  local defined, found = {}, {}
  for _, path in ipairs(sources) do
    for _, f in ipairs(tree.c_functions(tree.text(path))) do defined[f.name] = path end
  end
  local counts = count_words { "src", "spec" }
  for _, path in ipairs(tree.files({ "src" }, { ".h" })) do
    for name, line in pairs(declared(tree.text(path))) do
      local place = ("%s:%d: %s"):format(path, line, name)
      if not defined[name] then
        found[name] = place .. " is declared and defined nowhere"
      elseif counts[name] <= 2 then
        found[name] = place .. " is declared and defined, and used nowhere"
      end
    end
  end
  return found
end

describe("names of C", function()
  it("are tags of one type", function() tree.ratchet(tags_twice(), {}) end)

  it("that a header declares are defined and used", function()
    tree.ratchet(dead_declarations(), {})
  end)

  it("are found by a reader of headers", function()
    local names = declared [[
struct a { int (*call)(int x); };
int plain(void);
struct a *pointer(struct a *a,
                  int b) MUST_CHECK;
static inline int inside(void) {
  return plain();
}
/* int comment(void); */
typedef int (*type)(int x);
extern const int data;
#define MACRO(x) \
  macro(x);
enum { ONE };
]]
    assert.same({ plain = 2, pointer = 3 }, names)
  end)
end)
