-- Calls that wait in one lane at the same time.
local fault    = require "spec.support.workload.fault"
local moonpool = require "moonpool"

local lane_queue = {}

--- Makes the calls (functions without arguments) behind one that holds their lane, and lets that
--- one go when all of them wait. `hold(wait)` makes it: its operation calls `wait`.
function lane_queue.behind(hold, calls)
  local open = false
  local tasks = { function()
    hold(function()
      while not open do moonpool.host.sleep(0.001) end
    end)
  end }
  table.move(calls, 1, #calls, 2, tasks)
  tasks[#tasks + 1] = function()
    fault.eventually("all wait in the lane", function()
      return moonpool.host.lanes().waiting >= #calls
    end)
    open = true
  end
  moonpool.all(tasks)
end

return lane_queue
