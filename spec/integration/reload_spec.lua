-- `moonpool serve` and what changes its operations while it runs: a reload lets one pointer change,
-- or nothing.
local command = require "spec.support.process.command"
local json    = require "moonpool.json"
local scratch = require "spec.support.data.scratch"
local serving = require "spec.support.process.serving"

local function operation(body)
  return (
    'return require("moonpool").operation { summary = "x", run = function(tx, input) %s end }')
      :format(body)
end

describe("a running host", function()
  local host

  local function start(files, options)
    host = serving.start(files, options)
    return host
  end

  after_each(function()
    if host then host:stop() end
    host = nil
  end)

  local function versions_now()
    local answer = host:call "versions"
    return assert(answer.result, json.encode(answer))
  end

  it("answers calls, and an error says which generation it comes from", function()
    start { ["scripts/hello.lua"] = operation 'return { said = tx:value "select 42" }',
            ["scripts/fails.lua"] = operation 'local t = nil; return t.x' }
    local answer = host:call "hello"
    assert.are.same({ ok = true, generation = 1, result = { said = 42 } }, answer)
    answer = host:call "fails"
    assert.is_false(answer.ok)
    assert.are.equal("SCRIPT_ERROR", answer.error.code)
    assert.are.equal(1, answer.error.generation)
    assert.truthy(answer.error.message:find("scripts/fails.lua:1", 1, true) or answer.error.line,
                  answer.error.message)
    assert.is_nil(answer.error.traceback)
    assert.are.equal("UNKNOWN_OPERATION", host:call("helo").error.code)
  end)

  it("does not start on broken scripts: it names each fault by file and line", function()
    start({ ["scripts/one.lua"] = "return {\n  x = = 1 }", ["scripts/two.lua"] = "return 1",
            ["scripts/lib/three.lua"] = "local x = 1\nreturn x +",
            ["scripts/four.lua"] = 'local x = nil\nlocal y = x.z\n' .. operation "return 1" },
            { broken = true })
    assert.are.equal(1, host:wait())
    local log = host:log()
    for _, fault in ipairs { "scripts/one.lua:2: ", "scripts/two.lua", "scripts/lib/three.lua:2: ",
                             "scripts/four.lua:2: " } do
      assert.truthy(log:find(fault, 1, true), log)
    end
  end)

  describe("told to reload", function()
    it("follows a link to the project that was swapped", function()
      local files = {}
      for _, release in ipairs { "one", "two" } do
        files[release .. "/scripts/release.lua"] =
          operation(("return { release = %q }"):format(release))
      end
      start(files, { shell = "ln -s one current; export MOONPOOL_APP=current" })
      assert.are.equal("one", host:call("release").result.release)
      assert(os.execute("ln -sfn two " .. host.folder.path .. "/current"))
      for _, app in ipairs { "current", "./current/", "one/../current",
                             host.folder.path .. "//current" } do
        local output, exit = command.run("--app " .. app .. " reload",
                                         { dir = host.folder.path, env = host.env })
        assert.are.equal(0, exit, output)
      end
      assert.are.equal("two", host:call("release").result.release)
    end)

    it("keeps the operations that there were when there are none any more", function()
      start(serving.versions(1))
      local path = host.folder.path
      for _, change in ipairs { "mv scripts gone; mkdir scripts", "rmdir scripts",
                                "mkdir -p scripts/lib; echo return 1 > scripts/lib/x.lua" } do
        assert(os.execute(("cd %s && %s"):format(path, change)))
        local report = host:reload()
        assert.is_false(report.ok)
        assert.truthy(report.report:find("scripts", 1, true), report.report)
        assert.are.equal(1, report.generation)
        assert.are.equal(1, versions_now().operation)
      end
      assert(os.execute(("cd %s && rm -r scripts && mv gone scripts"):format(path)))
      assert.is_true(host:reload().ok)
    end)

    it("tells of operations whose files nobody can call, and why", function()
      start(serving.versions(1))
      host:write { ["scripts/sub/x.lua"] = operation "return 1",
                   ["scripts/dash-name.lua"] = operation "return 1",
                   ["scripts/ü.lua"] =
                     "local op = require 'moonpool'.operation { run = print }\nreturn op\n",
                   ["scripts/lib/wrap.lua"] = "local m = require 'moonpool'\nreturn function(def)\n"
                     ..
                                              "  return m.operation(def)\nend\n",
                   ["scripts/no-operation.lua"] = "return {}\n",
                   ["scripts/tools/x.lua"] = operation "return 1" }
      assert.is_true(host:reload().ok)
      local log = host:log()
      for _, file in ipairs { "sub/x.lua", "dash-name.lua", "ü.lua" } do
        assert.truthy(
          log:find("scripts/" .. file .. " returns an operation that cannot be called", 1, true),
          log)
      end
      assert.truthy(log:find("such as scripts/dash_name.lua", 1, true), log)
      assert.falsy(log:find("wrap.lua returns", 1, true)
                   or log:find("no-operation.lua returns", 1, true), log)
      assert.falsy(log:find("tools/x.lua", 1, true), log)
      assert.truthy(host:call("dash-name").error.message:find("letters, digits and _", 1, true))
    end)

    it("answers with the new files, and says what changed", function()
      start(serving.versions(1))
      host:write(serving.versions(2))
      local report = host:reload()
      assert.is_true(report.ok)
      assert.are.equal(2, report.generation)
      assert.are.equal(3, report.changed)
      assert.truthy(report.report:find("lib/early.lua, lib/late.lua, versions.lua", 1, true),
                    report.report)
      host:write { ["scripts/more.lua"] = operation "return 1" }
      host.folder.delete "scripts/lib/late.lua"
      report = host:reload()
      assert.truthy(report.report:find("changed: -lib/late.lua, +more.lua", 1, true), report.report)
      host:write(serving.versions(2))
      assert.is_true(host:reload().ok)
      local result = versions_now()
      assert.are.same({ 2, 2, 2, 4 }, { result.operation, result.lib, result.late, result.number })
    end)

    it("changes nothing for a broken file, and tells all faults at once", function()
      start(serving.versions(1))
      local faults = {
        ["scripts/lib/late.lua"] = { "return {\n\n version = 2", "scripts/lib/late.lua:3: " },
        ["scripts/other.lua"] = { "return 1", "scripts/other.lua: " },
        ["scripts/sum.lua"] = {
          'return require("moonpool").operation { summry = "x", run = print }',
          "scripts/sum.lua:1: moonpool.operation: there is no field `summry`; did you mean \z
            `summary`?" },
        ["scripts/lib/early.lua"] = { 'error "no"', "scripts/lib/early.lua:1: no" },
      }
      for name, fault in pairs(faults) do host:write { [name] = fault[1] } end
      local report = host:reload()
      assert.is_false(report.ok)
      assert.are.equal(1, report.generation)
      for _, fault in pairs(faults) do
        assert.truthy(report.report:find(fault[2], 1, true), report.report)
      end
      local _, lines = report.report:gsub("[^\n]+", "")
      assert.are.equal(4, lines, report.report)
      assert.are.equal(1, versions_now().late)
      scratch.await("the end of the refused one", function() return #host:generations() == 1 end)
    end)

    it("refuses an operation whose tenant, or lane, names a field that the input has not",
       function()
      start(serving.versions(1))
      host:write { ["scripts/lost.lua"] = [[
        local moonpool, is = require "moonpool", require "moonpool.is"
        return moonpool.operation { input = is.object { colour = is.string }, lane = "paint:$color",
          run = print }]] }
      local report = host:reload()
      assert.is_false(report.ok)
      assert.truthy(report.report:find("scripts/lost.lua:2: moonpool.operation: lane names `color`",
                                       1, true), report.report)
    end)

    it("asks scripts/smoke.lua, which has the last word", function()
      start(serving.versions(1))
      host:write { ["scripts/smoke.lua"] = [[
        local db, moonpool = require "moonpool.db", require "moonpool"
        local found = db.value "select 40 + 2"
        local seen = moonpool.call("versions", {}).operation
        if found ~= 42 or seen ~= 3 then error("version " .. seen .. " is not the one") end]] }
      host:write { ["scripts/versions.lua"] = serving.versions(2)["scripts/versions.lua"] }
      local report = host:reload()
      assert.is_false(report.ok)
      assert.truthy(report.report:find("scripts/smoke.lua:4: version 2 is not the one", 1, true),
                    report.report)
      assert.are.equal(1, versions_now().operation)
      host:write { ["scripts/versions.lua"] = serving.versions(3)["scripts/versions.lua"] }
      assert.is_true(host:reload().ok)
      assert.are.equal(3, versions_now().operation)
    end)

    it("gives up on scripts that do not end loading", function()
      start(serving.versions(1), { env = { MOONPOOL_LOAD_TIMEOUT = "300" } })
      host:write { ["scripts/slow.lua"] = 'require("moonpool").sleep(3600)' }
      local report = host:reload()
      assert.is_false(report.ok)
      assert.truthy(report.report:find("MOONPOOL_LOAD_TIMEOUT", 1, true), report.report)
      assert.is_true(host:call("versions").ok)
    end)

    it("gives up on scripts that spin while they load, and serves meanwhile", function()
      start(serving.versions(1), { env = { MOONPOOL_LOAD_TIMEOUT = "300" } })
      host:write {
        ["scripts/spins.lua"] = 'while true do pcall(function() while true do end end) end' }
      local reload = host:send { ["do"] = "reload" }
      for _ = 1, 5 do assert.is_true(host:call("versions").ok) end
      local report = reload.finish()
      assert.is_false(report.ok)
      local text = report.report
      assert.truthy(text:find("MOONPOOL_LOAD_TIMEOUT", 1, true) or text:find("spins.lua", 1, true),
                    text)
    end)

    it("waits until a file that is being written is whole", function()
      start(serving.versions(1), { env = { MOONPOOL_SETTLE = "1000" } })
      host:write { ["scripts/lib/late.lua"] = "return { version" }
      local reload = host:send { ["do"] = "reload" }
      host:write { ["scripts/lib/late.lua"] = "return { version = 7 }" }
      assert.is_true(reload.finish().ok)
      assert.are.equal(7, versions_now().late)
    end)

    it("takes no notice of tools/, of hidden files, and of what is no Lua", function()
      start(serving.versions(1))
      host:write { ["scripts/tools/seed.lua"] = "x = =", ["scripts/.versions.lua"] = "x = =",
                   ["scripts/notes.txt"] = "x = =",
                   ["scripts/lib/versions.lua~"] = "x = =" }
      assert(
        os.execute(
          ("ln -s nobody@nowhere '%s/scripts/.#versions.lua'; mkfifo '%s/scripts/pipe.lua'"):format(
        host.folder.path, host.folder.path)))
      local report = host:reload()
      assert.is_true(report.ok, report.report)
      assert.are.equal(0, report.changed)
    end)

    it("follows scripts/ to another folder, as a release that is linked in", function()
      start(serving.versions(1))
      for name, text in pairs(serving.versions(2)) do host:write { ["next/" .. name] = text } end
      assert(
        os.execute(("cd '%s' && mv scripts old && ln -s next/scripts scripts")
          :format(host.folder.path)))
      assert.is_true(host:reload().ok)
      assert.are.equal(2, versions_now().late)
    end)

    it("says so when there is no scripts/ any more", function()
      start(serving.versions(1))
      assert(os.execute(("rm -r '%s/scripts'"):format(host.folder.path)))
      local report = host:reload()
      assert.is_false(report.ok)
      assert.truthy(report.report:find("cannot read", 1, true), report.report)
      assert.are.equal(1, versions_now().late)
    end)

    it("counts reloads and shows the generation in the metrics", function()
      start(serving.versions(1))
      assert.is_true(host:reload().ok)
      host:write { ["scripts/broken.lua"] = "x = =" }
      assert.is_false(host:reload().ok)
      scratch.await("the ends of two", function() return #host:generations() == 1 end)
      local page = host:ask { ["do"] = "metrics" }.text
      for _, line in ipairs { 'moonpool_reloads_total{result="loaded"} 2',
                              'moonpool_reloads_total{result="refused"} 1',
                              "moonpool_generation 2", "moonpool_generations_open 1" } do
        assert.truthy(page:find("\n" .. line .. "\n", 1, true), page)
      end
    end)

    it("loads a module that is required hours later as it was", function()
      start(serving.versions(1))
      host:write { ["scripts/lib/late.lua"] = "return { version = 2 }" }
      assert.are.equal(1, versions_now().late)
      host.folder.delete "scripts/lib/late.lua"
      assert.are.equal(1, versions_now().late)
    end)
  end)

  it("reloads on SIGHUP", function()
    start(serving.versions(1))
    host:write(serving.versions(2))
    host:signal "HUP"
    scratch.await("the reload", function() return versions_now().operation == 2 end)
  end)

  it("sees a changed file, and none in one that only was touched", function()
    start(serving.versions(1), { env = { MOONPOOL_WATCH = "20" } })
    host:write(serving.versions(1))
    host:write { ["scripts/lib/late.lua"] = "return { version = = 2 }" }
    scratch.await("the refusal", function() return host:log():find("lib/late.lua:1", 1, true) end)
    host:write(serving.versions(2))
    scratch.await("the reload", function() return versions_now().operation == 2 end)
    -- a busy machine may see the files come one by one
    assert.truthy(versions_now().number >= 2)
  end)

  describe("for `moonpool reload`", function()
    local function run(args)
      return command.run(args, { dir = host.folder.path, env = host.env })
    end

    it("loads anew, or tells what is wrong", function()
      start(serving.versions(1))
      host:write(serving.versions(2))
      local output, code = run "reload"
      assert.are.equal(0, code, output)
      assert.truthy(output:find("generation 2", 1, true), output)
      host:write { ["scripts/lib/late.lua"] = "return {" }
      output, code = run "reload"
      assert.are.equal(1, code)
      assert.truthy(output:find("scripts/lib/late.lua:1: ", 1, true), output)
      output, code = run "reload --json"
      assert.are.equal(1, code)
      assert.truthy(output:find('"ok":false', 1, true), output)
    end)

    it("and `moonpool config`, which tells the generation and its files", function()
      start(serving.versions(1))
      local output, code = run "config"
      assert.are.equal(0, code, output)
      assert.truthy(
        output:find(("served by process %d\n  generation 1, current, since 20"):format(host:pid()),
                    1, true), output)
      assert.truthy(output:find("\n    %x+ lib/late.lua\n"), output)
    end)

    it("says so when it does not run, even if it was killed", function()
      start(serving.versions(1))
      host:signal "KILL"
      host:wait()
      local output, code = run "reload"
      assert.are.equal(1, code)
      assert.truthy(output:find("no `moonpool serve`", 1, true), output)
    end)
  end)

  it("lets work in progress end when it is told to stop, and takes no more", function()
    start {
      ["scripts/slow.lua"] = operation 'return { slept = tx:value "select 1 from pg_sleep(0.3)" }' }
    local call = host:send { ["do"] = "call", name = "slow" }
    scratch.await("the call", function() return host:generations()[1].calls == 1 end)
    host:signal "TERM"
    assert.are.same({ slept = 1 }, call.finish().result)
    assert.are.equal(0, host:wait())
  end)
end)
