-- A private PostgreSQL cluster for measurements: durable, quiet (nothing periodic falls into a
-- run), in a folder of its own. A guardian process stops the server and removes the folder as soon
-- as this process closes it, or ends in whatever way.
local process = require "bench.lib.process"

local quoted = process.quoted

---@class bench.cluster
---@field dir string       folder of everything, removed at the end
---@field port integer
---@field bin string       folder of PostgreSQL's programs
---@field version string
---@field slow_disk string settings that make a flush slow, or none
local cluster = {}
cluster.__index = cluster

local settings = [[
listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = '%s'
max_connections = 200
shared_buffers = 512MB
fsync = on
synchronous_commit = on
full_page_writes = on
autovacuum = off
checkpoint_timeout = 30min
max_wal_size = 8GB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
%s]]

-- Ignores what a terminal sends to the whole group, so that Ctrl-C does not stop it before its work
-- is done.
local guardian = [[
trap '' INT TERM HUP QUIT
cat >/dev/null
if [ -f %s/postmaster.pid ]; then %s stop -D %s -m immediate -w -s; fi
rm -rf %s
]]

local function programs()
  local named = os.getenv "PGBIN"
  local found = named or process.run [[
    ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n | tail -n 1
    pg_config --bindir 2>/dev/null || true]]
  for dir in found:gmatch "[^\n]+" do
    if process.read_file(dir .. "/initdb") and process.read_file(dir .. "/pgbench") then
      return dir
    end
  end
  error("found no folder with initdb and pgbench: install postgresql, or name the folder in PGBIN",
        0)
end

-- A port on which nobody listens now; whoever takes it in between makes the start fail, and another
-- one is tried.
local function free_port()
  local used = {}
  for _, path in ipairs { "/proc/net/tcp", "/proc/net/tcp6" } do
    for hex in (process.read_file(path) or ""):gmatch "%d+: %x+:(%x%x%x%x) " do
      used[tonumber(hex, 16)] = true
    end
  end
  local port
  repeat port = math.random(20000, 32000) until not used[port]
  return port
end

-- Runs one of PostgreSQL's programs as the server's user, in the folder.
function cluster:as_server(words)
  return process.run(string.format("cd %s && %s %s", quoted(self.dir), self.user,
                                   process.command(words)))
end

function cluster:start_server()
  local data, log = self.dir .. "/data", self.dir .. "/server.log"
  local conf = process.read_file(data .. "/postgresql.conf")
  local failure
  for _ = 1, 5 do
    self.port = free_port()
    local file = assert(io.open(data .. "/postgresql.conf", "wb"))
    file:write(conf, string.format(settings, self.port, self.dir, self.slow_disk))
    file:close()
    local ok, message = pcall(self.as_server, self,
                              { self.bin .. "/pg_ctl", "start", "-D", data, "-l", log, "-w", "-s" })
    if ok then return end
    failure = message
  end
  error(string.format("%s\n%s", failure, process.read_file(log) or ""), 0)
end

--- Makes and starts a cluster. Hold it in a `<close>` variable.
---@param flush_ms? number   what each flush of the log takes more, as on a slow disk
---@return bench.cluster
function cluster.new(flush_ms)
  local self = setmetatable({ bin = programs(), slow_disk = "" }, cluster)
  if (flush_ms or 0) > 0 then
    -- The server sleeps so long before each flush, however few others are about to commit.
    self.slow_disk = string.format("commit_delay = %d\ncommit_siblings = 0\n",
                                   math.floor(flush_ms * 1000))
  end
  self.version = process.run(quoted(self.bin .. "/postgres") .. " --version"):match "[%d.]+"
  if tonumber(self.version:match "%d+") < 15 then
    error(
      string.format(
        "%s is PostgreSQL %s: the comparison needs 15 or later (name its folder in PGBIN)",
                    self.bin, self.version), 0)
  end
  local root = process.run("id -u"):match "%d+" == "0"
  self.user = root and "setpriv --reuid=postgres --regid=postgres --init-groups --reset-env" or ""
  self.dir = process.run("mktemp -d "
                         .. quoted((os.getenv "TMPDIR" or "/tmp") .. "/moonpool-bench.XXXXXX"))
                           :match "[^\n]+"
  local data = quoted(self.dir .. "/data")
  self.guardian = assert(io.popen("exec >/dev/null 2>&1\n" .. string.format(guardian, data,
    self.user .. " " .. quoted(self.bin .. "/pg_ctl"), data, quoted(self.dir)), "w"))
  if root then process.run("chown postgres: " .. quoted(self.dir)) end

  local ok, failure = pcall(function()
    self:as_server { self.bin .. "/initdb", "-D", self.dir .. "/data", "-U", "postgres", "-A",
                     "trust", "-E", "UTF8",
                     "--locale=C", "--no-instructions" }
    self:start_server()
    self.postmaster = tonumber(process.read_file(self.dir .. "/data/postmaster.pid"):match "%d+")
  end)
  if not ok then
    self:close()
    error(failure, 0)
  end
  return self
end

--- Stops the server and removes the folder.
function cluster:close()
  if self.guardian then self.guardian:close() end
  self.guardian = nil
end

cluster.__close = cluster.close

---@param database string
---@param role? string
function cluster:url(database, role)
  return string.format("postgres://%s@127.0.0.1:%d/%s", role or "postgres", self.port, database)
end

--- Runs SQL commands or files (`@PATH`) with psql, each on its own; gives the fields that it
--- printed, one after the other.
---@param database string
---@return string[]
function cluster:psql(database, ...)
  local words = { self.bin .. "/psql", "-qXAt", "-F", "\n", "-v", "ON_ERROR_STOP=1", "-h", self.dir,
                  "-p", self.port,
                  "-U", "postgres", "-d", database }
  for _, text in ipairs { ... } do
    words[#words + 1] = text:sub(1, 1) == "@" and "-f" or "-c"
    words[#words + 1] = text:gsub("^@", "")
  end
  local fields = {}
  for field in process.run("PGOPTIONS='-c client_min_messages=warning' " .. process.command(words))
    :gmatch "[^\n]+" do
    fields[#fields + 1] = field
  end
  return fields
end

--- Makes a database anew as a copy of another one. Whatever the copy has to write is written before
--- this returns, and what runs read first is in memory.
---@param database string
---@param template string
---@param tables string[]
function cluster:copy(database, template, tables)
  self:psql("postgres", "drop database if exists " .. database .. " with (force)",
            string.format("create database %s template %s strategy file_copy", database, template),
            "checkpoint")
  local reads = {}
  for i, name in ipairs(tables) do reads[i] = "select count(*) from " .. name end
  self:psql(database, table.unpack(reads))
end

--- CPU seconds that the whole cluster has used. With `below`, waits until no more than that many
--- children are left, so that the backends of clients that are gone have been counted.
---@param below? integer
---@return number seconds
---@return integer children
function cluster:cpu(below)
  local total, children = process.tree_cpu(self.postmaster)
  for _ = 1, 60 do
    if not below or children <= below then break end
    process.run "sleep 0.05"
    total, children = process.tree_cpu(self.postmaster)
  end
  return total, children
end

return cluster
