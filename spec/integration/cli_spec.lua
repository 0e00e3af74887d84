-- The command line, as a person or a shell script meets it: output, errors, exit codes, secrets.
local command  = require "spec.support.process.command"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local json     = require "moonpool.json"

local secret = "hunter2secret"
local closed_port = ("postgres://someone:%s@127.0.0.1:1/some"):format(secret)

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local contains = inline.contains

describe("moonpool", function()
  local folder

  setup(function()
    folder = command.folder {
      ["scripts/greet.lua"] = [[
        local moonpool = require "moonpool"
        local is       = require "moonpool.is"
        return moonpool.operation {
          summary = "Greets",
          input   = is.object { first_name = is.string, how_often = is.integer:min(1):default(1),
            price = is.decimal:optional() },
          run     = function(tx, input)
            return tx:one("select $text::text as full_greeting, $n::int as how_often, \z
                28500.00 as unit_price, null as no_thing",
              { text = "Hello, " .. input.first_name, n = input.how_often })
          end,
        }
      ]],
      ["scripts/fail.lua"] = [[
        local moonpool = require "moonpool"
        return moonpool.operation { run = function(tx, input)
          if input.domain then moonpool.fail("TEAPOT", "short and stout", { status = 418 }) end
          if input.sql then return tx:value "select 1 / 0 as secret_column" end
          error "a bug in the script"
        end }
      ]],
      ["scripts/says.lua"] = [[
        local moonpool = require "moonpool"
        return moonpool.operation { run = function()
          print("printed", 7)
          moonpool.log.info "logged"
          return 1
        end }
      ]],
      ["scripts/nothing.lua"] = [[
        return require "moonpool".operation { run = function() end }
      ]],
      ["scripts/broken.lua"] = "local x = 1\nlocal y = = 2\n",
      ["scripts/raises.lua"] = "error 'while it loads'\n",
      ["scripts/other.lua"] = "return 42\n",
      ["migrations/0001_nothing.sql"] = "create table nothing ();\n",
      ["input.json"] = '{"firstName": "File"}',
      ["bad.json"] = '{"firstName": }',
      ["ok.lua"] = "print('ran', ...)\nprint('arg', arg[0], arg[1], #arg)\n",
      ["status.lua"] = "return tonumber((...))\n",
      ["fails.lua"] = "local function inner()\n  error 'out of ideas'\nend\ninner()\n",
      ["syntax.lua"] = "x = = 1\n",
      ["database.lua"] = "print(require 'moonpool.db'.value 'select 1 + 1')\n",
      ["sql.lua"] = "require 'moonpool.db'.value 'select nothing'\n",
    }
  end)

  teardown(function() folder.remove() end)

  local function run(args, env, stdin)
    return command.streams(args, { dir = folder.path, env = env, stdin = stdin })
  end

  -- The error object that `moonpool call` wrote.
  local function call_error(args, expected_code, stdin)
    local out, err, code = run("call " .. args, nil, stdin)
    assert.are.equal("", out)
    assert.are.equal(expected_code, code, err)
    return json.decode(err).error, err
  end

  describe("by itself", function()
    it("prints its help for --help, -h and help", function()
      local help = run "--help"
      contains(help, "Usage: moonpool", "call", "run", "migrate", "spec", "config", "version",
               "Exit status")
      assert.are.equal(help, (run "-h"))
      assert.are.equal(help, (run "help"))
      assert.are.equal(0, (select(3, run "--help")))
    end)

    it("prints its help for no command, as a usage error", function()
      local _, _, code = run ""
      assert.are.equal(2, code)
    end)

    for _, name in ipairs { "call", "run", "migrate", "spec", "config", "db", "bench" } do
      it(name .. " --help prints its own usage, without a database", function()
        local out, err, code = run(name .. " --help", { DATABASE_URL = closed_port })
        contains(out, "Usage: moonpool " .. name)
        assert.are.equal("", err)
        assert.are.equal(0, code)
      end)
    end

    it("tells what each benchmark is and takes, and has one line for an option that it does not",
       function()
      local app = "--app " .. quoted(host.app_dir) .. " bench "
      for name in pairs { bulk = 1, compare = 1, cpu = 1, deal = 1, indexes = 1, real = 1,
                           scrape = 1, select = 1, transfer = 1 } do
        local out, err, code = run(app .. name .. " --help", { DATABASE_URL = closed_port })
        assert.are.same({ "", 0 }, { err, code })
        contains(out, "Usage: moonpool bench " .. name, "moonpool bench ")
      end
      for args, said in pairs {
        ["cpu --round 3"] = "unknown option --round", ["cpu --rounds"] = "--rounds needs a value",
        ["deal --db postgres:/// --isolation x"] = "--isolation is rc or ser, not x",
        ["bulk --cases 0"] = "unknown case 0", ["deal --peers x"] = "unknown peer x",
      } do
        local out, err, code = run(app .. args)
        assert.are.same({ "", 2, 1 }, { out, code, select(2, err:gsub("\n", "")) })
        contains(err, "moonpool bench: " .. said)
      end
    end)

    it("shows an operation's input behind its name, without a database", function()
      local out, _, code = run("call greet --help", { DATABASE_URL = closed_port })
      assert.are.equal(0, code)
      contains(out, "greet: Greets", "Input:", "firstName")
    end)

    it("prints its version", function()
      assert.are.equal("moonpool " .. host.version .. "\n", (run "version"))
      assert.are.equal("moonpool " .. host.version .. "\n", (run "--version"))
    end)

    for given, meant in pairs { cal = "call", callx = "call", confg = "config", migarte = "migrate",
                                versoin = "version",
                                runn = "run" } do
      it("suggests " .. meant .. " for " .. given, function()
        local out, err, code = run(given)
        assert.are.equal("", out)
        contains(err, given, "did you mean \"" .. meant .. "\"")
        assert.are.equal(2, code)
      end)
    end

    it("refuses an unknown command that is like none, and unknown options", function()
      local _, err, code = run "xyzzy"
      contains(err, "xyzzy", "--help")
      assert.is_nil(err:find("did you mean", 1, true))
      assert.are.equal(2, code)
      for _, args in ipairs { "--colour", "call --colour greet", "config --colour",
                              "call greet {} more", "call", "run" } do
        _, err, code = run(args)
        assert.are.equal(2, code, args)
        contains(err, "moonpool")
      end
    end)

    it("refuses a project folder that is not there", function()
      local _, err, code = run "--app /nonexistent/folder call greet"
      contains(err, "/nonexistent/folder")
      assert.are.equal(2, code)
    end)

    it("works in another folder with --app", function()
      local handle = io.popen(("cd / && %s --app %s call greet '{\"firstName\": \"App\"}' --json")
        :format(
        quoted(command.executable()), quoted(folder.path)))
      contains(handle:read "a", "Hello, App")
      handle:close()
    end)
  end)

  describe("call", function()
    it("prints the result as JSON in camelCase, alone on stdout", function()
      local out, err, code = run [[call greet '{"firstName": "Ann", "howOften": 2}']]
      assert.are.equal(
        '{"fullGreeting":"Hello, Ann","howOften":2,"unitPrice":"28500.00","noThing":null}\n', out)
      assert.are.equal("", err)
      assert.are.equal(0, code)
    end)

    it("reads the input from a file, from stdin, or takes {}", function()
      contains(run "call greet @input.json", "Hello, File")
      contains(run("call greet -", nil, '{"firstName": "Pipe"}'), "Hello, Pipe")
      assert.are.equal("null\n", (run "call nothing"))
    end)

    it("indents with --pretty", function()
      local out = run [[call --pretty greet '{"firstName": "Ann"}']]
      contains(out, "\n  \"fullGreeting\": \"Hello, Ann\"")
    end)

    it("a missing input file is a usage error that names it", function()
      local e = call_error("greet @missing.json", 2)
      contains(e.message, "missing.json", "No such file")
      call_error("greet @" .. folder.path, 2)
    end)

    it("malformed JSON is refused with line and column", function()
      for _, text in ipairs { '{"firstName": ', '{"firstName": "a",}', "{'firstName': 'a'}", "",
                              '{"a": 1} x',
                              '{"firstName": "a", "firstName": "b"}', '"\255"' } do
        local e = call_error("greet -", 1, text)
        assert.are.equal("VALIDATION_ERROR", e.code)
        contains(e.message, "JSON")
      end
      contains(call_error("greet @bad.json", 1).message, "line 1")
    end)

    it("input that is no object is refused", function()
      for _, text in ipairs { "[]", "1", "null", '"x"' } do
        assert.are.equal("VALIDATION_ERROR", call_error("greet -", 1, text).code)
      end
    end)

    it("an unknown field is refused, naming the nearest", function()
      local e, raw = call_error([[greet '{"firstNam": "Ann"}']], 1)
      assert.are.equal("VALIDATION_ERROR", e.code)
      assert.are.equal(400, e.status)
      contains(raw, "firstNam", "firstName")
    end)

    it("the inside's spelling is unknown at the border", function()
      assert.are.equal("VALIDATION_ERROR", call_error([[greet '{"first_name": "Ann"}']], 1).code)
    end)

    it("wrong types are refused, all at once, by the caller's names", function()
      local e, raw = call_error([[greet '{"firstName": 7, "howOften": "two"}']], 1)
      assert.are.equal("VALIDATION_ERROR", e.code)
      contains(raw, "firstName", "howOften")
      e = call_error([[greet '{"firstName": "a", "howOften": 0}']], 1)
      assert.are.equal("VALIDATION_ERROR", e.code)
      assert.are.equal("VALIDATION_ERROR", call_error("greet '{}'", 1).code)
    end)

    it("an unknown operation is a usage error that names the nearest", function()
      local e = call_error("gret '{}'", 2)
      assert.are.equal("UNKNOWN_OPERATION", e.code)
      contains(e.message, "gret", "did you mean `greet`?")
      assert.is_nil(call_error("xyzzyxyzzy", 2).message:find("did you mean", 1, true))
    end)

    it("an operation's name cannot leave the folder", function()
      for _, name in ipairs { "../input", "lib/x", "greet.lua", "/etc/passwd" } do
        assert.are.equal("UNKNOWN_OPERATION", call_error(name, 2).code)
      end
    end)

    it("a script with a syntax error is told with file and line, others work", function()
      local e, raw = call_error("broken", 1)
      contains(raw, "scripts/broken.lua:2")
      assert.are.equal("SCRIPT_ERROR", e.code)
      contains(run "call nothing", "null")
    end)

    it("a script that fails while it loads, or returns no operation", function()
      contains(select(2, call_error("raises", 1)), "while it loads", "scripts/raises.lua:1")
      contains(select(2, call_error("other", 1)), "scripts/other.lua", "moonpool.operation")
    end)

    it("a domain error is JSON on stderr, exit 1", function()
      local e = call_error([[fail '{"domain": true}']], 1)
      assert.are.same({ "TEAPOT", "short and stout", 418, "fail" },
                      { e.code, e.message, e.status, e.operation })
    end)

    it("a script's error names file and line", function()
      local e = call_error("fail", 1)
      assert.are.equal("SCRIPT_ERROR", e.code)
      assert.are.equal("a bug in the script", e.message)
      contains(e.line, "scripts/fail.lua:5")
    end)

    it(
      "tells SQLSTATE, position and traceback to who writes the operation, and never SQL or DETAIL",
      function()
      local e, raw = call_error([[fail '{"sql": true}']], 1)
      assert.are.same({ "division by zero", "22012" }, { e.message, e.sqlstate })
      assert.truthy(table.concat(e.traceback, "\n"):find("scripts/fail.lua:4", 1, true), raw)
      assert.is_nil(raw:find("secret_column", 1, true))
      assert.is_nil(call_error([[fail '{"domain": true}']], 1).traceback)
    end)

    it("shows on stderr what the operation prints and logs", function()
      local out, err, code = run "call says"
      assert.are.same({ "1\n", 0 }, { out, code })
      contains(err, '"message":"printed', '"message":"logged"')
    end)
  end)

  describe("run", function()
    it("passes arguments, also those that look like options", function()
      local out, err, code = run "run ok.lua one --two 'three four'"
      assert.are.equal("ran\tone\t--two\tthree four\narg\tok.lua\tone\t3\n", out)
      assert.are.equal("", err)
      assert.are.equal(0, code)
    end)

    it("ends with the integer that the script returns", function()
      for _, status in ipairs { 0, 1, 7 } do
        assert.are.equal(status, (select(3, run("run status.lua " .. status))))
      end
    end)

    it("has the database", function()
      assert.are.equal("2\n", (run "run database.lua"))
    end)

    it("an error goes to stderr with place and traceback, exit 1", function()
      local out, err, code = run "run fails.lua"
      assert.are.equal("", out)
      contains(err, "fails.lua:2", "out of ideas", "traceback", "fails.lua:4")
      assert.are.equal(1, code)
    end)

    it("a failed statement names the script's line", function()
      local _, err, code = run "run sql.lua"
      contains(err, "sql.lua:1", "nothing", "42703")
      assert.are.equal(1, code)
    end)

    it("a syntax error names file and line", function()
      local _, err, code = run "run syntax.lua"
      contains(err, "syntax.lua:1")
      assert.are.equal(1, code)
    end)

    it("a missing script is a usage error", function()
      local _, err, code = run "run missing.lua"
      contains(err, "missing.lua: No such file or directory")
      assert.are.equal(2, code)
    end)

    it("needs no database as long as the script asks for none", function()
      assert.are.equal(0, (select(3, run("run ok.lua", { DATABASE_URL = closed_port }))))
    end)
  end)

  describe("without its database", function()
    local urls = {
      ["a closed port"]        = closed_port,
      ["a socket that is not there"] =
        ("postgres://someone:%s@/some?host=/nonexistent/folder"):format(secret),
      ["key and value"]        = ("host=127.0.0.1 port=1 user=someone password=%s"):format(secret),
      ["a host that is unknown"] = ("postgres://someone:%s@nowhere.invalid/some"):format(secret),
    }
    for what, url in pairs(urls) do
      it(what .. " is exit 3, without the password", function()
        for _, args in ipairs { "call nothing", "run database.lua", "migrate status" } do
          local out, err, code = run(args, { DATABASE_URL = url, MOONPOOL_OWNER_URL = url })
          -- an operation that asks for nothing may not even notice
          if args ~= "call nothing" or code ~= 0 then
            assert.are.equal(3, code, args .. ": " .. err)
            assert.is_true(#err > 10)
          end
          assert.is_nil((out .. err):find(secret, 1, true), err)
        end
      end)
    end

    for what, url in pairs {
      ["a bracket"]   = ("postgres://someone:%s@[::1/some"):format(secret),
      ["an escape"]   = ("postgres://someone:%s%%zz@127.0.0.1/some"):format(secret),
      ["a port"]      = ("postgres://someone:%s@127.0.0.1:port/some"):format(secret),
      ["an option"]   = ("postgres://someone:%s@127.0.0.1/some?colour=red"):format(secret),
      ["no scheme"]   = ("//someone:%s@127.0.0.1/some"):format(secret),
      ["nothing"]     = "nonsense",
    } do
      it("a URL with a fault in " .. what .. " is told, without the password", function()
        local out, err, code = run("run database.lua", { DATABASE_URL = url })
        assert.is_true(code == 1 or code == 2 or code == 3, tostring(code))
        contains(err, "moonpool")
        assert.is_nil((out .. err):find(secret, 1, true), err)
      end)
    end

    it("a role that does not exist", function()
      local url = host.app_url:gsub("moonpool_app", "nobody_at_all", 1)
      local _, err, code = run("run database.lua", { DATABASE_URL = url })
      assert.are.equal(3, code, err)
      contains(err, "nobody_at_all")
    end)

    it("a database that does not exist", function()
      local url = host.app_url:gsub("^(%a+://[^/?]*/)[^?]*", "%1no_such_database")
      local _, err, code = run("run database.lua", { DATABASE_URL = url })
      assert.are.equal(3, code, err)
      contains(err, "no_such_database")
    end)

    it("migrate needs the owner's URL beside DATABASE_URL", function()
      local _, err, code = run("migrate status", { MOONPOOL_OWNER_URL = false })
      contains(err, "MOONPOOL_OWNER_URL")
      assert.are.equal(2, code)
    end)
  end)

  describe("config", function()
    it("prints every setting, its value and origin", function()
      local out, err, code = run("config", { DB_POOL_MAX = "7" })
      assert.are.equal("", err)
      assert.are.equal(0, code)
      for _, name in ipairs { "DATABASE_URL", "DB_POOL_MAX", "DB_POOL_MIN", "DB_CONNECT_TIMEOUT",
                              "DB_IDLE_TIMEOUT",
                              "DB_STATEMENT_TIMEOUT", "DB_QUERY_TIMEOUT",
                              "DB_SLOW_QUERY_THRESHOLD" } do
        contains(out, name)
      end
      assert.matches("DB_POOL_MAX%s+7%s+environment", out)
      assert.matches("DB_POOL_MIN%s+5%s+default", out)
    end)

    it("masks passwords, in every form", function()
      for _, url in ipairs { closed_port, "host=127.0.0.1 password=" .. secret,
                             "host=127.0.0.1 password='" .. secret .. "' user=x",
                             "postgres://someone@127.0.0.1/some?password=" .. secret,
                             ("postgres://someone:%s@[::1/some"):format(secret) } do
        for _, args in ipairs { "config", "config --json" } do
          local out, err, code = run(args, { DATABASE_URL = url, MOONPOOL_OWNER_URL = url })
          assert.are.equal(url:find "%[::1/" and 2 or 0, code)
          assert.is_nil((out .. err):find(secret, 1, true), url)
        end
      end
    end)

    it("--json is JSON", function()
      local out = run("config --json",
                      { DB_POOL_MAX = "7", DATABASE_URL = "host=/tmp user='a\"b'" })
      local value = json.decode(out)
      assert.are.equal(7, value.DB_POOL_MAX.value)
      assert.are.equal("environment", value.DB_POOL_MAX.origin)
      assert.are.equal("default", value.DB_POOL_MIN.origin)
    end)
  end)
end)
