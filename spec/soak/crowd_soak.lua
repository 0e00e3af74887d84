-- 2,000 clients that come, call, leave in the middle of anything and misbehave, for MP_SECONDS (one
-- minute) each, with operations that fail, hold a lane, sleep and flood, and then also with those
-- that spin and hoard memory. One client is correct and reads one row again and again: each of its
-- calls succeeds, with one worker and with three, and nothing of the crowd is left afterwards. Its
-- slowest hundredth is printed beside that without a crowd; it has a limit where the crowd asks for
-- less CPU time than there is.
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

local SECONDS  = tonumber(os.getenv "MP_SECONDS") or 60
local CROWD    = tonumber(os.getenv "MP_CROWD") or 2000
local LIMIT_MS = 1000

local crowds = {
  { name = "misbehave", limit_ms = LIMIT_MS,
    operations = "hello,hello,hello,fails,queues,sleeps,floods" },
  { name = "misbehave and use up what they may",
    operations = "hello,hello,hello,fails,queues,sleeps,floods,spins,hoards" },
}

local operation = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "x", timeout = 10, %s run = function(tx) %s end }]]

local files = {
  ["scripts/hello.lua"]  = operation:format("", "return tx:value 'select 42'"),
  ["scripts/spins.lua"]  = operation:format("cpu = 0.1,", "while true do end"),
  ["scripts/hoards.lua"] = operation:format("memory = 8,",
    "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end"),
  ["scripts/fails.lua"]  = operation:format("", "tx:value 'select 1 / 0'"),
  ["scripts/queues.lua"] = operation:format("lane = 'one', group = 8,",
    "tx:exec 'select 1' return tx:value 'select 2'"),
  ["scripts/sleeps.lua"] = operation:format("", "tx:value 'select pg_sleep(0.05)'"),
  ["scripts/floods.lua"] = operation:format("", "return ('x'):rep(200000)"),
}

describe("the slowest hundredth of a correct client's calls", function()
  for n = 1, 4 do
    local crowd, workers = crowds[(n + 1) // 2], n % 2 == 1 and "1" or "3"
    it(("among %d that %s, with workers = %s"):format(CROWD, crowd.name, workers), function()
      local host = service.start(files, { env = { MOONPOOL_WORKERS = workers },
                                          shell = "ulimit -S -n 1024" })
      local token, theirs = service.token "--scopes ops:*", service.token "--scopes ops:*"
      local watching = service.token "--scopes monitor"
      local alone = service.among_slow(host, token, 1, function(answered)
        return answered < 2000
      end)
      local before, most, from = host:resident(), 0, moonpool.host.clock()
      local seen = service.among_slow(host, token, CROWD, function()
        most = math.max(most, host:resident() or 0)
        return moonpool.host.clock() - from < SECONDS
      end, { token = theirs, rude = crowd.operations })
      print(("\nworkers %s: %d calls alone, p99 %.1f ms; %d among the crowd, p99 %.1f ms, the \z
          slowest %.0f ms; %d connections came, %d left, %d timed out, %d refused, %d ended; \z
          memory %d -> %d MiB"):format(
        workers, alone.answered, alone.p99_ms, seen.answered, seen.p99_ms, seen.slowest_ms,
        seen.connected, seen.left, seen.timed_out, seen.refused, seen.ended,
        (before or 0) // 1024, most // 1024))
      assert.is_true(seen.p99_ms < (crowd.limit_ms or math.huge), seen.p99_ms .. " ms")
      scratch.await("nothing of the crowd", function()
        local page = service.ask(host, "GET", "/metrics", { token = watching }).body
        return page:find "\nmoonpool_lane_waiters 0\n"
          and page:find('\nmoonpool_pool_connections{state="active"} 0\n', 1, true)
      end)
      host:signal "TERM"
      assert.are.equal(0, host:wait(), host:log():sub(-2000))
      host.folder.remove()
    end)
  end
end)
