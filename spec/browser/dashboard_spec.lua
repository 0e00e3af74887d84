-- The dashboard in a real browser, before a real host: at a desk and on a phone, with the keyboard,
-- under load, while the database is gone. Pictures of it are in build/shots.
local browser = require "spec.support.process.browser"
local cluster = require "spec.support.process.cluster"
local service = require "spec.support.process.http_service"

local scripts = {
  ["scripts/hello.lua"] =
    'return require "moonpool".operation { run = function(tx) return tx:value "select 42" end }',
  ["scripts/slow.lua"]  = [[return require "moonpool".operation { run = function(tx)
    return tx:value("select count(*) from pg_class \z
      where pg_sleep(0.002) is not null and relname > $1 limit $2", "", 1)
  end }]],
  ["scripts/wrong.lua"] = [[return require "moonpool".operation { run = function(tx)
    require "moonpool".fail("NOT_TODAY", "<b>not today</b>", { status = 409 })
  end }]],
}

describe("the dashboard in a browser", function()
  local own, host, monitor, caller, page

  local function call(name, times)
    for _ = 1, times or 1 do service.ask(host, "POST", "/api/ops/" .. name, { token = caller }) end
  end

  local function at(path) return ("http://127.0.0.1:%d%s"):format(host.port, path or "/") end

  local function enter(token)
    page:wait "document.activeElement.id === 'token'"
    page:type(token)
    page:press "Enter"
  end

  -- A new page with the token entered.
  local function open(options)
    page:open(at(), options)
    enter(monitor)
    page:wait "!document.getElementById('board').hidden"
  end

  setup(function()
    own = cluster.start()
    local env = { DATABASE_URL = own.url, MOONPOOL_OWNER_URL = own.owner_url,
                  DB_SLOW_QUERY_THRESHOLD = "50" }
    host = service.start(scripts, { env = env })
    monitor, caller = service.token("--scopes monitor", env), service.token("--scopes 'ops:*'", env)
    page = browser.start()
  end)

  teardown(function()
    if page then page:stop() end
    if host then host:stop() end
    if own then own:stop() end
  end)

  after_each(function() assert.are.same({}, page:problems()) end)

  it("asks for a token, and says what is wrong with one", function()
    page:open(at())
    assert.is_true(page:value "document.getElementById('board').hidden")
    enter "nonsense"
    page:wait_text("refused", "one begins with mp_")
    enter("mp_" .. ("a"):rep(43))
    page:wait_text("refused", "does not know this token")
    enter(caller)
    page:wait_text("refused", "lacks the scope monitor")
    enter(monitor)
    page:wait_text("state", "all is well")
    page:wait_text("alerts", "Nothing is wrong.")
    page:value "document.getElementById('leave').click()"
    page:wait_text("state", "no token")
    assert.equal(0, page:value "sessionStorage.length")
    assert.is_true(page:value "document.getElementById('board').hidden")
  end)

  it("shows what the host does, while it does it", function()
    open()
    call("hello", 20)
    page:wait_text("operations", "hello")
    page:wait "/p50\\s+[\\d.]+ m?s/.test(document.getElementById('latency').innerText)"
    page:wait "/now, at most [1-9]/.test(document.getElementById('chart-rate').getAttribute('aria\z
      -label'))"
    assert.equal(5, page:value "document.querySelectorAll('.chart canvas').length")
    call "wrong"
    page:wait_text("calls", "NOT_TODAY")
    -- a message is text, whatever it holds
    assert.equal(0, page:value "document.querySelectorAll('#board b').length")
    page:value "document.getElementById('notable').click()"
    page:wait "!document.getElementById('calls').innerText.includes('hello')"
    page:value "(e => { e.value = 'hello'; e.dispatchEvent(new Event('change')) \z
      })(document.getElementById('which'))"
    call("hello", 5)
    page:wait "document.getElementById('chart-latency').getAttribute('aria-label').startsWith('p5\z
      0: ')"
    page:shot "desk"
  end)

  it("shows a call as a timeline and a statement's plan, by keyboard", function()
    open()
    call "slow"
    page:wait "document.querySelector('#calls tbody tr td:nth-child(2)')?.innerText === 'slow'"
    page:value "document.querySelector('#calls button').focus()"
    page:press "Enter"
    page:wait "document.getElementById('detail').open"
    page:wait_text("detail", "round trip 1")
    page:wait_text("detail", "select count")
    assert.equal("slow", page:value "document.getElementById('detail-title').innerText")
    page:shot "timeline"
    page:press "Escape"
    page:wait "!document.getElementById('detail').open"
    page:wait "document.querySelector('#slow button')"
    page:value "document.querySelector('#slow button').focus()"
    page:press "Enter"
    page:wait_text("detail", "Limit  (cost=")
    page:press "Escape"
    page:value "document.getElementById('call-id').focus()"
    page:type "nonsense"
    page:press "Enter"
    page:wait_text("detail", "no such call")
  end)

  it("fits a phone in the dark", function()
    open { width = 390, height = 844, dark = true }
    call("hello", 5)
    page:wait_text("operations", "hello")
    assert.is_true(page:value "document.documentElement.scrollWidth <= 390")
    assert.equal("rgb(14, 17, 22)", page:value "getComputedStyle(document.body).backgroundColor")
    page:shot "phone"
  end)

  it("says what to do while the database is gone, and when it is back", function()
    open()
    own:run "db stop"
    page:wait_text("state", "the database does not answer")
    page:wait_text("alerts", "What to do: is the database up")
    -- The alert about that state says the same, and is not shown beside it.
    page:wait "last.alerts.some(a => a.name === 'health_check' && a.state === last.state.name)"
    assert.equal(1, page:value "document.getElementById('alerts').children.length")
    page:shot "outage"
    own:run "db start"
    page:wait "!document.getElementById('state').innerText.includes('the database')"
    assert.equal(200, service.ask(host, "POST", "/api/ops/hello", { token = caller }).status)
  end)

  it("says that the host has stopped, and keeps what it showed", function()
    open()
    call "hello"
    page:wait_text("operations", "hello")
    host:signal "TERM"
    page:wait_text("state", "the host cannot be reached: trying again")
    assert.is_true(page:value "document.getElementById('board').classList.contains('stale')")
    page:wait_text("operations", "hello")
    page:shot "stopped"
    assert.equal(0, host:wait())
  end)
end)
