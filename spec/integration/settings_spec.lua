-- Settings, as a person or a shell script gives them to the command line: what is refused, and how.
local command = require "spec.support.command"
local host    = require "moonpool.host"
local inline  = require "spec.support.inline"
local proxy   = require "spec.support.proxy"

local secret = "hunter2secret"

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

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

  -- Runs `moonpool ARGS` in the folder: stdout, stderr, exit code.
  local function run(args, env)
    local err_path = os.tmpname()
    local words = { "cd", quoted(folder.path), "&& env" }
    for name, value in pairs(env) do words[#words + 1] = name .. "=" .. quoted(value) end
    words[#words + 1] = quoted(command.executable()) .. " " .. args .. " 2>" .. err_path
    local handle = assert(io.popen(table.concat(words, " "), "r"))
    local out = handle:read "a"
    local _, _, code = handle:close()
    local file = assert(io.open(err_path))
    local err = file:read "a"
    file:close()
    os.remove(err_path)
    return out, err, code
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
