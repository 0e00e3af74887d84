-- Files of scripts/ that do not end while they are loaded, or fill the memory, or call themselves
-- for ever: each is told with its file and line, by whatever command loads it.
local command = require "spec.support.process.command"
local json    = require "moonpool.json"
local service = require "spec.support.process.http_service"
local serving = require "spec.support.process.serving"

local hello = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "hello", run = function(tx)
    return { n = tx:value "select 1" } end }]]

local files = {
  loops = { "MOONPOOL_LOAD_TIMEOUT", "local n = 0\nwhile true do\n  n = n + 1\nend\n" },
  waits = { "MOONPOOL_LOAD_TIMEOUT",
            "local moonpool = require 'moonpool'\n\nmoonpool.sleep(1000)\n" },
  bombs = { "MOONPOOL_TASK_MEMORY",
            "local kept = {}\nfor i = 1, math.huge do\n  kept[i] = ('x'):rep(1000) .. i\nend\n" },
}

for name, case in pairs(files) do
  local setting, text = case[1], case[2]
  local env = { [setting] = setting == "MOONPOOL_TASK_MEMORY" and "16" or "300" }
  local there = name .. ".lua:[23]"

  it(("moonpool call tells of a file that %s, and calls others"):format(name), function()
    local folder = command.folder { ["scripts/" .. name .. ".lua"] = text,
                                    ["scripts/hello.lua"] = hello }
    local output, code = command.run("call " .. name, { dir = folder.path, env = env })
    assert.are.equal(1, code, output)
    local e = json.decode(output:match "{\"error\".*").error
    assert.truthy(e.line:find(there), output)
    assert.truthy(e.message:find(setting, 1, true), output)
    output, code = command.run("call hello", { dir = folder.path, env = env })
    assert.are.equal(0, code, output)
    folder.remove()
  end)

  it(("serve refuses a state with a file that %s, and a host goes on with the one it has")
    :format(name), function()
    local host = serving.start({ ["scripts/hello.lua"] = hello }, { env = env })
    host:write { ["scripts/" .. name .. ".lua"] = text }
    local report = host:reload()
    assert.is_false(report.ok)
    assert.truthy(report.report:find(there), report.report)
    assert.truthy(report.report:find(setting, 1, true), report.report)
    assert.are.equal(1, host:call("hello").result.n)
    host:stop()
  end)
end

it("a script that calls itself for ever is told with the line", function()
  local deep = [[
    local moonpool = require "moonpool"
    local function deep(n)
      return 1 + deep(n + 1)
    end
    return moonpool.operation { summary = "deep", %s run = function() return deep(1) end }]]
  local host = service.start { ["scripts/short.lua"] = deep:format "memory = 8,",
                               ["scripts/long.lua"] = deep:format "memory = 1024, cpu = 20," }
  for _, name in ipairs { "short", "long" } do
    local answer = host:call(name)
    assert.is_false(answer.ok)
    assert.are.equal(("scripts/%s.lua:3"):format(name), answer.error.line,
                     json.encode(answer.error))
  end
  host:stop()
end)
