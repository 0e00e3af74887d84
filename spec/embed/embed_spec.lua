-- libmoonpool in programs of somebody else: spec/embed/desk is a project of its own, configured
-- against an installed copy.
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local moonpool   = require "moonpool"
local test       = require "moonpool.test"

local build = command.executable():gsub("/[^/]*$", "")
local place = build .. "/embed"

local function quoted(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

-- Runs a command of the shell; fails with its output.
local function sh(line)
  local handle = assert(io.popen(("exec 2>&1; cd %s; %s"):format(quoted(moonpool.app_dir), line)))
  local output = handle:read "a"
  local ok = handle:close()
  if not ok then error(line .. "\n" .. output, 0) end
  return output
end

local workshop_files = {
  ["greet.lua"] = [[return require("moonpool").operation {
    run = function() return "hello" end }]],
  ["wait.lua"] = [[return require("moonpool").operation {
    timeout = 60,
    run = function(tx) tx:one("select 1 as one") require("moonpool").sleep(60) end }]],
  ["count_rows.lua"] = [[return require("moonpool").operation {
    run = function(tx) return tx:one("select 41 + 1 as n").n end }]],
  ["broken.lua.off"] = "return return",
}

local native_files = {
  ["native.lua"] = [[
local cards, is = require "desk.cards", require "moonpool.is"
return require("moonpool").operation {
  input = is.object { fn = is.string, a = is.any:optional(), b = is.any:optional() },
  run = function(tx, input)
    assert(not pcall(function() cards.add = 1 end), "no script changes the module")
    if input.fn == "function" then return cards.echo(print) end
    if input.b ~= nil then return cards[input.fn](input.a, input.b) end
    return cards[input.fn](input.a)
  end }]],
}

local function make_project(name, files)
  local dir = place .. "/" .. name
  sh(("rm -rf '%s' && mkdir -p '%s/scripts'"):format(dir, dir))
  for file_name, text in pairs(files) do
    local file = assert(io.open(dir .. "/scripts/" .. file_name, "w"))
    file:write(text)
    file:close()
  end
  return dir
end

-- A dealership in the database and an input of create_deal for it, as JSON.
local function deal_input()
  local ours = dealership.new()
  return moonpool.json.encode(ours:deal_input {
    customer_data = { first_name = "Walt", last_name = "Inman" },
  }, { camel = true })
end

-- The flags of this build, so that a sanitizer is in all of the program.
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

-- Installs into a folder of its own, and builds the desk against that.
local function build_desk()
  local flags = quoted(flags_of_build())
  local prefix, into = quoted(place .. "/prefix"), quoted(place .. "/build")
  sh(("rm -rf %s %s"):format(prefix, into))
  sh(("cmake --install %s --prefix %s"):format(quoted(build), prefix))
  local found = sh(("dirname $(find %s -name moonpool.pc)"):format(prefix)):gsub("\n", "")
  sh(table.concat({ "PKG_CONFIG_PATH=" .. quoted(found), "cmake -S spec/embed/desk -B", into,
                    "-DCMAKE_BUILD_TYPE=Debug -DCMAKE_PREFIX_PATH=" .. prefix,
                    "-DCMAKE_C_FLAGS=" .. flags, "-DCMAKE_CXX_FLAGS=" .. flags }, " "))
  sh("cmake --build " .. into)
end

describe("libmoonpool in a program", function()
  local workshop, natives, arguments, url, deal

  local function run(program, words)
    local line = { "timeout -k 2 100", quoted(place .. "/build/" .. program) }
    for _, word in ipairs(words) do line[#line + 1] = quoted(word) end
    return sh(table.concat(line, " "))
  end

  local function desk(part, project)
    local words = { part }
    table.move(arguments, 1, #arguments, 2, words)
    words[3] = project or words[3]
    assert.matches(part .. " is as expected", run("desk", words))
  end

  setup(function()
    workshop = make_project("workshop", workshop_files)
    natives = make_project("natives", native_files)
    local first, second = test.database(), test.database()
    local deals = {}
    for i, database in ipairs { first, second } do
      test.on(database, function() deals[i] = deal_input() end)
    end
    url, deal = first.app_url, deals[1]
    arguments = { moonpool.app_dir, workshop, first.app_url, second.app_url, deals[1], deals[2] }
    build_desk()
  end)

  it("has two runtimes on one loop, and reloads while it calls", function() desk "loops" end)
  it("closes, drains, forks and refuses as the header says", function() desk "ends" end)
  it("gives scripts functions in C", function() desk("natives", natives) end)
  it("goes on when memory is refused", function() desk "memory" end)
  it("is small with a blocking call, found by pkg-config", function()
    assert.matches('"deal":{', run("desk_pc", { moonpool.app_dir, url, deal }), 1, true)
  end)
  it("may be written in C++", function() run("desk_cpp", { moonpool.app_dir, url, deal }) end)
end)
