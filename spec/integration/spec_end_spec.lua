-- A run of specs ends, and what its specs have started with it.
local command = require "spec.support.process.command"
local scratch = require "spec.support.data.scratch"

describe("moonpool spec", function()
  it("ends, and ends what its specs left running, wherever that has gone", function()
    local folder = command.folder {
      ["spec/left_spec.lua"] = [[
        describe("a spec", function()
          it("leaves processes behind that it cannot wait for", function()
            left_open = io.popen("echo $$ > one; exec sleep 1000")
            os.execute "(setsid sh -c 'echo $$ > two; exec sleep 1000' > /dev/null 2>&1 &) ; :"
            os.execute "(setsid sh -c 'trap \"\" TERM; echo $$ > three; \z
              while :; do sleep 1; done' > /dev/null 2>&1 &) ; :"
            while os.execute "test -s one -a -s two -a -s three" ~= true do require
              "moonpool".sleep(0.01) end
            error "and fails"
          end)
        end)
      ]],
    }
    local output, exit = command.run("spec spec/left_spec.lua", { dir = folder.path })
    assert.are.equal(1, exit, output)
    assert.truthy(output:find("ended what specs left running: ", 1, true), output)
    assert.truthy(output:find("sleep 1000", 1, true), output)
    for _, name in ipairs { "one", "two", "three" } do
      local pid = io.open(folder.path .. "/" .. name):read "l"
      scratch.await("the end of " .. name, function()
        local stat = io.open(("/proc/%s/stat"):format(pid))
        local gone = not stat or stat:read "a":match "%) (%a)" == "Z"
        if stat then stat:close() end
        return gone
      end)
    end
    folder.remove()
  end)

  it("says how a test that failed is run again", function()
    local folder <close> = setmetatable(command.folder {
      ["spec/odd_spec.lua"] = [[
        describe("an odd (it's 100 %)", function()
          it("fails", function() error "this one" end)
          it("fails, too", function() error "the other one" end)
        end)
      ]],
      ["spec/broken_spec.lua"] = "x = = 1",
    }, { __close = function(self) self.remove() end })
    local output, exit = command.run("spec spec", { dir = folder.path })
    assert.are.equal(1, exit)
    local lines = {}
    for line in output:match "\nrun again:\n(.*)":gmatch "[^\n]+" do
      lines[line:match "spec spec/.*"] = line:match "^  %S+ (.*)"
    end
    assert.is_string(lines["spec spec/broken_spec.lua"])
    local again = lines["spec spec/odd_spec.lua --filter 'an odd %(it.s 100 %%%) fails'"]
    assert.is_string(again, output)
    output, exit = command.run(again, { dir = folder.path })
    assert.are.equal(1, exit)
    assert.truthy(output:find("this one", 1, true), output)
  end)
end)
