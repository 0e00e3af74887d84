-- Other programs, and what they cost: run and read, run and measured, CPU time of a process tree.
-- Linux only.
local process = {}

function process.quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- Words as one shell command.
---@param words (string | number)[]
---@return string
function process.command(words)
  local parts = {}
  for i, word in ipairs(words) do parts[i] = process.quoted(word) end
  return table.concat(parts, " ")
end

--- Runs a shell command and gives what it printed. A failure is an error with all that it said.
---@param command string
---@return string
function process.run(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1", "r"))
  local output = pipe:read "a"
  local ok, _, code = pipe:close()
  if not ok then
    error(string.format("this failed with exit code %s: %s\n%s", code, command, output), 2)
  end
  return output
end

function process.read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

-- CPU time ----------------------------------------------------------------------------------------

local ticks_per_second

local function seconds(ticks)
  ticks_per_second = ticks_per_second or tonumber(process.run "getconf CLK_TCK")
  return ticks / ticks_per_second
end

-- user, sys, and the same of its children that it has waited for; nil when the process is gone.
local function stat_times(pid)
  local text = process.read_file("/proc/" .. pid .. "/stat")
  local fields = text and text:match "^.*%) (.*)$"
  if not fields then return nil end
  local times, at = {}, 0
  for field in fields:gmatch "%S+" do
    at = at + 1
    if at >= 12 and at <= 15 then times[#times + 1] = tonumber(field) end
  end
  return times[1] + times[2], times[3] + times[4]
end

--- CPU seconds of a process, its children and those it has waited for; and how many children it
--- has.
---@param pid integer
---@return number seconds
---@return integer children
function process.tree_cpu(pid)
  local own, waited = stat_times(pid)
  local total, count = (own or 0) + (waited or 0), 0
  for child in (process.read_file(string.format("/proc/%d/task/%d/children", pid, pid)) or "")
    :gmatch "%d+" do
    total = total + (stat_times(child) or 0)
    count = count + 1
  end
  return seconds(total), count
end

--- CPU seconds that all cores together have worked since the machine's start.
function process.machine_cpu()
  local busy, at = 0, 0
  for field in process.read_file("/proc/stat"):match("^cpu +([^\n]*)"):gmatch "%d+" do
    at = at + 1
    -- all but idle and waiting for a disk
    if at <= 8 and at ~= 4 and at ~= 5 then busy = busy + tonumber(field) end
  end
  return seconds(busy)
end

function process.cores()
  local _, count = process.read_file("/proc/stat"):gsub("\ncpu%d", "")
  return count
end

-- Measured runs -----------------------------------------------------------------------------------

-- $1 is a folder for its output, $2 when to read the peak size, the rest is the command. Prints
-- what Lua reads below.
local measured_script = [[
out=$1 after=$2
shift 2
"$@" >"$out/stdout" 2>"$out/stderr" </dev/null &
pid=$!
sleep "$after"
{ while read -r name value _; do
    if [ "$name" = VmHWM: ]; then echo "rss $value"; fi
  done <"/proc/$pid/status"; } 2>/dev/null
wait "$pid"
echo "exit $?"
times
]]

---@class bench.measured
---@field exit integer
---@field stdout string
---@field stderr string
---@field cpu_s number     user and system time from start to end
---@field rss_kb integer   peak size, shortly before the end

--- Runs a command that takes about `duration_s`.
---@param folder string       where its output may be kept meanwhile
---@param words (string | number)[]
---@param duration_s number
---@param dir string          folder to run it in
---@return bench.measured
function process.measure(folder, words, duration_s, dir)
  local script = { "bash", "-c", measured_script, "bash", folder, math.max(0.1, duration_s - 0.2),
                   table.unpack(words) }
  local report = process.run("cd " .. process.quoted(dir) .. " && " .. process.command(script))
  local user_m, user_s, sys_m, sys_s = report:match "(%d+)m([%d.]+)s (%d+)m([%d.]+)s%s*$"
  return {
    exit   = tonumber(report:match "exit (%d+)") --[[@as integer]],
    stdout = process.read_file(folder .. "/stdout") or "",
    stderr = process.read_file(folder .. "/stderr") or "",
    cpu_s  = 60 * (user_m + sys_m) + user_s + sys_s,
    rss_kb = math.tointeger(tonumber(report:match "rss (%d+)" or 0)) or 0,
  }
end

return process
