-- Secrets of twenty kinds, planted where a service meets them: in inputs, in texts of statements
-- and in what the server says of them, in headers, paths and query strings, in what a script
-- raises, in the host's own settings. None may be seen by anybody but who sent it: not in the log,
-- nor on any page, nor in what the recorder keeps.
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

-- name -> a text that stands nowhere else
local secrets = {
  password     = "Correct-Horse-7-Battery",
  ssn          = "078-05-1120",
  card         = "4111111111111111",
  token        = "tok_4f9a8b2c77",
  refused      = "rfs-5553331-is-no-age",
  literal      = "lit-3c5e-in-sql",
  comment      = "cmt-77aa-in-sql",
  unparsable   = "unp-19bd-no-sql",
  number       = "6011000990139424",
  key_value    = "219-09-9999",
  row_value    = "row-5d1f-contains",
  cast         = "cst-0b77-is-no-int",
  raised       = "rsd-12ce-by-plpgsql",
  hint         = "hnt-9a9a-by-plpgsql",
  stored       = "sto-4711-in-a-table",
  lua_error    = "err-4e4e-by-lua",
  failure      = "fal-8c8c-by-lua",
  bearer       = "mp_000000000000_hdr4d4dtoken",
  basic        = "aGRyLWJhc2ljLXNlY3JldA",
  cookie       = "session-cookie-31fe",
  key          = "idempotency-66ab",
  query_string = "qry-5a5a-secret",
  path         = "pth-7e7e-secret",
}

local function operation(body, fields)
  return ('local moonpool = require "moonpool"\nlocal is = require "moonpool.is"\n' ..
          'return moonpool.operation { summary = "x", %s run = function(tx, input) %s end }')
            :format(fields or "", body)
end

local files = {
  ["scripts/takes.lua"]    =
    operation [[tx:exec("select pg_sleep(0.03), $1::text, $2::text", input.password, input.ssn)]],
  ["scripts/checks.lua"]   =
    operation("return 1", "input = is.object { age = is.integer, name = is.string:max(3) },"),
  ["scripts/pastes.lua"]   = operation [[tx:exec(input.sql); return 1]],
  ["scripts/asks.lua"]     = operation [[return tx:value(input.sql, input.value)]],
  ["scripts/raises.lua"]   = operation [[tx:exec "select 1"; error("no: " .. input.text)]],
  ["scripts/throws.lua"]   = operation [[error { message = input.text }]],
  ["scripts/fails.lua"]    =
    operation [[moonpool.fail("REFUSED", "no: " .. input.text, { status = input.status })]],
  ["scripts/poses.lua"]    =
    operation [[moonpool.fail("CONFLICT", "no: " .. input.text, { status = 409 })]],
  ["scripts/decimal.lua"]  = operation [[return moonpool.decimal(input.text)]],
  ["scripts/requires.lua"] = operation [[return require(input.text)]],
  ["scripts/columns.lua"]  = operation [[return tx:one("select 1 as a")[input.text] ]],
  ["scripts/reads.lua"]    = operation [[local note = tx:value "select note from secrets_spec.notes"
                                         return tx:value("select $1::int", note)]],
}

describe("a secret", function()
  local host, schema, all, monitor, answers

  local function ask(method, path, options)
    local answer = service.ask(host, method, path, options)
    answers[#answers + 1] = { sent = json.encode(options) .. path,
                              body = answer.head .. answer.body }
    return answer
  end

  local function call(name, input, headers)
    return ask("POST", "/api/ops/" .. name, { token = all, json = input, headers = headers }).status
  end

  setup(function()
    schema = scratch.schema("secrets_spec", {
      "create table secrets_spec.people (ssn text primary key, note text check (note <> 'x' and \z
        length(note) < 5))",
      ("insert into secrets_spec.people values ('%s', 'n')"):format(secrets.key_value),
      "create table secrets_spec.notes (note text)",
      ("insert into secrets_spec.notes values ('%s')"):format(secrets.stored),
      [[create function secrets_spec.raise(m text, h text, state text) returns void language plpgsql
        as
        $$ begin raise exception 'no: %', m using hint = h, detail = h, errcode = state; end $$]],
      "grant execute on function secrets_spec.raise to moonpool_app",
    })
    host, answers = service.start(files,
                                  { env = { DB_SLOW_QUERY_THRESHOLD = "20",
                                            MOONPOOL_LOG_LEVEL = "debug" } }), {}
    all, monitor = service.token "--scopes ops:*", service.token "--scopes monitor"

    local s = secrets
    assert.are.equal(
      200, call("takes", { password = s.password, ssn = s.ssn, card = s.card, token = s.token }))
    assert.are.equal(400, call("checks", { age = s.refused, name = s.refused, [s.refused] = 1 }))
    for status, texts in pairs {
      [200] = { "select pg_sleep(0.03), '%literal' /* %comment */",
                "select pg_sleep(0.03), %number" },
      [409] = { "insert into secrets_spec.people values ('%key_value', 'n')" },
      -- CHECK, NOT NULL: the operator's
      [500] = { "insert into secrets_spec.people values ('1', '%row_value')",
                "insert into secrets_spec.people values (null, '%row_value')",
                "selct '%unparsable' -- %comment",
                "select '%unparsable", "select 1 2 '%unparsable'", "select 1 %number",
                "select '%cast'::int", "select no_such('%literal', %number)" },
    } do
      for _, text in ipairs(texts) do
        local sql = text:gsub("%%([%a_]+)", s)
        assert.are.equal(status, call("pastes", { sql = sql }), sql)
      end
    end
    call("asks", { sql = "insert into secrets_spec.people values ($1, 'n') returning 1",
                   value = s.key_value })
    call("asks", { sql = "select ($1::text)::int", value = s.cast })
    for _, state in ipairs { "P0001", "23505", "22023", "40001", "MP001" } do
      call("asks", { sql = ("select secrets_spec.raise($1, 'x', '%s')"):format(state),
                     value = s.raised })
      call("asks", { sql = ("select secrets_spec.raise('x', $1, '%s')"):format(state),
                     value = s.hint })
    end
    for _, name in ipairs { "raises", "throws", "decimal", "requires", "columns" } do
      assert.are.equal(500, call(name, { text = s.lua_error }), name)
    end
    for _, status in ipairs { 422, 500, 503 } do
      assert.are.equal(status, call("fails", { text = s.failure, status = status }))
    end
    assert.are.equal(409, call("poses", { text = s.failure }))
    assert.are.equal(500, call "reads")
    local headers = { ["Idempotency-Key"] = s.key, Cookie = s.cookie }
    assert.are.equal(200, call("takes", { password = "x" }, headers))
    assert.are.equal(422, call("takes", { password = "y" }, headers))
    for _, authorization in ipairs { "Bearer " .. s.bearer, "Basic " .. s.basic } do
      assert.are.equal(
        401, ask("GET", "/metrics", { headers = { Authorization = authorization } }).status)
    end
    ask("GET", "/api/db/slow-queries?threshold=" .. s.query_string, { token = monitor })
    ask("GET", "/api/db/query-history?password=" .. s.query_string, { token = monitor })
    ask("POST", "/api/ops/takes?password=" .. s.query_string, { token = all })
    assert.are.equal(404, ask("GET", "/reset/" .. s.path, { token = all }).status)
  end)

  teardown(function()
    host:stop()
    schema.drop()
  end)

  local function assert_nowhere(where, text)
    for name, value in pairs(secrets) do
      local at = text:find(value, 1, true)
      assert.is_nil(at, at and ("%s in %s: %s"):format(name, where,
                                                       text:sub(math.max(1, at - 200), at + 60)))
    end
    assert.is_nil(text:find(all, 1, true))
    assert.is_nil(text:find(monitor, 1, true))
  end

  it("is not in the log, which tells of each failure", function()
    local log = host:log()
    for _, name in ipairs { "takes", "pastes" } do
      assert.matches("slow: %d+ ms at scripts/" .. name .. "%.lua:3", log)
    end
    for _, name in ipairs { "raises", "throws", "decimal", "requires", "columns", "reads" } do
      assert.truthy(log:find(name .. " failed: ", 1, true), name)
    end
    assert_nowhere("the log", log)
  end)

  it("is on no page", function()
    local pages = 0
    local function look(path)
      local answer = service.ask(host, "GET", path, { token = monitor })
      assert.is_true(answer.status < 500, path)
      assert_nowhere(path, answer.head .. answer.body)
      pages = pages + 1
      return answer.json
    end
    for _, path in ipairs { "/", "/health", "/metrics", "/openapi.json", "/api/ops",
                            "/api/db/health", "/api/db/metrics",
                            "/api/db/pool-metrics", "/api/db/transaction-stats",
                            "/api/db/operations", "/api/db/alerts",
                            "/api/db/overview", "/api/db/slow-queries" } do
      look(path)
    end
    local history = look "/api/db/query-history?limit=100"
    assert.is_true(history.count > 25)
    for _, query in ipairs(look("/api/db/slow-queries?threshold=0").queries) do
      look("/api/db/plan?number=" .. math.tointeger(query.number))
    end
    for _, known in ipairs((look "/api/db/calls?limit=200" or {}).calls or {}) do
      look("/api/db/call?id=" .. known.id)
    end
    assert.is_true(pages > 40)
  end)

  it("is not in what the recorder keeps, which says where it went wrong", function()
    local list = host:ask { ["do"] = "why" }
    assert.is_true(#list.calls >= 30)
    assert_nowhere("the calls", json.encode(list))
    for _, known in ipairs(list.calls) do
      local call_of = host:ask { ["do"] = "why", id = known.id }
      assert_nowhere("the call of " .. known.operation, json.encode(call_of))
    end
    assert.matches(" REFUSED: raised at scripts/fails%.lua:3", list.report)
    assert.matches(" CONFLICT: raised at scripts/poses%.lua:3", list.report)
    assert.matches("raised at scripts/raises%.lua:3", list.report)
    assert.matches(
      "raised by PL/pgSQL function secrets_spec%.raise%(text,text,text%) line 1 at RAISE",
      list.report)
  end)

  it("is in no answer on the socket of the machine", function()
    for _, order in ipairs { "status", "generations", "schedules", "metrics" } do
      assert_nowhere(order, json.encode(host:ask { ["do"] = order }))
    end
  end)

  it("is in no answer but to who sent it", function()
    for _, answer in ipairs(answers) do
      for name, value in pairs(secrets) do
        assert.is_true(not answer.body:find(value, 1, true)
                       or answer.sent:find(value, 1, true) ~= nil, name .. answer.body)
      end
    end
  end)

  it("is not told by a host that cannot reach its database", function()
    local folder = command.folder { ["scripts/takes.lua"] = files["scripts/takes.lua"] }
    local secret = "url-2f2f-secret"
    for _, url in ipairs { "postgres://app:" .. secret .. "@127.0.0.1:1/none",
                           "postgres://app:" .. secret .. "@[::1",
                           "host=127.0.0.1 port=1 user=app password=" .. secret,
                           moonpool.host.app_url:gsub("//[^@]*@",
                                                      "//moonpool_app:" .. secret .. "@") } do
      local env = { DATABASE_URL = url, MOONPOOL_STATE = folder.path .. "/state",
                    MOONPOOL_LOG_LEVEL = "debug",
                    DB_CONNECT_TIMEOUT = "500", MOONPOOL_WATCH = "0",
                    MOONPOOL_OWNER_URL = url }
      for _, args in ipairs { "call takes '{}'", "config", "serve --listen nonsense",
                              "migrate status", "token list" } do
        local output = command.run(args, { dir = folder.path, env = env })
        assert.is_nil(output:find(secret, 1, true), args .. ": " .. output)
      end
    end
    folder.remove()
  end)
end)
