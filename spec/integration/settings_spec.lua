-- Settings, as a person or a shell script gives them to the command line: what is refused, and how.
local command = require "spec.support.process.command"
local host    = require "moonpool.host"
local inline  = require "spec.support.data.inline"
local json    = require "moonpool.json"
local proxy   = require "spec.support.process.proxy"

local secret = "hunter2secret"

local contains = inline.contains

describe("moonpool", function()
  local folder

  setup(function()
    folder = command.folder {
      ["scripts/.keep"] = "",
      ["ok.lua"] = "print('ran', ...)\n",
      ["database.lua"] = "print(require 'moonpool.db'.value 'select 1 + 1')\n",
    }
  end)

  teardown(function() folder.remove() end)

  local function run(args, env)
    return command.streams(args, { dir = folder.path, env = env })
  end

  describe("settings", function()
    for name, value in pairs {
      DB_POOL_MAX = "many", DB_POOL_MIN = "-1", DB_CONNECT_TIMEOUT = "", DB_IDLE_TIMEOUT = "30s",
      DB_QUERY_TIMEOUT = "1.5",
      DB_STATEMENT_TIMEOUT = " 7x", DB_SLOW_QUERY_THRESHOLD = "99999999999999999999999",
      MOONPOOL_LOG_LEVEL = "loud",
      MOONPOOL_STATEMENT_CACHE = "0x10",
    } do
      it(("%s=%q is refused by name"):format(name, value), function()
        local out, err, code = run("run ok.lua", { [name] = value })
        assert.are.equal("", out)
        contains(err, name)
        assert.are.equal(2, code)
      end)
    end

    it("an unknown MOONPOOL_ or DB_ setting is refused by name", function()
      for _, name in ipairs { "MOONPOOL_POOL_MAX", "MOONPOOL_LANE_LIMITS", "DB_POOL_MAXIMUM" } do
        local out, err, code = run("run ok.lua", { [name] = "5" })
        assert.are.equal("", out)
        contains(err, name)
        assert.are.equal(2, code)
      end
    end)

    it("an unknown one is told with the nearest that there is", function()
      for name, meant in pairs { DB_CONECT_TIMEOUT = "DB_CONNECT_TIMEOUT",
                                 moonpool_hosts = "MOONPOOL_HOSTS",
                                 Moonpool_Listen = "MOONPOOL_LISTEN",
                                 DB_POOLMAX = "DB_POOL_MAX",
                                 MOONPOOL_POOL_MIN = "DB_POOL_MIN",
                                 DB_STATEMENT_TIMEOUTS = "DB_STATEMENT_TIMEOUT",
                                 MOONPOOL_LISTN = "MOONPOOL_LISTEN",
                                 MOONPOOL_OWNER_URI = "MOONPOOL_OWNER_URL" } do
        local _, err, code = run("run ok.lua", { [name] = "3" })
        contains(err, "unknown setting " .. name .. " (did you mean " .. meant .. "?)",
                 "moonpool config")
        assert.are.equal(2, code)
      end
      local _, err = run("run ok.lua", { DB_HOST = "db.example" })
      contains(err, "unknown setting DB_HOST", "names that begin with DB_")
    end)

    it("a variable that is named much like one is told, and not refused", function()
      for name, meant in pairs { DATABSE_URL = "DATABASE_URL", DATABASE_URI = "DATABASE_URL",
                                 database_url = "DATABASE_URL", DBPOOL_MAX = "DB_POOL_MAX",
                                 db_pool_max = "DB_POOL_MAX", MOONPOL_STATE = "MOONPOOL_STATE",
                                 MONPOOL_HOSTS = "MOONPOOL_HOSTS" } do
        for _, args in ipairs { "run ok.lua", "config" } do
          local out, err, code = run(args, { [name] = secret, [meant] = false })
          contains(err, name .. " is not a setting", "if " .. meant .. " is meant, rename it")
          assert.is_nil((out .. err):find(secret, 1, true))
          assert.are.equal(0, code)
        end
      end
      -- Nothing is likely to be meant that is set already, and other programs have names of theirs.
      local _, err = run("run ok.lua", { DBPOOL_MAX = "5", DB_POOL_MAX = "5", DATABASE = "x",
                                         PGHOST = "x", MOON_PHASE = "x", POOL_MAX = "5" })
      assert.are.equal("", err)
    end)

    it("are judged alike by config and by serve", function()
      local bad = {
        DATABASE_URL = { " ", "\t\n", "postgres://", "postgres:///", "postgresql://someone@/",
                         "postgres://,/", "dbname=''", "port=5432", " postgres://127.0.0.1/x" },
        MOONPOOL_CHECK = { "warning" }, MOONPOOL_ENV = { "develop", " " },
        MOONPOOL_LOG = { "xml" },
        MOONPOOL_FLUSH = { "lazy" }, MOONPOOL_MCP = { "yes" },
        MOONPOOL_LOG_LEVEL = { "loud" },
        MOONPOOL_TZ = { "Europe/Atlantis", "Europe", "tzdata.zi", "../zoneinfo/UTC", " ",
                        "/usr/share/zoneinfo/UTC", ("x"):rep(400) },
        MOONPOOL_LISTEN = { "nonsense", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:", ":5000",
                            "999.1.1.1:5000", "[::g]:5000", "::1:5000", "[127.0.0.1]:1",
                            "127.0.0.1:+1", "127.0.0.1: 1", "localhost:5000" },
        MOONPOOL_CORS_ORIGINS = { "desk.example", "https://desk.example/", "*, https://a.example" },
        MOONPOOL_HOSTS = { "https://desk.example", "desk.example:443", "a b/c" },
        MOONPOOL_ALERT_WEBHOOK = { "hooks.example/" .. secret, "ftp://hooks.example", "http:///x" },
        MOONPOOL_STATE = { "ok.lua", "ok.lua/state" }, MOONPOOL_PGBIN = { "/nonexistent" },
      }
      bad.MOONPOOL_OWNER_URL = bad.DATABASE_URL
      bad.MOONPOOL_OTLP_ENDPOINT = bad.MOONPOOL_ALERT_WEBHOOK
      for name, setting in pairs(json.decode((run "config --json"))) do
        if type(setting.value) == "number" then bad[name] = { "-1" } end
        assert.is_table(bad[name], name)
      end
      bad.DB_POOL_MAX = { "", " ", " 7", "+7", "0x10", "1e3", "7 ", "99999999999999999999999" }
      for name, values in pairs(bad) do
        for _, value in ipairs(values) do
          local env = { [name] = value, MOONPOOL_LOG_LEVEL = "error" }
          env[name] = value
          if name == "MOONPOOL_PGBIN" then env.DATABASE_URL = false end
          local said = {}
          for i, args in ipairs { "config", "serve" } do
            local _, err, code = run(args, env)
            assert.are.equal(2, code, name .. "=" .. value .. ": " .. err)
            contains(err, name)
            assert.is_nil(err:find(secret, 1, true), err)
            said[i] = err:gsub("^moonpool %a+: ", "")
          end
          assert.are.equal(said[1], said[2])
        end
      end
      local out, err = run("config", { MOONPOOL_TZ = "Mars" })
      contains(out, "MOONPOOL_TZ", "DB_POOL_MAX")
      contains(err, 'MOONPOOL_TZ is "Mars", which is no time zone')
      for name, value in pairs { MOONPOOL_TZ = "Europe/Berlin", MOONPOOL_LISTEN = "[::1]:0",
                                 MOONPOOL_STATE = "not/there/yet",
                                 MOONPOOL_HOSTS = "*.desk.example",
                                 DATABASE_URL = "postgres:///shop", MOONPOOL_LOG = "",
                                 MOONPOOL_OWNER_URL = "host=/tmp" } do
        assert.are.equal(0, (select(3, run("config", { [name] = value }))), name)
      end
    end)

    it("a URL that is empty, or not understood, or of an unknown service is refused", function()
      for _, name in ipairs { "DATABASE_URL", "MOONPOOL_OWNER_URL" } do
        for value, said in pairs {
          [""] = name .. " is empty; unset it for the private database",
          ["127.0.0.1:5432/shop"] = name .. ": the connection string cannot be understood",
          ["mysql://root:" .. secret .. "@127.0.0.1/shop"] =
            name .. ": the connection string cannot be understood",
          ["service=nowhere password=" .. secret] = name .. ": the connection string's service",
        } do
          for _, args in ipairs { "run database.lua", "serve" } do
            local out, err, code = run(args, { [name] = value })
            assert.are.equal("", out)
            contains(err, said)
            assert.is_nil(err:find(secret, 1, true), err)
            assert.are.equal(2, code)
          end
        end
      end
    end)

    it("a service of DATABASE_URL leads to where the service file says", function()
      local socket_dir, port = proxy.place(host.app_url)
      local lines = { "[other]", "host=127.0.0.1", "port=1", "[shop]", "port=" .. port,
                      "host=" .. socket_dir,
                      "user=" .. host.url_user(host.app_url),
                      "dbname=" .. host.app_url:match "^%a+://[^/?]*/([^?]*)" }
      folder.write("services.conf", table.concat(lines, "\n") .. "\n")
      for _, url in ipairs { "service=shop", "postgres:///?service=shop" } do
        local out, err = run("run database.lua",
                             { DATABASE_URL = url, PGSERVICEFILE = folder.path
                               .. "/services.conf" })
        assert.are.equal("2\n", out, err)
      end
      local _, err, code = run("run database.lua", { DATABASE_URL = "service=other",
                                                     PGSERVICEFILE = folder.path
                                                       .. "/services.conf" })
      contains(err, '127.0.0.1", port 1 ')
      assert.are_not.equal(0, code)
    end)

    it("a minimum above the maximum is refused", function()
      local _, err, code = run("run ok.lua", { DB_POOL_MAX = "2", DB_POOL_MIN = "3" })
      contains(err, "DB_POOL_MIN", "DB_POOL_MAX")
      assert.are.equal(2, code)
      assert.are.equal(0, (select(3, run("run ok.lua", { DB_POOL_MAX = "2" }))))
    end)
  end)
end)
