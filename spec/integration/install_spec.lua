-- What `cmake --install` (make install, make deb) places: the program, its man pages, completion,
-- the systemd unit and its settings, all made of what the program says itself.
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local moonpool = require "moonpool"

local build = command.executable():match "^(.*)/[^/]+$"

local function run(words)
  local pipe = assert(io.popen(words .. " 2>&1"))
  local text = pipe:read "a"
  local ok = pipe:close()
  return text, ok
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

describe("an installed moonpool", function()
  local folder, prefix

  local function install(destination)
    local words = "DESTDIR='%s' cmake --install '%s' --component host --prefix '%s'"
    local said, ok = run(words:format(destination or "", build, prefix))
    assert(ok, said)
  end

  -- Once for all: nothing changes what is installed.
  setup(function()
    folder = command.folder {}
    prefix = folder.path .. "/usr"
    install()
  end)

  teardown(function() folder.remove() end)

  local function installed(words)
    return run(("PATH='%s/bin':$PATH; cd / && %s"):format(prefix, words))
  end

  -- The words of a part of `moonpool --help`.
  local function named(part)
    local names = {}
    local list = installed "moonpool --help":match("\n" .. part .. "[^\n]*\n(.-)\n\n")
    for name in ("\n" .. list):gmatch "\n  (%l+)" do names[#names + 1] = name end
    assert(#names > 10, part)
    return names
  end

  it("runs, and knows its version", function()
    assert.truthy(installed "moonpool version":find "^moonpool %d+%.%d+%.%d+\n$")
  end)

  it("has a man page for each command and each topic", function()
    local missing = {}
    for part, section in pairs { Commands = 1, Topics = 7 } do
      for _, name in ipairs(named(part)) do
        local path = ("%s/share/man/man%d/moonpool-%s.%d.gz"):format(prefix, section, name, section)
        local text, ok = run("gzip -dc " .. path)
        if not ok or not text:find("\n.SH NAME\nmoonpool-" .. name .. " \\- ", 1, true) then
          missing[#missing + 1] = path
        end
      end
    end
    assert.are.same({}, missing)
    local serve = run("gzip -dc " .. prefix .. "/share/man/man1/moonpool-serve.1.gz")
    for line in installed "moonpool serve --help":gmatch "\n(  MOONPOOL_[^\n]*)" do
      assert.truthy(serve:find(line:gsub("%-", "\\-"), 1, true), line)
    end
  end)

  it("has a unit that starts the program of its prefix with the settings of its prefix", function()
    local unit = read(prefix .. "/lib/systemd/system/moonpool.service")
    assert.truthy(unit:find("\nExecStart=" .. prefix .. "/bin/moonpool serve\n", 1, true), unit)
    local settings = "\nEnvironmentFile=" .. prefix .. "/etc/moonpool/moonpool.env\n"
    assert.truthy(unit:find(settings, 1, true), unit)
    assert.falsy(unit:find "@%u")
  end)

  it("has a settings file of all settings, which sets none and only its owner reads", function()
    local path = prefix .. "/etc/moonpool/moonpool.env"
    local text = read(path)
    for name in pairs(json.decode((installed "moonpool config --json"))) do
      assert.truthy(text:find("\n#" .. name .. "=") or name == "MOONPOOL_OWNER_URL", name)
    end
    local set = run("env -i sh -c 'set -a; . " .. path .. "; env' | grep -E 'MOON|DB_|DATABASE'")
    assert.are.equal("", set)
    assert.are.equal("600\n", (run("stat -c %a " .. path)))
  end)

  it("has a completion of commands, options, topics and the project's operations", function()
    local function completed(...)
      local words = table.concat({ "moonpool", ... }, " ")
      local text = installed(([[bash -c '. %s/share/bash-completion/completions/moonpool
        COMP_WORDS=(%s "%s"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _moonpool
        echo "${COMPREPLY[*]}"']]):format(prefix, words:match "^(.*) ", words:match "[^ ]*$"))
      return text:match "^[^\n]*"
    end
    assert.are.equal("migrate", completed "mig")
    assert.are.equal("--require-migrated", completed("serve", "--req"))
    assert.are.equal("schedules", completed("help", "sche"))
    assert.are.equal("status", completed("migrate", "st"))
    assert.are.equal("create_deal", completed("--app", moonpool.app_dir, "call", "create_d"))
  end)

  it("keeps below DESTDIR, and leaves settings that somebody made", function()
    local destination = folder.path .. "/image"
    local path = destination .. prefix .. "/etc/moonpool/moonpool.env"
    install(destination)
    assert.truthy(read(path):find("#DATABASE_URL=", 1, true))
    local file = assert(io.open(path, "w"))
    file:write "DATABASE_URL=postgres://mine\n"
    file:close()
    install(destination)
    assert.are.equal("DATABASE_URL=postgres://mine\n", read(path))
    local unit = read(destination .. prefix .. "/lib/systemd/system/moonpool.service")
    assert.truthy(unit:find("ExecStart=" .. prefix .. "/bin/moonpool", 1, true), unit)
  end)
end)
