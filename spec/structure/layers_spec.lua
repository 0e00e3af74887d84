-- The rooms of src/: includes go down only, and enter a room by its door (src/layers). Reads files
-- only; runs in the host and under plain busted.
local root = os.getenv "MOONPOOL_APP" or "."
local tree = dofile(root .. "/spec/structure/tree.lua")
local words, report = tree.words, tree.report

-- Returns the layers in order, what each may include, who may include a guarded header, and the
-- headers that are a room's door.
local function read_layers(lines)
  local order, allowed, guarded, doors = {}, {}, {}, {}
  for number, line in ipairs(lines) do
    line = line:gsub("#.*", "")
    local layer, below = line:match "^(%l+):(.*)$"
    local header, users = line:match '^([<"][^>"]+[>"]):(.*)$'
    local room, door = line:match "^door (%l+):(.*)$"
    if room then
      assert(not doors[room], "src/layers:" .. number .. ": the door of " .. room
             .. " is there twice")
      doors[room] = words(door)
    elseif layer then
      assert(not allowed[layer], "src/layers:" .. number .. ": " .. layer .. " is there twice")
      order[#order + 1] = layer
      allowed[layer] = words(below)
    elseif header then
      guarded[header] = words(users)
    elseif line:find "%S" then
      error("src/layers:" .. number .. ": not understood: " .. line, 0)
    end
  end
  return order, allowed, guarded, doors
end

-- What is wrong with a file of the room `from` that includes `room`/`name`, or nil.
local function judge_door(from, room, name, doors)
  if from == room then return nil end
  if name:find "_priv%.h$" or name:find "_internal%.h$" then
    return ("%s may not include %s/%s: that header is private to %s/"):format(from, room, name,
      room)
  end
  local door = doors[room]
  if door and not door[name] then
    return ("%s may not include %s/%s: it is no door of %s (see src/layers)"):format(from, room,
      name, room)
  end
end

-- What is wrong with one line of a C file, or nil. `path` is relative to src/.
local function judge(path, line, allowed, guarded, doors)
  local header = tree.included(line)
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
  if other == layer or allowed[layer][other] then
    return judge_door(layer, other, target:match "^[^/]+/(.*)", doors)
  end
  return ("%s may not include %s: src/layers allows no edge %s -> %s"):format(layer, header, layer,
    other)
end

-- ---- the checks ----

describe("layers", function()
  local order, allowed, guarded, doors = read_layers(tree.lines "src/layers")
  local sources = tree.files({ "src" }, { ".c", ".h" })

  it("are listed lowest first, without a way up or around", function()
    local problems, below = {}, {}
    for _, layer in ipairs(order) do
      for other in pairs(allowed[layer]) do
        if not below[other] then
          problems[#problems + 1] = layer .. " names " .. other .. ", which is not listed above it"
        else
          for further in pairs(allowed[other]) do
            if not allowed[layer][further] then
              problems[#problems + 1] =
                ("%s names %s but not %s below it"):format(layer, other, further)
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
        for number, line in ipairs(tree.lines(path)) do
          local wrong = judge(inside, line, allowed, guarded, doors)
          if wrong then problems[#problems + 1] = path .. ":" .. number .. ": " .. wrong end
        end
      end
    end
    report(problems)
  end)

  it("are guarded by a check that sees a forbidden edge", function()
    local function check(path, line) return judge(path, line, allowed, guarded, doors) end
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
    assert.is_nil(check("txn/txn.c", '#include "txn/txn_priv.h"'))
    assert.matches("private to txn/", check("db/db.c", '#include "txn/txn_priv.h"'))
    assert.matches("no door of http", check("svc/service.c", '#include "http/conn.h"'))
  end)

  it("have doors that somebody uses", function()
    local problems = {}
    for room, door in pairs(doors) do
      for name in pairs(door) do
        local used = false
        for _, path in ipairs(sources) do
          if not path:find("src/" .. room .. "/", 1, true) then
            used = used or tree.text(path):find(('#include "%s/%s"'):format(room, name), 1, true)
          end
        end
        if not used then
          problems[#problems + 1] = ("src/layers: no other room includes %s/%s"):format(room, name)
        end
      end
    end
    report(problems)
  end)
end)
