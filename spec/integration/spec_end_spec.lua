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

  local function of(files)
    return setmetatable(command.folder(files), { __close = function(self) self.remove() end })
  end

  it("points at the line of the spec, and shows the statement and who called", function()
    local folder <close> = of {
      ["scripts/lib/stock.lua"] = [[
local stock = {}
function stock.take(tx) return (tx:value "select stok") end
return stock
]],
      ["scripts/sell.lua"] = [[
local stock = require "lib.stock"
return require "moonpool".operation { run = function(tx)
  stock.take(tx)
end }
]],
      ["spec/sell_spec.lua"] = [[
local moonpool = require "moonpool"
it("sells", function()
  moonpool.call("sell", {})
end)
it("computes", function()
  local none
  none.field = 1
end)
]],
    }
    local output, exit = command.run("spec spec/sell_spec.lua",
                                     { dir = folder.path, env = { MOONPOOL_CHECK = "off" } })
    assert.are.equal(1, exit)
    for _, text in ipairs {
      'spec/sell_spec.lua:3: scripts/lib/stock.lua:2: column "stok" does not exist\n',
      "    select stok\n           ^\n", "called from:\n  scripts/sell.lua:3 ",
      "SQLSTATE 42703", "spec/sell_spec.lua:7: attempt to index a nil value (local 'none')",
    } do
      assert.truthy(output:find(text, 1, true), text .. " is not in: " .. output)
    end
  end)

  it("fails when a file of scripts/ does not load", function()
    local folder <close> = of {
      ["scripts/broken.lua"] = "\nx = = 1\n",
      ["spec/one_spec.lua"] = "it('is fine', function() end)",
    }
    local output, exit = command.run("spec", { dir = folder.path,
                                               env = { MOONPOOL_CHECK = "off" } })
    assert.are.equal(1, exit)
    assert.truthy(output:find("1 success / 0 failures", 1, true), output)
    assert.truthy(output:find("moonpool spec: scripts/broken.lua:2: ", 1, true), output)
  end)

  it("divides the files among processes, each with a server of its own", function()
    local folder <close> = of {
      ["spec/a_spec.lua"] = [[
        it("knows its server", function()
          print("server " .. require "moonpool.host".data_dir)
        end)
      ]],
      ["spec/below/b_spec.lua"] = [[
        it("knows its server", function()
          print("server " .. require "moonpool.host".data_dir)
        end)
        it("fails", function() error "oh" end)
        pending("later")
      ]],
      ["spec/below/helper.lua"] = "error 'is no spec'",
    }
    local output, exit = command.run("spec -j 3", { dir = folder.path })
    assert.are.equal(1, exit)
    local first, second = output:match "server (%S+).*server (%S+)"
    assert.is_string(second, output)
    assert.are_not.equal(first, second)
    assert.truthy(output:find("\nall together: 2 successes / 0 failures / 1 errors / 1 pending : ",
                              1, true), output)
    assert.truthy(output:find("b_spec.lua --filter 'fails'", 1, true), output)
    output, exit = command.run("spec -j 2 --filter knows", { dir = folder.path })
    assert.are.equal(0, exit, output)
    for args, told in pairs { ["-j"] = "-j takes a number", ["-j none"] = "-j takes a number",
                              ["-j 2 nowhere"] = "nowhere does not exist" } do
      output, exit = command.run("spec " .. args, { dir = folder.path })
      assert.are.equal(2, exit)
      assert.truthy(output:find(told, 1, true), output)
    end
  end)

  it("ends a test that takes longer than --timeout", function()
    local folder <close> = of {
      ["spec/long_spec.lua"] = [[
        describe("a spec", function()
          it("waits for ever", function() require "moonpool".sleep(1000) end)
        end)
      ]],
    }
    local output, exit = command.run("spec --timeout 0.2", { dir = folder.path })
    assert.are.equal(1, exit)
    assert.truthy(output:find("a spec waits for ever takes longer than 0.2 s", 1, true), output)
    output, exit = command.run("spec --timeout", { dir = folder.path })
    assert.are.equal(2, exit)
    assert.truthy(output:find("--timeout takes a number of seconds", 1, true), output)
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
