-- What is easily forgotten when something is added: each recipe of CONTRIBUTING.md names the check
-- below that fails then. Texts are compared with code in spec/integration/help_spec.lua and
-- monitor_spec.lua.
local root = os.getenv "MOONPOOL_APP" or "."

local function read(path)
  local file = assert(io.open(root .. "/" .. path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- The files that a find expression names, as paths from the root.
local function found(expression)
  local list, pipe = {}, assert(io.popen(("cd '%s' && find %s | sort"):format(root, expression)))
  for path in pipe:lines() do list[#list + 1] = path end
  pipe:close()
  return list
end

local function text_of(expression, but)
  local texts = {}
  for _, path in ipairs(found(expression)) do
    if not (but and path:find(but)) then texts[#texts + 1] = read(path) end
  end
  return table.concat(texts, "\n")
end

-- The one file below lua/ with this text in it, and its path.
local function file_with(words)
  for _, path in ipairs(found "lua -name '*.lua'") do
    local text = read(path)
    if text:find(words, 1, true) then return text, path end
  end
  error("no file below lua/ has: " .. words, 0)
end

local function report(problems)
  table.sort(problems)
  if #problems > 0 then error(#problems .. " found:\n  " .. table.concat(problems, "\n  "), 0) end
end

-- The names that the LuaCATS definitions declare for a variable: `function NAME.x(`, `function
-- NAME:x(`, and the fields of a class.
local types = text_of "lua/moonpool/types -name '*.lua'"

local function declared(variable, class)
  local names = {}
  for name in types:gmatch("\nfunction " .. variable .. "[.:]([%w_]+)%(") do names[name] = true end
  local body = class and ("\n" .. types)
    :match("\n%-%-%-@class " .. class:gsub("%.", "%%.") .. "%f[^%w_.].-\n(.-)\n[^%-]") or ""
  for name in ("\n" .. body):gmatch "\n%-%-%-@field ([%w_]+)" do names[name] = true end
  return names
end

describe("nothing is forgotten", function()
  it("of a module that moves: C names modules of lua/ that exist", function()
    local problems = {}
    for _, path in ipairs(found "src -name '*.c'") do
      for name in read(path):gmatch '"@(moonpool/[%w_/]+)"' do
        -- a prefix: of a module and its room
        local file = io.open(root .. "/lua/" .. name .. ".lua")
        if file then
          file:close()
        elseif name ~= "moonpool/" then
          problems[#problems + 1] = path .. " names " .. name .. ", which lua/ does not have"
        end
      end
    end
    report(problems)
  end)

  it("of a room: src/README.md has it", function()
    local map, problems = read "src/README.md", {}
    for room in read "src/layers":gmatch "%f[^\n](%l+):" do
      if not map:find("\n| `" .. room .. "`") then
        problems[#problems + 1] = room .. " is not in src/README.md"
      end
    end
    report(problems)
  end)

  it("of a move: the files that src/README.md names are there", function()
    local problems, lua = {},
      "/" .. table.concat(found "lua spec scripts -name '*.lua'", "\n/") .. "\n"
    for path in read "src/README.md":gmatch "[`( ]([%l_/]+%.%l+)[`:;,) ]" do
      local file
      if path == "scripts/smoke.lua" then -- a project's own
        file = true
      elseif path:find "%.lua$" then
        file = lua:find("/" .. path:gsub("%p", "%%%0") .. "\n") -- any folder
      elseif path:find "^%l+/[%l_]+%.[ch]$" then
        file = io.open(root .. (path:find "^include/" and "/" or "/src/") .. path)
        if file then file:close() end
      else
        file = true
      end
      if not file then problems[#problems + 1] = path .. " is not there" end
    end
    report(problems)
  end)

  it("of a setting: it is used (src/app/config.h)", function()
    local uses = text_of("src -name '*.[ch]'", "app/config%.[ch]$")
    local problems, count = {}, 0
    local function used(field, name)
      count = count + 1
      if not uses:find("config[%.%-]>?" .. field .. "%f[^%w_]") then
        problems[#problems + 1] = name .. ": nothing uses it"
      end
    end
    for field, name in read "src/app/config.h":gmatch '%f[%w_]X%(([%l_]+), "([%u_]+)"' do
      used(field, name)
    end
    for name,
      field in read "src/app/config.c":gmatch '{"([%u_]+)",.-offsetof%(struct mp_config, \z
        ([%l_]+)%)' do
      used(field, name)
    end
    assert(count > 30, "the tables of settings are elsewhere now")
    report(problems)
  end)

  it("of a metric: it is counted (src/watch/meter_map.h)", function()
    local metrics = read "src/watch/meter_map.h"
    local uses = text_of("src/watch src/svc src/app src/ops -name '*.c'")
    local problems, count = {}, 0
    for field, name in metrics:gmatch '\n  X%(([%l_]+), "([%l_]+)"' do
      count = count + 1
      if not uses:find("->" .. field .. "%f[^%w_]") then
        problems[#problems + 1] = name .. ": nothing counts it"
      end
    end
    assert(count > 30, "the table of metrics is elsewhere now")
    report(problems)
  end)

  it(
    "of an operation's field: its type is made from the list of fields, and C reads those that \z
      it says", function()
    local fields, c, problems = require "moonpool.operation.fields", read "src/ops/call_lua.c", {}
    if fields.types() ~= read "lua/moonpool/types/operation.lua" then
      problems[1] = "lua/moonpool/types/operation.lua is old: build/moonpool run \z
        spec/support/operation_types.lua > lua/moonpool/types/operation.lua"
    end
    for _, field in ipairs(fields.list) do
      local read_in_c = c:find('"' .. field.name .. '"', c:find "enum setting_kind", true) ~= nil
      if field.host and not read_in_c then
        problems[#problems + 1] = field.name .. ": src/ops/call_lua.c does not read it"
      end
    end
    for name in c:gmatch 'SETTING%("([%l_]+)"' do
      local field = fields.named[name]
      if not (field and field.host) then
        problems[#problems + 1] = name
          .. ": src/ops/call_lua.c reads it, but it is no field with `host`"
      end
    end
    report(problems)
  end)

  it("of a function of tx: it has a type", function()
    local text, names, problems = read "src/txn/tx_lua.c", {}, {}
    for name in text:match "luaL_Reg methods%[%] = {(.-)NULL":gmatch '{"([%l_]+)",' do
      names[#names + 1] = name
    end
    local typed = declared("tx", "moonpool.tx")
    for _, name in ipairs(names) do
      if not typed[name] and name ~= "flush" then
        problems[#problems + 1] = "tx:" .. name .. " has no type"
      end
    end
    for name in types:gmatch "\nfunction tx:([%w_]+)%(" do
      if not text:find('{"' .. name .. '",', 1, true) then
        problems[#problems + 1] = "tx:" .. name .. " has a type, but there is no such function"
      end
    end
    assert(#names > 10, "the functions of tx are elsewhere now")
    report(problems)
  end)

  it("of a module with a public name: one list says who may require it", function()
    local text, listed, there, problems = file_with "sandbox.modules = {", {}, {}, {}
    for name in text:match "sandbox%.modules = {\n(.-)\n}":gmatch '%["(moonpool[%l_.]*)"%]' do
      listed[name] = true
    end
    for name in text:match 'sandbox%.trusted = "(.-)"':gmatch "%S+" do
      listed["moonpool." .. name] = true
    end
    for _, path in ipairs(found "lua/moonpool -maxdepth 1 -name '*.lua'") do
      local name = path:match "([%l_]+)%.lua$"
      there[name == "init" and "moonpool" or "moonpool." .. name] = path
    end
    local host = read "src/host/host.c"
    for name in host:gmatch 'mp_vm_preload%(host%->vm, "(moonpool[%l_.]*)"' do
      there[name] = "src/host/host.c"
    end
    assert(there["moonpool.host"] and there["moonpool.json"],
           "the modules made in C are elsewhere now")
    there["moonpool.host"] = nil -- what the host's own Lua is built on
    for name, path in pairs(there) do
      if not listed[name] then
        problems[#problems + 1] = name .. " (" .. path .. ") is not in the list"
      end
    end
    for name in pairs(listed) do
      if not there[name] then
        problems[#problems + 1] = name .. " is in the list, but there is no such module"
      end
    end
    report(problems)
  end)

  it("of what scripts may require: it has a type", function()
    local text, problems, count = file_with "sandbox.modules = {", {}, 0
    for name,
      list in text:match "sandbox%.modules = {\n(.-)\n}":gmatch '%["moonpool%.?([%l_]*)"%]%s*=%s*\z
        [%["]+([^"%]]+)' do
      local variable = name == "" and "moonpool" or name
      local typed = declared(variable, name == "" and "moonpool" or "moonpool." .. name)
      for word in list:gmatch "[%l_]+" do
        count = count + 1
        -- moonpool.json is a module of its own
        local module = types:find("@meta moonpool." .. word .. "%f[^%w]")
        if not typed[word] and not (name == "" and (module or word == "version")) then
          problems[#problems + 1] = ("%s.%s has no type"):format(variable, word)
        end
      end
    end
    assert(count > 50, "the modules of the sandbox are elsewhere now")
    report(problems)
  end)

  it("of an HTTP path: moonpool help http has it", function()
    local text, problems, count = file_with '["/health"]', {}, 0
    local topic = read "lua/moonpool/help/http.md"
    for path in text:gmatch '\n  %["(/[^"]*)"%]%s*=' do
      count = count + 1
      if not topic:find("[` ]" .. path:gsub("%p", "%%%0") .. "[`?]") then
        problems[#problems + 1] = path .. " is not in help/http.md"
      end
    end
    assert(count > 20, "the routes are elsewhere now")
    report(problems)
  end)

  it("of a bench: it says what it measures, and moonpool help benchmarks has it", function()
    local problems, topic = {}, read "lua/moonpool/help/benchmarks.md"
    for _, path in ipairs(found "spec/bench -maxdepth 1 -name '*.lua'") do
      local name = path:match "([%w_]+)%.lua$"
      local head = read(path):match "^%-%-.-\n[^%-]"
      if head and head:find("moonpool bench", 1, true) then
        if not topic:find("`moonpool bench " .. name .. "`", 1, true) then
          problems[#problems + 1] = path .. " is not in help/benchmarks.md"
        end
      elseif name ~= "cpu_scripts" then
        problems[#problems + 1] = path .. " does not begin with a comment that has `moonpool bench "
          .. name .. "`"
      end
    end
    report(problems)
  end)

  it("of an alert: scripts/monitoring/README.md explains it", function()
    local problems, text = {}, read "scripts/monitoring/README.md"
    local rules, count = read "lua/moonpool/alerts/rules.lua", 0
    for name in rules:gmatch '%f[%w]name%s*=%s*"([%l_]+)"' do
      count = count + 1
      if not text:find("\n| " .. name .. "%f[^%w_]") then
        problems[#problems + 1] = name .. " is not explained"
      end
    end
    assert(count > 5, "the rules are elsewhere now")
    report(problems)
  end)
end)
