-- moonpool, told to stop by a signal.
local command  = require "spec.support.process.command"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local scratch  = require "spec.support.data.scratch"

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local contains = inline.contains

describe("moonpool", function()
  local folder

  setup(function() folder = command.folder { ["scripts/.keep"] = "" } end)
  teardown(function() folder.remove() end)

  describe("told to stop", function()
    -- Starts a script that prints "ready" and goes on; sends the signal then. Output (both streams)
    -- and exit code.
    local function signal(name, text, env)
      folder.write("stop.lua", text)
      local words = { "cd", quoted(folder.path), "&& echo $$ && exec env" }
      for key, value in pairs(env or {}) do words[#words + 1] = key .. "=" .. quoted(value) end
      words[#words + 1] = quoted(command.executable()) .. " run stop.lua 2>&1"
      local handle = assert(io.popen(table.concat(words, " "), "r"))
      local pid = assert(handle:read "l")
      assert.are.equal("ready", handle:read "l")
      local began = host.clock()
      assert(os.execute("kill -" .. name .. " " .. pid))
      local output = handle:read "a"
      local _, how, code = handle:close()
      assert.are.equal("exit", how, ("it crashed by signal %d: %s"):format(code, output))
      return output, code, host.clock() - began
    end

    it("by SIGTERM lets work in progress finish", function()
      local output, code = signal("TERM", [[
        local db = require "moonpool.db"
        print "ready"
        io.stdout:flush()
        print("result", db.value "select 7 from pg_sleep(0.3)")
      ]])
      contains(output, "result\t7")
      assert.are.equal(0, code)
    end)

    it("by SIGTERM ends what does not finish within MOONPOOL_DRAIN_TIMEOUT, and rolls it back",
       function()
      local schema = scratch.schema("cli_spec", { "create table cli_spec.things (id int)" })
      local output, code, took = signal("TERM", [[
        local db = require "moonpool.db"
        db.transaction(function(tx)
          tx:count "insert into cli_spec.things values (1)"
          print "ready"
          io.stdout:flush()
          tx:value "select pg_sleep(60)"
        end)
      ]], { MOONPOOL_DRAIN_TIMEOUT = "100" })
      local ok, e = pcall(function()
        assert.are.equal(1, code)
        contains(output, "signal")
        assert.is_true(took < 8, ("it took %.1f s"):format(took))
        scratch.await("the statement to end", function()
          return schema.owner.value [[
            select count(*) = 0 from pg_stat_activity where query like '%pg_sleep(60)%'
              and pid <> pg_backend_pid()]]
        end)
        assert.are.equal(0, schema.owner.value "select count(*) from cli_spec.things")
      end)
      schema.drop()
      if not ok then error(e, 0) end
    end)

    it("by SIGTERM ends a statement of its own too", function()
      local output, code, took = signal("TERM", [[
        print "ready"
        io.stdout:flush()
        require "moonpool.db".value "select pg_sleep(60)"
      ]], { MOONPOOL_DRAIN_TIMEOUT = "100" })
      assert.are.equal(1, code)
      contains(output, "signal")
      assert.is_true(took < 8, ("it took %.1f s"):format(took))
    end)

    it("by SIGTERM ends a lease too", function()
      local output, code = signal("TERM", [[
        require "moonpool.db".lease(function(conn)
          conn.value "select 1"
          print "ready"
          io.stdout:flush()
          conn.value "select pg_sleep(60)"
        end)
      ]], { MOONPOOL_DRAIN_TIMEOUT = "100" })
      assert.are.equal(1, code)
      contains(output, "signal")
    end)

    it("by a second signal ends at once", function()
      local _, code, took = signal("TERM", [[
        local db = require "moonpool.db"
        print "ready"
        io.stdout:flush()
        local self = assert(io.open "/proc/self/stat"):read "n"
        pcall(db.value, "select pg_sleep(0.2)")
        os.execute("kill -TERM " .. self)
        db.value "select pg_sleep(60)"
      ]])
      assert.are.equal(1, code)
      assert.is_true(took < 8, ("it took %.1f s"):format(took))
    end)

    it("takes no new calls", function()
      local output = signal("TERM", [[
        local moonpool = require "moonpool"
        local db       = require "moonpool.db"
        print "ready"
        io.stdout:flush()
        while not moonpool.host.stopping() do db.value "select pg_sleep(0.01)" end
        local ok, e = pcall(moonpool.call, moonpool.operation { run = function() end }, {})
        print(ok, e and e.code)
      ]])
      contains(output, "false\tCLOSED")
    end)
  end)
end)
