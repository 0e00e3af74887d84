-- Files: small, with lines that fit beside each other, without the example's business in the
-- product, and a tidy top level. Reads files only; runs in the host and under plain busted.
local lfs = require "lfs"

local root = os.getenv "MOONPOOL_APP" or "."
local tree = dofile(root .. "/spec/structure/tree.lua")

local max_lines, max_columns = 500, 100

-- A released version of the host's own schema is never edited, so its lines are not wrapped either.
local frozen = { ["lua/moonpool/migrate/system_versions.lua"] = true }

-- Characters, not bytes.
local function columns(line) return #line:gsub("[\128-\191]", "") end

local code = tree.files({ "src", "include", "lua", "scripts", "spec" }, { ".c", ".h", ".lua" })

describe("the source tree", function()
  it("knows nothing of the example's business outside scripts, migrations and spec", function()
    local problems = {}
    -- "deal" alone may be part of a name, for an operation in an example is called create_deal.
    local business = {
      "%f[%w_]deals?%f[^%w_]", "%f[%a]dealers?%f[%A]", "%f[%a]dealerships?%f[%A]",
      "%f[%a]vehicles?%f[%A]",
    }
    local product = tree.files({ "src", "include", "lua" }, { ".c", ".h", ".lua", ".sql" })
    for _, path in ipairs(product) do
      for number, line in ipairs(tree.lines(path)) do
        local lower = line:lower()
        for _, word in ipairs(business) do
          local said = lower:match(word)
          if said then
            problems[#problems + 1] =
              ('%s:%d: says "%s": the product serves any project'):format(path, number, said)
          end
        end
      end
    end
    tree.report(problems)
  end)

  it("has files of at most " .. max_lines .. " lines", function()
    local problems = {}
    for _, path in ipairs(code) do
      local count = #tree.lines(path)
      if count > max_lines then
        problems[#problems + 1] = ("%s has %d lines: split it"):format(path, count)
      end
    end
    tree.report(problems)
  end)

  it("has lines of at most " .. max_columns .. " columns", function()
    local problems = {}
    for _, path in ipairs(code) do
      for number, line in ipairs(frozen[path] and {} or tree.lines(path)) do
        local count = columns(line)
        if count > max_columns then
          problems[#problems + 1] = ("%s:%d has %d columns"):format(path, number, count)
        end
      end
    end
    tree.report(problems)
  end)

  it("has a tidy top level", function()
    local welcome = tree.words ([[CMakeLists.txt CMakePresets.json Makefile README.md LICENSE
      CHANGELOG.md CONTRIBUTING.md SECURITY.md
      src include lua scripts migrations spec]])
    local entries = {}
    -- What git tracks or would track; without git, what is there except the build folder.
    local command = ("git -C '%s' ls-files -co --exclude-standard 2>/dev/null"):format(root)
    local popened, pipe = pcall(io.popen, command)
    local listing = popened and pipe and pipe:read "*a" or ""
    if popened and pipe then pipe:close() end
    if listing ~= "" then
      for path in listing:gmatch "[^\n]+" do entries[path:match '^"?([^/]+)'] = true end
    else
      for entry in lfs.dir(root) do entries[entry] = entry ~= "build" or nil end
    end
    local problems = {}
    for entry in pairs(entries) do
      if not welcome[entry] and entry:sub(1, 1) ~= "." then
        problems[#problems + 1] = entry .. " does not belong at the top level"
      end
    end
    table.sort(problems)
    tree.report(problems)
  end)
end)
