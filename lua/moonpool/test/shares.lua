-- moonpool.test.shares: `moonpool spec -j N`: N processes, each with a server of its own and a
-- share of the spec files. Returns function(arguments) -> exit code.
local arguments = require "moonpool.test.arguments"
local host      = require "moonpool.host"
local lfs       = require "lfs"

local MOST = 64 -- processes

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Adds the files of a path whose names have the pattern, as busted finds them.
local function add_files(files, path, pattern)
  local mode = lfs.attributes(path, "mode")
  if mode == "directory" then
    for name in lfs.dir(path) do
      local below = path:gsub("/+$", "") .. "/" .. name
      local is_folder = lfs.attributes(below, "mode") == "directory"
      if name:sub(1, 1) ~= "." and (is_folder or name:find(pattern) and name:find "%.lua$") then
        add_files(files, below, pattern)
      end
    end
  elseif mode then
    files[#files + 1] = { path = path, size = lfs.attributes(path, "size") }
  else
    return path
  end
  return nil
end

-- The largest files first, each to the share that has least.
local function divide(files, count)
  local shares = {}
  for i = 1, count do shares[i] = { size = 0 } end
  table.sort(files, function(a, b)
    if a.size ~= b.size then return a.size > b.size end
    return a.path < b.path
  end)
  for _, file in ipairs(files) do
    table.sort(shares, function(a, b) return a.size < b.size end)
    shares[1].size = shares[1].size + file.size
    table.insert(shares[1], quoted(file.path))
  end
  return shares
end

-- The first one tells what `moonpool check` finds, for all.
local function start(share, options, is_first)
  share.output = os.tmpname()
  local words = { is_first and "" or "MOONPOOL_CHECK=off",
                  quoted(os.getenv "MOONPOOL_BIN" or "moonpool"), "--app", quoted(host.app_dir),
                  "spec", table.concat(options, " "), table.concat(share, " ") }
  share.process = assert(io.popen(("%s >%s 2>&1"):format(table.concat(words, " "), share.output)))
end

local counted = { "success", "failure", "error", "pending" }

-- Waits for the end, prints what it said, adds its numbers. -> its exit code
local function finish(share, totals)
  share.process:read "a"
  local _, _, code = share.process:close()
  for line in io.lines(share.output) do
    local numbers = table.pack(line:match
      "^(%d+) success%a* / (%d+) failures? / (%d+) errors? / (%d+) pending : ")
    for i, name in ipairs(counted) do
      totals[name] = totals[name] + (math.tointeger(tonumber(numbers[i])) or 0)
    end
    print(line)
  end
  os.remove(share.output)
  return code
end

return function(args)
  local count = math.tointeger(tonumber(arguments.take(args, "-j", "--jobs") or ""))
  if not count or count < 1 or count > MOST then
    io.stderr:write(("moonpool spec: -j takes a number of processes, from 1 to %d\n"):format(MOST))
    return 2
  end
  local paths, options = arguments.split(args)
  local pattern, files = "_spec", {}
  for i, option in ipairs(options) do
    if option == "-p" or option == "--pattern" then pattern = options[i + 1] or pattern end
    options[i] = quoted(option)
  end
  if not paths[1] then paths[1] = host.app_dir .. "/spec" end
  for _, path in ipairs(paths) do
    local missing = add_files(files, path, pattern)
    if missing then
      io.stderr:write(("moonpool spec: %s does not exist\n"):format(missing))
      return 2
    end
  end
  local began, code = host.clock(), 0
  local totals = { success = 0, failure = 0, error = 0, pending = 0 }
  local shares = divide(files, math.min(count, math.max(#files, 1)))
  for i, share in ipairs(shares) do start(share, options, i == 1) end
  for _, share in ipairs(shares) do code = math.max(code, finish(share, totals)) end
  print(("\nall together: %d successes / %d failures / %d errors / %d pending : %.1f seconds, \z
    %d processes"):format(totals.success, totals.failure, totals.error, totals.pending,
    host.clock() - began, #shares))
  return code
end
