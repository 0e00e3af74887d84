-- spec/embed/desk, the program of somebody else: built against an installed copy, with the flags of
-- this build, so that a sanitizer is in all of the program.
local command  = require "spec.support.process.command"
local moonpool = require "moonpool"

local desk = {}

local build = command.executable():gsub("/[^/]*$", "")

local function quoted(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

-- Runs a command of the shell; fails with its output.
local function sh(line)
  local handle = assert(io.popen(("exec 2>&1; cd %s; %s"):format(quoted(moonpool.app_dir), line)))
  local output = handle:read "a"
  local ok = handle:close()
  if not ok then error(line .. "\n" .. output, 0) end
  return output
end

local function flags_of_build()
  local flags = {}
  for line in io.lines(build .. "/CMakeCache.txt") do
    flags[#flags + 1] = line:match "^CMAKE_C_FLAGS:STRING=(.+)"
    if line == "MOONPOOL_SANITIZE:BOOL=ON" then
      flags[#flags + 1] = "-fsanitize=address,undefined"
    end
    if line == "MOONPOOL_TSAN:BOOL=ON" then flags[#flags + 1] = "-fsanitize=thread" end
  end
  return table.concat(flags, " ")
end

-- Everything of one spec file is below `place`, so that several can run at a time.
local function in_place(name) return build .. "/embed/" .. name end

-- -> the folder of a project whose scripts/ holds these files
function desk.project(place, name, files)
  local dir = in_place(place) .. "/" .. name
  sh(("rm -rf %s && mkdir -p %s"):format(quoted(dir), quoted(dir .. "/scripts")))
  for file_name, text in pairs(files) do
    local file = assert(io.open(dir .. "/scripts/" .. file_name, "w"))
    file:write(text)
    file:close()
  end
  return dir
end

function desk.build(place)
  local flags = quoted(flags_of_build())
  local prefix, into = quoted(in_place(place) .. "/prefix"), quoted(in_place(place) .. "/build")
  sh(("rm -rf %s %s"):format(prefix, into))
  sh(("cmake --install %s --prefix %s"):format(quoted(build), prefix))
  local found = sh(("dirname $(find %s -name moonpool.pc)"):format(prefix)):gsub("\n", "")
  sh(table.concat({ "PKG_CONFIG_PATH=" .. quoted(found), "cmake -S spec/embed/desk -B", into,
                    "-DCMAKE_BUILD_TYPE=Debug -DCMAKE_PREFIX_PATH=" .. prefix,
                    "-DCMAKE_C_FLAGS=" .. flags, "-DCMAKE_CXX_FLAGS=" .. flags }, " "))
  sh("cmake --build " .. into)
end

-- -> what the program has written; fails unless it ends well. `environment`: "NAME=value" words.
function desk.run(place, program, words, environment, seconds)
  local line = { "env" }
  for _, word in ipairs(environment or {}) do line[#line + 1] = quoted(word) end
  line[#line + 1] = ("timeout -k 2 %d"):format(seconds or 100)
  line[#line + 1] = quoted(in_place(place) .. "/build/" .. program)
  for _, word in ipairs(words) do line[#line + 1] = quoted(word) end
  return sh(table.concat(line, " "))
end

-- The operation whose life is swept: what is queued fails inside of pcall, and tables are made.
desk.careful = [[return require("moonpool").operation {
  run = function(tx)
    tx:exec "select 1 as n"
    local ok = pcall(function()
      local kept = {}
      for i = 1, 50 do kept[i] = { i, "x" .. i } end
      tx:one "select 2 as n"
      error "no"
    end)
    local _, n = xpcall(function()
      return #("x"):rep(3000) + tx:one "select 3 as n".n
    end, tostring)
    return { ok = ok, n = n }
  end }]]

return desk
