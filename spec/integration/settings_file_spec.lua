-- moonpool.conf, the settings file of a project: every command reads it, and the environment wins.
local command = require "spec.support.process.command"
local inline  = require "spec.support.data.inline"
local json    = require "moonpool.json"

local contains = inline.contains

describe("moonpool.conf", function()
  local folder

  before_each(function()
    folder = command.folder { ["scripts/.keep"] = "", ["ok.lua"] = "print 'ran'\n" }
  end)

  after_each(function() folder.remove() end)

  local function run(args, text, env)
    folder.write("moonpool.conf", text)
    return command.streams(args, { dir = folder.path, env = env })
  end

  local function settings(text, env)
    return json.decode((run("config --json", text, env)))
  end

  it("sets what the environment does not", function()
    local all = settings([[
      # a comment
      DB_POOL_MAX = 7     # seven
      MOONPOOL_TZ="Europe/Berlin" # quoted

        MOONPOOL_HOSTS =desk.example#1
      DB_POOL_MIN = 3
    ]], { DB_POOL_MIN = "2", DB_POOL_MAX = false, MOONPOOL_TZ = false, MOONPOOL_HOSTS = false })
    assert.are.same({ value = 7, origin = "moonpool.conf:2" }, all.DB_POOL_MAX)
    assert.are.same({ value = "Europe/Berlin", origin = "moonpool.conf:3" }, all.MOONPOOL_TZ)
    assert.are.same({ value = 2, origin = "environment" }, all.DB_POOL_MIN)
    assert.are.same({ value = 1000, origin = "default" }, all.DB_SLOW_QUERY_THRESHOLD)
    local out, err, code = run("run ok.lua", "DB_POOL_MAX = 7\n")
    assert.are.same({ "ran\n", "", 0 }, { out, err, code })
  end)

  it("is refused with file, line and what may be meant", function()
    for text, told in pairs {
      ["\nDB_POL_MAX = 7\n"] = "moonpool.conf:2: there is no setting DB_POL_MAX; \z
        did you mean DB_POOL_MAX?",
      ["pool_max = 7\n"] = "moonpool.conf:1: there is no setting pool_max; \z
        did you mean DB_POOL_MAX?",
      ["POSTGRES = x\n"] = "moonpool.conf:1: there is no setting POSTGRES;",
      ["DB_POOL_MAX 7\n"] = "moonpool.conf:1: there is no =",
      ["= 7"] = "moonpool.conf:1: the name is missing",
      ["MOONPOOL_TZ = 'UTC"] = "moonpool.conf:1: a quote is not closed",
      ["MOONPOOL_TZ = 'UTC' x"] = "moonpool.conf:1: a quote is not closed, or something is behind",
      ["DB_POOL_MAX = 7\n#\nDB_POOL_MAX = 8"] = "moonpool.conf:3: DB_POOL_MAX is set in line 1",
      ["DB_POOL_MAX = many"] = 'moonpool.conf:1: DB_POOL_MAX is "many"; it must be a whole number',
      ["MOONPOOL_LOG_LEVEL = loud"] = 'moonpool.conf:1: MOONPOOL_LOG_LEVEL is "loud"; it must be',
      ["MOONPOOL_APP = /tmp"] = "moonpool.conf:1: MOONPOOL_APP is for the environment only",
    } do
      for _, args in ipairs { "run ok.lua", "config", "serve" } do
        local _, err, code = run(args, text, { MOONPOOL_LOG_LEVEL = false })
        contains(err, told)
        assert.are.equal(2, code, err)
      end
    end
    local out, _, code = run("help settings", "nonsense")
    contains(out, "DB_POOL_MAX")
    assert.are.equal(0, code)
  end)

  it("gives the project a private database, if no other is named", function()
    local function state_of(text, env)
      env.DATABASE_URL, env.MOONPOOL_OWNER_URL = false, false
      return json.decode((run("db status --json", text, env))).stateDir
    end
    local base = folder.path .. "/base"
    local own = state_of("", { MOONPOOL_STATE = false, XDG_STATE_HOME = base, HOME = base })
    local name = folder.path:match "[^/]*$":sub(1, 16)
    contains(own, "/moonpool/" .. name .. "-")
    assert.are.equal(folder.path .. "/here", state_of("MOONPOOL_STATE = here", {
      MOONPOOL_STATE = false }))
    assert.are.equal(base, state_of("MOONPOOL_STATE = here", { MOONPOOL_STATE = base }))
  end)
end)
