-- The texts: `moonpool help TOPIC` (lua/moonpool/help/), README.md, CONTRIBUTING.md, SECURITY.md.
-- What they name exists, and their examples load.
local codes    = require "moonpool.script.codes"
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local lfs      = require "lfs"
local moonpool = require "moonpool"
local sources  = require "spec.support.data.sources"

local function run(args)
  return command.run(args, { dir = moonpool.app_dir, env = { MOONPOOL_LOG_LEVEL = "error" } })
end

local topics, texts = {}, {}
for name in lfs.dir(moonpool.app_dir .. "/lua/moonpool/help") do
  local topic = name:match "^(%l+)%.md$"
  if topic then
    topics[#topics + 1] = topic
    texts[topic] = sources.read("lua/moonpool/help/" .. name)
  end
end
table.sort(topics)
texts["README.md"] = sources.read "README.md"
for _, path in ipairs { "CONTRIBUTING.md", "SECURITY.md", "src/README.md" } do
  if lfs.attributes(moonpool.app_dir .. "/" .. path) then texts[path] = sources.read(path) end
end

local function report(problems) assert.are.equal("", table.concat(problems, "\n")) end

-- A text without its code blocks.
local function prose(text) return (("\n" .. text):gsub("\n```.-\n```", "")) end

-- Calls fn(language, code) for each code block.
local function blocks(text, fn)
  for language, code in text:gmatch "\n```(%l+)\n(.-\n)```" do fn(language, code) end
end

-- What `moonpool help` lists in front of each line.
local function listed(heading)
  local names = {}
  for line in run "help":match(heading .. "[^\n]*\n(.-)\n\n"):gmatch "[^\n]+" do
    names[line:match "^  (%l+)" or ""] = true
  end
  names[""] = nil
  return names
end

describe("moonpool help", function()
  local commands = listed "Commands"

  it("lists every topic and prints it as it is", function()
    local names = listed "Topics"
    for _, topic in ipairs(topics) do
      assert.is_true(names[topic], topic)
      local text, code = run("help " .. topic)
      assert.are.equal(texts[topic], text)
      assert.are.equal(0, code)
      assert.matches("^# " .. topic .. ": %w", text)
      assert.matches("See also: moonpool help %l", text)
      names[topic] = nil
    end
    assert.is_nil(next(names))
  end)

  it("prints a command's help", function()
    for name in pairs(commands) do
      if name ~= "help" then
        local text, code = run("help " .. name)
        if not texts[name] then assert.are.same({ run(name .. " --help") }, { text, code }) end
        assert.truthy(run(name .. " --help"):lower():find("usage: moonpool " .. name, 1, true),
                      name)
      end
    end
    local text, code = run "help help"
    assert.are.equal(2, code, text)
  end)

  it("names the nearest topic or command for an unknown one", function()
    for given, meant in pairs { mesages = "messages", trans = "transactions", serv = "serve" } do
      local text, code = run("help " .. given)
      assert.are.equal(2, code)
      assert.truthy(text:find(('did you mean "%s"?'):format(meant), 1, true), text)
    end
    assert.truthy(run("sevre"):find('did you mean "serve"?', 1, true))
    assert.truthy(run("lanes"):find('did you mean "help lanes"?', 1, true))
    assert.is_nil(run("help xyzzy"):find("did you mean", 1, true))
  end)

  it("has topics that a terminal of 100 columns can show", function()
    local problems = {}
    for _, topic in ipairs(topics) do
      local number = 0
      for line in texts[topic]:gmatch "[^\n]*" do
        number = number + 1
        if utf8.len(line) > 100 then
          problems[#problems + 1] = ("%s.md:%d is too long"):format(topic, number)
        end
      end
    end
    report(problems)
  end)

  it("refers to topics and commands that exist", function()
    local problems = {}
    for name, text in pairs(texts) do
      for topic in text:gmatch "moonpool help (%l+)" do
        if not texts[topic] and not commands[topic] then
          problems[#problems + 1] = name .. ": moonpool help " .. topic
        end
      end
      for word in text:gmatch "`moonpool (%l+)" do
        if not commands[word] then problems[#problems + 1] = name .. ": moonpool " .. word end
      end
      blocks(text, function(language, code)
        if language ~= "sh" then return end
        for word in ("\n" .. code):gmatch "\n[build/]*moonpool (%l+)" do
          if not commands[word] then problems[#problems + 1] = name .. ": moonpool " .. word end
        end
      end)
    end
    for _, topic in ipairs(topics) do
      if not texts["README.md"]:find("\n| `moonpool help " .. topic .. "`") then
        problems[#problems + 1] = "README.md does not list the topic " .. topic
      end
    end
    report(problems)
  end)
end)

describe("the texts", function()
  local all
  local function source()
    if not all then
      local pipe = assert(io.popen(("cat '%s'/src/*/*.[ch]"):format(moonpool.app_dir)))
      all = pipe:read "a"
      pipe:close()
    end
    return all
  end

  it("show all codes of errors and all settings as the host has them", function()
    for topic, args in pairs { errors = "errors --markdown", settings = "config --markdown" } do
      local shown = texts[topic]:match("<!%-%- made by: moonpool " .. args:gsub("%-", "%%-")
                                       .. " %-%->\n(.-)<!%-%- end %-%->")
      assert.are.equal(run(args), shown,
        ("lua/moonpool/help/%s.md is old: put the output of `moonpool %s` into it"):format(topic,
          args))
    end
  end)

  it("name settings, codes and files that exist", function()
    local problems, settings = {}, json.decode((run "config --json"))
    for name in texts.settings:match("itself:(.*)"):gmatch "%- `(MOONPOOL_%u+)`" do
      settings[name] = true
    end
    for name, text in pairs(texts) do
      for setting in text:gmatch "%f[%w_](MOONPOOL_%u[%u_]*)" do
        local public = sources.read("include/moonpool.h"):find(setting, 1, true)
        if not settings[setting] and not public then
          problems[#problems + 1] = name .. ": " .. setting
        end
      end
      for setting in text:gmatch "%f[%w_](DB_%u[%u_]*)" do
        if not settings[setting] then problems[#problems + 1] = name .. ": " .. setting end
      end
      for code in prose(text):gmatch "`(%u+_%u[%u_]*)`" do
        local other = settings[code] or code:find "^PG" or code:find "^MP_" or code:find "^CMAKE_"
        if not codes[code] and not other then problems[#problems + 1] = name .. ": " .. code end
      end
      for func in prose(text):gmatch "`(mp_[%w_]+)[`(]" do
        if not source():find(func, 1, true) then problems[#problems + 1] = name .. ": " .. func end
      end
      for path in text:gmatch "`([%w_]+/[%w_./]+)`" do
        local top = not path:find "NAME" and path:match "^(%w+)/"
        if (top == "src" or top == "spec" or top == "lua")
            and not lfs.attributes(moonpool.app_dir .. "/" .. path) then
          problems[#problems + 1] = name .. ": " .. path
        end
      end
    end
    report(problems)
  end)

  it("name every field of an operation, and no other", function()
    local fields = require "moonpool.operation.fields".named
    for field in pairs(fields) do
      assert.truthy(texts.operations:find("`" .. field .. "[`(]"), field)
    end
    local section = texts.operations:match "\n## Fields\n(.-)\n## "
    for item in section:gmatch "\n%- (.-):%s" do
      for field in item:gmatch "`([%l_]+)" do assert.truthy(fields[field], field) end
    end
  end)

  it("have examples that load, operations in the sandbox, or run", function()
    local files, scripts, problems = {}, {}, {}
    for name, text in pairs(texts) do
      local count = 0
      blocks(text, function(language, code)
        if language ~= "lua" then return end
        count = count + 1
        if code:find("moonpool\"?%)?%.operation {") then
          files[("%s%d.lua"):format(name:match "%w+", count)] = code
        elseif load(code) and not code:find "describe%(" then
          scripts[("run_%s%d.lua"):format(name:match "%w+", count)] = code
        elseif not load(code) then
          problems[#problems + 1] =
            ("%s, example %d: %s"):format(name, count, select(2, load(code)))
        end
      end)
    end
    local folder <close> = setmetatable(command.folder(files), { __close = function(self)
      self.remove()
    end })
    for name in pairs(files) do
      local output, code = command.run("run --sandbox " .. name, { dir = folder.path })
      if code ~= 0 then problems[#problems + 1] = name .. ": " .. output end
    end
    for name, code in pairs(scripts) do
      folder.write(name, code)
      local output, exit = command.run("run " .. name, { dir = folder.path })
      if exit ~= 0 then problems[#problems + 1] = name .. ": " .. output end
    end
    report(problems)
    assert.is_not_nil(next(files))
    assert.is_not_nil(next(scripts))
  end)
end)

describe("examples for other programs", function()
  -- What a program says of the blocks of a language in which it finds a fault.
  local function faults(language, check)
    local files, problems = {}, {}
    for name, text in pairs(texts) do
      local count = 0
      blocks(text, function(found, code)
        count = count + 1
        if found == language then files[("%s%d"):format(name:match "%w+", count)] = code end
      end)
    end
    assert.is_not_nil(next(files))
    local folder = command.folder(files)
    for name in pairs(files) do
      local pipe = assert(io.popen((check .. " 2>&1"):format(folder.path .. "/" .. name)))
      local said = pipe:read "a"
      if not pipe:close() then problems[#problems + 1] = name .. ": " .. said end
    end
    folder.remove()
    return problems
  end

  it("are shell that bash can read", function() report(faults("sh", "bash -n '%s'")) end)

  it("are JavaScript that Node.js can read", function()
    report(faults("js", "node --input-type=module --check < '%s'"))
  end)
end)

describe("the five minutes of the README", function()
  it("work as they are pasted", function()
    local pasted
    blocks(texts["README.md"], function(_, code)
      if code:find "^cat > scripts/" then pasted = code end
    end)
    local folder <close> = setmetatable(command.folder { ["paste.sh"] = pasted },
                                        { __close = function(self)
      command.run("db stop", { dir = self.path, env = { MOONPOOL_STATE = self.path .. "/state" } })
      self.remove()
    end })
    -- What `make demo` does behind the build.
    folder.write("all.sh", ([[set -eu
      unset DATABASE_URL MOONPOOL_OWNER_URL MOONPOOL_APP
      export MOONPOOL_STATE="$PWD/state"
      mkdir build && ln -s '%s' build/moonpool && cp -r '%s/scripts' '%s/migrations' .
      build/moonpool migrate up && build/moonpool run scripts/tools/demo.lua >/dev/null
      . ./paste.sh
    ]]):format(command.executable(), moonpool.app_dir, moonpool.app_dir))
    local pipe = assert(io.popen(("cd '%s' && bash all.sh 2>&1"):format(folder.path)))
    local output = pipe:read "a"
    assert.is_true(pipe:close(), output)
    assert.truthy(output:find('"newValue":"Called back, wants it in red"', 1, true), output)
  end)

  it("are a text of at most 200 lines of 120 columns", function()
    local lines = 0
    for line in texts["README.md"]:gmatch "([^\n]*)\n" do
      lines = lines + 1
      assert.is_true(utf8.len(line) <= 120, line)
    end
    assert.is_true(lines <= 200)
  end)
end)
