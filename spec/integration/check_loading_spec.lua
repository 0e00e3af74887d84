-- MOONPOOL_CHECK: what serve, reload and spec do with mistakes in scripts/.
local command = require "spec.support.process.command"
local scratch = require "spec.support.data.scratch"
local serving = require "spec.support.process.serving"

local function operation(sql)
  return ('return require "moonpool".operation { run = function(tx) return tx:value "%s" end }\n')
    :format(sql)
end

local wrong, right = operation "select nothing_like_it", operation "select 1"
local fault = 'scripts/a.lua:1:82: column "nothing_like_it" does not exist'

describe("MOONPOOL_CHECK", function()
  local host

  local function serve(text, mode, options)
    options = options or {}
    options.env = { MOONPOOL_CHECK = mode, MOONPOOL_LOG = "text",
                    MOONPOOL_WORKERS = options.workers }
    host = serving.start({ ["scripts/a.lua"] = text }, options)
    return host
  end

  after_each(function()
    if host then host:stop() end
    host = nil
  end)

  it("=warn lets serve start, and the log tells the mistakes", function()
    serve(wrong, "warn")
    scratch.await("the warning", function() return host:log():find(fault, 1, true) end)
    assert.matches("warn", host:log():match("[^\n]*" .. fault:gsub("%p", "%%%0")))
  end)

  it("=warn tells them once, however many workers there are", function()
    serve(wrong, "warn", { workers = "3" })
    host:reload()
    scratch.await("both warnings", function()
      return select(2, host:log():gsub(fault:gsub("%p", "%%%0"), "")) == 2
    end)
    host:reload()
    scratch.await("the third", function()
      return select(2, host:log():gsub(fault:gsub("%p", "%%%0"), "")) >= 3
    end)
    assert.are.equal(3, select(2, host:log():gsub(fault:gsub("%p", "%%%0"), "")))
  end)

  it("=refuse keeps serve from starting", function()
    serve(wrong, "refuse", { broken = true })
    scratch.await("its end", function() return host:exit_code() end)
    assert.are.equal(1, host:exit_code())
    assert.matches(fault, host:log(), 1, true)
  end)

  it("=refuse refuses a reload, and the state before goes on", function()
    serve(right, "refuse")
    host.folder.write("scripts/a.lua", wrong)
    local report = host:reload()
    assert.is_false(report.ok)
    assert.matches(fault, report.report, 1, true)
    host.folder.write("scripts/a.lua", operation "select 2")
    assert.is_true(host:reload().ok)
  end)

  it("decides whether specs run", function()
    local folder = command.folder {
      ["scripts/a.lua"] = wrong,
      ["spec/some_spec.lua"] = "it('runs', function() print 'the spec has run' end)\n",
    }
    finally(folder.remove)
    for mode, expected in pairs { refuse = 1, warn = 0 } do
      local output, code = command.run("spec", { dir = folder.path,
        env = { MOONPOOL_CHECK = mode, DATABASE_URL = false, MOONPOOL_OWNER_URL = false } })
      assert.are.equal(expected, code, output)
      assert.matches(fault, output, 1, true)
      assert.are.equal(mode == "warn", output:find "the spec has run" ~= nil)
    end
  end)
end)
