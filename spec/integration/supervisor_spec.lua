-- What a supervisor such as systemd (Type=notify) hears of a serving host: the protocol of
-- sd_notify over a real datagram socket.
local command   = require "spec.support.process.command"
local companion = require "spec.support.process.companion"
local serving   = require "spec.support.process.serving"

describe("a host with a supervisor", function()
  local supervisor, host, folder

  local function listen(address)
    supervisor = companion.start(function(fifo)
      local program = command.executable():gsub("[^/]*$", "spec/supervisor")
      return ("exec '%s' '%s' > '%s'"):format(program, address, fifo)
    end)
    assert.are.equal("bound", supervisor:hear())
  end

  before_each(function() folder = command.folder {} end)

  after_each(function()
    if host then host:stop() end
    if supervisor then supervisor:stop() end
    folder.remove()
    host, supervisor = nil, nil
  end)

  local function heard(word)
    local line
    repeat line = supervisor:hear() until line:find(word, 1, true)
    return line
  end

  it("tells it that it serves, on which files, and that it stops", function()
    local address = folder.path .. "/notify"
    listen(address)
    host = serving.start(serving.versions(1), { env = {
      NOTIFY_SOCKET = address, MOONPOOL_LISTEN = "127.0.0.1:0" } })
    local line = heard "READY=1"
    assert.truthy(line:find("WATCHDOG=1", 1, true), line)
    assert.truthy(line:find("STATUS=generation 1 of scripts/, listening on http://127.0.0.1:", 1,
                            true), line)
    assert.is_true(host:call("versions").ok)
    host:write(serving.versions(2))
    host:signal "HUP"
    heard "STATUS=generation 2 of"
    host:signal "TERM"
    heard "STOPPING=1"
    assert.are.equal(0, host:wait())
  end)

  it("finds it at an abstract address", function()
    local address = "@moonpool-spec" .. folder.path
    listen(address)
    host = serving.start(serving.versions(1), { env = { NOTIFY_SOCKET = address } })
    heard "STATUS=generation 1 of scripts/, no HTTP"
  end)

  it("does not say that it serves while it does not", function()
    local address = folder.path .. "/notify"
    listen(address)
    host = serving.start({ ["scripts/broken.lua"] = "return {" },
                         { broken = true, env = { NOTIFY_SOCKET = address } })
    assert.are.equal(1, host:wait())
    host:stop()
    host = serving.start(serving.versions(1), { env = { NOTIFY_SOCKET = address } })
    assert.truthy(supervisor:hear():find("READY=1", 1, true))
  end)

  it("serves without one, and says once that nobody heard it", function()
    host = serving.start(serving.versions(1), { env = { NOTIFY_SOCKET = folder.path .. "/gone" } })
    assert.is_true(host:call("versions").ok)
    host:signal "TERM"
    assert.are.equal(0, host:wait())
    local _, times = host:log():gsub("the supervisor %(NOTIFY_SOCKET%) was not told", "")
    assert.are.equal(1, times, host:log())
  end)
end)
