-- The shape of the source tree: includes go down only (src/layers), the product knows nothing of the
-- example's business, files stay small, the top level stays tidy. Reads files only; runs in the host
-- and under plain busted.

local lfs = require "lfs"

local root = os.getenv "MOONPOOL_APP" or "."
local max_lines = 600

-- ---- files ----

local function lines_of(path)
  local file = assert(io.open(root .. "/" .. path, "rb"))
  local text = file:read "*a"
  file:close()
  local lines = {}
  for line in text:gmatch "([^\n]*)\n?" do lines[#lines + 1] = line end
  if lines[#lines] == "" then lines[#lines] = nil end
  return lines
end

-- Every file below `folder`, as paths from the root; none when the folder is not there.
local function files_below(folder, found)
  found = found or {}
  if lfs.attributes(root .. "/" .. folder, "mode") ~= "directory" then return found end
  for entry in lfs.dir(root .. "/" .. folder) do
    local path = folder .. "/" .. entry
    if entry ~= "." and entry ~= ".." then
      local mode = lfs.attributes(root .. "/" .. path, "mode")
      if mode == "directory" then
        files_below(path, found)
      elseif mode == "file" then
        found[#found + 1] = path
      end
    end
  end
  table.sort(found)
  return found
end

local function with_suffix(files, ...)
  local kept = {}
  for _, path in ipairs(files) do
    for _, suffix in ipairs { ... } do
      if path:sub(-#suffix) == suffix then kept[#kept + 1] = path end
    end
  end
  return kept
end

local function report(problems)
  if #problems > 0 then error(#problems .. " found:\n  " .. table.concat(problems, "\n  "), 0) end
end

-- ---- src/layers ----

local function words(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

-- Returns the layers in order, what each may include, and who may include a guarded header.
local function read_layers(lines)
  local order, allowed, guarded = {}, {}, {}
  for number, line in ipairs(lines) do
    line = line:gsub("#.*", "")
    local layer, below = line:match "^(%l+):(.*)$"
    local header, users = line:match '^([<"][^>"]+[>"]):(.*)$'
    if layer then
      assert(not allowed[layer], "src/layers:" .. number .. ": " .. layer .. " is there twice")
      order[#order + 1] = layer
      allowed[layer] = words(below)
    elseif header then
      guarded[header] = words(users)
    elseif line:find "%S" then
      error("src/layers:" .. number .. ": not understood: " .. line, 0)
    end
  end
  return order, allowed, guarded
end

-- What is wrong with one line of a C file, or nil. `path` is relative to src/.
local function judge(path, line, allowed, guarded)
  local header = line:match '^%s*#%s*include%s*([<"][^>"]+[>"])'
  if not header then return nil end
  local layer = path:match "^([^/]+)/"

  local users = guarded[header]
  if users then
    if users[layer] or users[path] then return nil end
    return layer .. " may not include " .. header .. " (see src/layers)"
  end
  local target = header:match '^"([^"]+)"$'
  if not target then return nil end -- a system header open to all
  local other = target:match "^([^/]+)/"
  if not other then return header .. ' has no layer: write it as "layer/file.h", from src/' end
  if not allowed[other] then return header .. ": src/layers knows no layer " .. other end
  if other == layer or allowed[layer][other] then return nil end
  return layer .. " may not include " .. header .. ": src/layers allows no edge " .. layer .. " -> " .. other
end

-- ---- the checks ----

describe("layers", function()
  local order, allowed, guarded = read_layers(lines_of "src/layers")
  local sources = with_suffix(files_below "src", ".c", ".h")

  it("are listed lowest first, without a way up or around", function()
    local problems, below = {}, {}
    for _, layer in ipairs(order) do
      for other in pairs(allowed[layer]) do
        if not below[other] then
          problems[#problems + 1] = layer .. " names " .. other .. ", which is not listed above it"
        else
          for further in pairs(allowed[other]) do
            if not allowed[layer][further] then
              problems[#problems + 1] = ("%s names %s but not %s below it"):format(layer, other, further)
            end
          end
        end
      end
      below[layer] = true
    end
    report(problems)
  end)

  it("hold every C file of src/", function()
    local problems = {}
    for _, path in ipairs(sources) do
      local layer = path:match "^src/([^/]+)/"
      if not layer or not allowed[layer] then
        problems[#problems + 1] = path .. " belongs to no layer of src/layers"
      end
    end
    report(problems)
  end)

  it("include downwards only", function()
    local problems = {}
    for _, path in ipairs(sources) do
      local inside = path:sub(#"src/" + 1)
      if allowed[inside:match "^([^/]+)/" or ""] then
        for number, line in ipairs(lines_of(path)) do
          local wrong = judge(inside, line, allowed, guarded)
          if wrong then problems[#problems + 1] = path .. ":" .. number .. ": " .. wrong end
        end
      end
    end
    report(problems)
  end)

  it("are guarded by a check that sees a forbidden edge", function()
    local function check(path, line) return judge(path, line, allowed, guarded) end
    assert.is_nil(check("pool/pool.c", '#include "pg/conn.h"'))
    assert.is_nil(check("pool/pool.c", '#include "pool/policy.h"'))
    assert.is_nil(check("pool/pool.c", "#include <string.h>"))
    assert.is_nil(check("db/db.c", "#include <libpq-fe.h>"))
    assert.is_nil(check("cluster/roles.c", "#include <libpq-fe.h>"))
    assert.matches("pg %-> pool", check("pg/conn.c", '#include "pool/pool.h"'))
    assert.matches("pool %-> script", check("pool/pool.c", '# include  "script/task.h" // why'))
    assert.matches("http %-> pg", check("http/server.c", '#include "pg/conn.h"'))
    assert.matches("no layer", check("pg/conn.c", '#include "conn.h"'))
    assert.matches("knows no layer", check("pg/conn.c", '#include "other/conn.h"'))
    assert.matches("lua.h", check("pool/pool.c", "#include <lua.h>"))
    assert.matches("libpq", check("app/runtime.c", "#include <libpq-fe.h>"))
    assert.matches("uv.h", check("rules/attempts.c", "#include <uv.h>"))
  end)
end)

describe("the source tree", function()
  it("knows nothing of the example's business outside scripts, migrations and spec", function()
    local problems = {}
    -- "deal" alone may be part of a name, for an operation in an example is called create_deal.
    local business = {
      "%f[%w_]deals?%f[^%w_]", "%f[%a]dealers?%f[%A]", "%f[%a]dealerships?%f[%A]", "%f[%a]vehicles?%f[%A]",
    }
    local product = files_below("include", files_below("lua", files_below "src"))
    for _, path in ipairs(with_suffix(product, ".c", ".h", ".lua", ".sql")) do
      for number, line in ipairs(lines_of(path)) do
        local lower = line:lower()
        for _, word in ipairs(business) do
          local said = lower:match(word)
          if said then
            problems[#problems + 1] = ('%s:%d: says "%s": the product serves any project'):format(path, number, said)
          end
        end
      end
    end
    report(problems)
  end)

  it("has files of at most " .. max_lines .. " lines", function()
    local problems = {}
    for _, folder in ipairs { "src", "include", "lua", "scripts", "spec" } do
      for _, path in ipairs(with_suffix(files_below(folder), ".c", ".h", ".lua")) do
        local count = #lines_of(path)
        if count > max_lines then
          problems[#problems + 1] = ("%s has %d lines: split it"):format(path, count)
        end
      end
    end
    report(problems)
  end)

  it("has a tidy top level", function()
    local welcome = words ([[CMakeLists.txt CMakePresets.json Makefile README.md LICENSE CHANGELOG.md
      CONTRIBUTING.md SECURITY.md
      src include lua scripts migrations spec]])
    local entries = {}
    -- What git tracks or would track; without git, what is there except the build folder.
    local popened, pipe = pcall(io.popen, ("git -C '%s' ls-files -co --exclude-standard 2>/dev/null"):format(root))
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
    report(problems)
  end)
end)
