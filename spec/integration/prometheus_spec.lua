-- A real Prometheus scrapes a real host, with the configuration, the rules and the dashboard of
-- scripts/monitoring.
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local prometheus = require "spec.support.process.prometheus"
local service    = require "spec.support.process.http_service"

local files = { ["scripts/hello.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "x", run = function(tx) return tx:value "select 42" end }]]
    }

local function read(name)
  local file = assert(io.open(moonpool.app_dir .. "/scripts/monitoring/" .. name))
  local text = file:read "a"
  file:close()
  return text
end

describe("a Prometheus", function()
  local host, scraper, token

  setup(function()
    host = service.start(files)
    token = service.token "--scopes ops:*,monitor"
    scraper = prometheus.start(host.port, token)
    for _ = 1, 7 do
      assert(service.ask(host, "POST", "/api/ops/hello", { token = token }).status == 200)
    end
    scraper:await("seven calls", function()
      return
        scraper:query 'moonpool_transactions_total{operation="hello",outcome="committed"} == 7'[1]
    end)
  end)

  teardown(function()
    scraper:stop()
    host:stop()
  end)

  it("takes the page of a host", function()
    local target = scraper:get "targets".activeTargets[1]
    assert.are.same({ "up", "", "moonpool" },
                    { target.health, target.lastError, target.labels.job })
    local series = scraper:query 'scrape_samples_scraped{job="moonpool"}'
    assert.is_true(tonumber(series[1].value[2]) > 100)
    assert.are.equal("1", scraper:query 'moonpool_database_up{job="moonpool"}'[1].value[2])
  end)

  it("knows each metric's kind and help", function()
    for _, metadata in pairs(scraper:get("metadata", {})) do
      assert.is_true(metadata[1].type ~= "unknown" and #metadata[1].help > 0)
    end
  end)

  it("evaluates all rules, and none of them fires", function()
    local count
    scraper:await("its rules", function()
      count = 0
      for _, group in ipairs(scraper:get "rules".groups) do
        for _, rule in ipairs(group.rules) do
          if rule.health == "unknown" then return false end
          assert.are.equal("ok", rule.health, rule.name .. ": " .. (rule.lastError or ""))
          count = count + 1
        end
      end
      return count > 0
    end)
    assert.are.equal(select(2, read "rules.yml":gsub("\n%s*%- alert:", "")), count)
    assert.are.same({}, scraper:get "alerts".alerts)
  end)

  it("evaluates what the Grafana dashboard asks, and finds what there is", function()
    scraper:await("a second scrape", function()
      return scraper:query "rate(process_cpu_seconds_total[1m])"[1]
    end)
    local none, asked = {}, 0
    for _, panel in ipairs(json.decode(read "grafana.json").panels) do
      for _, target in ipairs(panel.targets) do
        local expression = target.expr:gsub("%$__rate_interval", "1m"):gsub("%$%b{}", ".*")
          :gsub("%$[%a_]+", ".*")
        if not scraper:query(expression)[1] then none[#none + 1] = expression end
        asked = asked + 1
      end
    end
    assert.is_true(asked >= 30)
    for _, expression in ipairs(none) do -- of failures: there were none
      assert.is_truthy(expression:find "moonpool_[%l_]*failures_total"
                       or expression:find "moonpool_calls_failed_total"
                       or expression:find "moonpool_faults_total", expression)
    end
  end)

  it("is refused without the right token, which rings the alarm until it has one again", function()
    local function target() return scraper:get "targets".activeTargets[1] end
    local function alarm()
      local alert = scraper:get "alerts".alerts[1]
      return alert and alert.state == "firing" and alert.labels.alertname == "MoonpoolDown"
    end
    scraper.folder.write("token", "mp_000000000000_" .. ("A"):rep(43))
    scraper:await("the alarm", alarm)
    assert.are.equal("down", target().health)
    assert.matches("HTTP status 4[02]", target().lastError) -- 429 after ten of them
    scraper.folder.write("token", token)
    scraper:await("its end", function() return not alarm() and target().health == "up" end)
  end)
end)

describe("promtool", function()
  local function content(args)
    local said, ok = prometheus.tool(args)
    assert.is_true(ok, said)
  end

  it("is content with the configuration, and with the rules and their tests", function()
    local folder = moonpool.app_dir .. "/scripts/monitoring/"
    content("check config --syntax-only '" .. folder .. "prometheus.yml'")
    content("check rules '" .. folder .. "rules.yml'")
    content("test rules '" .. folder .. "rules_test.yml'")
  end)

  it("is content with the page of a host under way", function()
    local host, monitor = service.start(files), service.token "--scopes ops:*,monitor"
    for _ = 1, 3 do service.ask(host, "POST", "/api/ops/hello", { token = monitor }) end
    local page = service.ask(host, "GET", "/metrics", { token = monitor })
    assert.are.equal("text/plain; version=0.0.4; charset=utf-8", page.headers["content-type"])
    host:write { page = page.body }
    content("check metrics < '" .. host.folder.path .. "/page'")
    host:stop()
  end)
end)
