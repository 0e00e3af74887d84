-- libmoonpool in programs of somebody else: spec/embed/desk is a project of its own, configured
-- against an installed copy.
local dealership = require "spec.support.data.dealership"
local program    = require "spec.support.process.desk"
local moonpool   = require "moonpool"
local test       = require "moonpool.test"

local workshop_files = {
  ["greet.lua"] = [[return require("moonpool").operation {
    run = function() return "hello" end }]],
  ["wait.lua"] = [[return require("moonpool").operation {
    timeout = 60,
    run = function(tx) tx:one("select 1 as one") require("moonpool").sleep(60) end }]],
  ["count_rows.lua"] = [[return require("moonpool").operation {
    run = function(tx) return tx:one("select 41 + 1 as n").n end }]],
  ["careful.lua"] = program.careful,
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

-- A dealership in the database and an input of create_deal for it, as JSON.
local function deal_input()
  local ours = dealership.new()
  return moonpool.json.encode(ours:deal_input {
    customer_data = { first_name = "Walt", last_name = "Inman" },
  }, { camel = true })
end

describe("libmoonpool in a program", function()
  local workshop, natives, arguments, words

  local function desk(part, project, environment)
    local line = { part }
    table.move(arguments, 1, #arguments, 2, line)
    line[3] = project or line[3]
    assert.matches(part .. " is as expected", program.run("spec", "desk", line, environment))
  end

  setup(function()
    workshop = program.project("spec", "workshop", workshop_files)
    natives = program.project("spec", "natives", native_files)
    local first, second = test.database(), test.database()
    local deals = {}
    for i, database in ipairs { first, second } do
      test.on(database, function() deals[i] = deal_input() end)
    end
    words = { moonpool.app_dir, first.app_url, deals[1] }
    arguments = { moonpool.app_dir, workshop, first.app_url, second.app_url, deals[1], deals[2] }
    program.build "spec"
  end)

  it("has two runtimes on one loop, and reloads while it calls", function() desk "loops" end)
  it("closes, drains, forks and refuses as the header says", function() desk "ends" end)
  it("gives scripts functions in C", function() desk("natives", natives) end)
  it("goes on when memory is refused", function() desk "memory" end)

  -- A part of the lives; spec/soak/refused_memory_soak.lua has all of them. KIND FIRST STEP
  it("lives on when one request for memory is refused", function()
    desk("sweep", nil, { "DESK_SWEEP=0 38 97" })
  end)
  it("ends well when all memory is refused from a request on", function()
    desk("sweep", nil, { "DESK_SWEEP=1 400 797" })
  end)

  it("is small with a blocking call, found by pkg-config", function()
    assert.matches('"deal":{', program.run("spec", "desk_pc", words), 1, true)
  end)
  it("may be written in C++", function() program.run("spec", "desk_cpp", words) end)
end)
