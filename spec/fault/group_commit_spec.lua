-- The COMMIT of a group is lost: all of its calls are resolved by one witness, and each hears its
-- own answer.
local moonpool   = require "moonpool"
local is         = require "moonpool.is"
local test       = require "moonpool.test"
local dealership = require "spec.support.data.dealership"
local fault      = require "spec.support.workload.fault"
local proxy      = require "spec.support.process.proxy"

describe("a group whose COMMIT is cut", function()
  local wire, ours, hooks

  setup(function() wire = proxy.start() end)
  teardown(function() wire:stop() end)
  before_each(function()
    ours, hooks = dealership.new(), {}
  end)
  after_each(function()
    wire:order "cut never"
    fault.assert_quiet()
  end)

  local gate
  local function operation(run, group)
    return moonpool.operation { input = is.object { dealership_id = is.uuid, name = is.string },
                                tenant = "dealership_id",
                                lane = "cut:$dealership_id", group = group, timeout = 20,
                                run = run }
  end

  local add = operation(function(tx, input)
    tx:after_commit(function() hooks[#hooks + 1] = input.name end)
    local row = tx:insert("customers", { id = tx:uuid(), dealership_id = input.dealership_id,
                                         first_name = input.name,
                                         last_name = "Cut" })
    if input.name == "b" then moonpool.fail("NOT_B", "never") end
    return { row = row, attempt = tx.attempt }
  end, 8)
  local holder = operation(function() while not gate do moonpool.host.sleep(0.001) end end)

  -- a, b and c in one transaction. -> answers or errors, infos
  local function together()
    local answers, infos = {}, {}
    gate = false
    local tasks = { function()
      moonpool.call(holder, { dealership_id = ours.id, name = "holder" })
    end }
    for i, name in ipairs { "a", "b", "c" } do
      tasks[i + 1] = function()
        local ok, result, info = pcall(moonpool.call_info, add,
                                       { dealership_id = ours.id, name = name })
        answers[i], infos[i] = result, ok and info
      end
    end
    tasks[5] = function()
      fault.eventually("all wait in the lane", function()
        return moonpool.host.lanes().waiting >= 3
      end)
      gate = true
    end
    moonpool.all(tasks)
    return answers, infos
  end

  for place, attempts in pairs { after = 1, before = 2 } do
    it(place .. " its execution is found out, and every call is stored once", function()
      local answers, infos
      test.on({ app_url = wire:url(moonpool.host.app_url) }, function()
        wire:order("cut commit " .. place)
        answers, infos = together()
      end)
      assert.are_not.equal("none", wire:order "told")
      for i, name in pairs { "a", [3] = "c" } do
        assert.are.equal(name, answers[i].row and answers[i].row.first_name, tostring(answers[i]))
        assert.are.equal(attempts, infos[i].attempts)
        assert.is_true(infos[i].resolved)
        assert.are.equal(3, infos[i].group)
        assert.are.equal(1, ours:count("customers", { first_name = name }))
      end
      assert.are.equal("NOT_B", answers[2].code)
      assert.are.equal(0, ours:count("customers", { first_name = "b" }))
      fault.eventually("the hooks have run", function() return #hooks == 2 end)
    end)
  end
end)
