-- The one table of all codes of errors: it is whole and it holds together. help_spec.lua sees to it
-- that the topic shows it.
local codes    = require "moonpool.script.codes"
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local sources  = require "spec.support.data.sources"

local function moonpool_errors(args)
  return command.run("errors " .. args, { dir = moonpool.app_dir })
end

describe("the table of codes", function()
  it("holds each code that the host can give an error", function()
    local found = 0
    local function known(code, where)
      found = found + 1
      assert.is_table(codes[code], code .. " of " .. where .. " is not in src/util/codes.c")
    end
    for _, path in ipairs(sources.files "lua -name '*.lua' -not -path '*/types/*'") do
      local text = sources.read(path)
      for code in text:gmatch 'code%s*=%s*"(%u[%u_%d]+)"' do
        -- "ERROR": what has no code yet
        if path ~= "lua/moonpool/errors.lua" then known(code, path) end
      end
      for code in text:gmatch 'refuse%(%d+, "(%u[%u_]+)"' do known(code, path) end
    end
    for _, path in ipairs(sources.files "src -name '*.[ch]'") do
      local text = sources.read(path)
      for code in text:gmatch 'refuse%(%a+, %d+, "(%u[%u_]+)"' do known(code, path) end
      for code in text:gmatch 'X%(MP_E%u+, "(%u[%u_]+)"' do known(code, path) end
      for code in text:gmatch '[.>]name, "(%u[%u_]+)"%)' do known(code, path) end
    end
    -- What the parser and the server of HTTP answer by themselves.
    local of_status = {}
    local listed = sources.read "src/http/message.c"
    for status, code in listed:gmatch 'X%((%d+), "[^"]+", "(%u[%u_]+)"%)' do
      of_status[status] = code
    end
    for _, status in ipairs { "400", "401", "403", "404", "405", "408", "413", "414", "415", "417",
                              "421", "429",
                              "431", "499", "501", "503", "505" } do
      known(of_status[status], "src/http/message.c")
    end
    assert.is_true(found > 60)
  end)

  it("gives each a status, a fault, a cause and a remedy that go together", function()
    local of_state = {}
    for _, row in ipairs(codes) do
      assert.matches("^%u[%u_]+$", row.code)
      assert.is_true(row.status >= 400 and row.status <= 599, row.code)
      if row.status < 500 then assert.are.equal("caller", row.fault, row.code) end
      -- Faults of the caller's that are 5xx are of the protocol.
      if row.fault == "caller" and row.status >= 500 then
        assert.is_true(row.status == 501 or row.status == 505, row.code)
      end
      if row.fault ~= "caller" then
        assert.is_string(row.told, row.code .. ": nothing of its message may reach a caller")
      end
      if row.fault == "transient" then
        assert.is_true(row.again ~= "no" or row.code == "OUTCOME_UNKNOWN", row.code)
      end
      assert.is_true(#row.cause > 10 and #row.remedy > 5, row.code)
      for state in row.sqlstates:gmatch "%S+" do
        assert.is_true(#state == 5 or #state == 2, state)
        assert.is_nil(of_state[state], state .. " has two codes")
        of_state[state] = row.code
      end
    end
  end)
end)

describe("moonpool errors", function()
  it("lists them, for people and for programs", function()
    local text, list = moonpool_errors "", json.decode((moonpool_errors "--json"))
    assert.are.equal(#codes, #list)
    for i, row in ipairs(codes) do
      assert.truthy(text:find(row.code, 1, true))
      assert.are.same(row, list[i])
    end
    local topic = command.run("help errors", { dir = moonpool.app_dir })
    for _, row in ipairs(codes) do
      assert.truthy(topic:find(("- `%s`: %d"):format(row.code, row.status), 1, true), row.code)
    end
  end)

  it("explains one, by its code or its SQLSTATE", function()
    local text, code = moonpool_errors "not_null_violation"
    assert.are.equal(0, code)
    for _, word in ipairs { "NOT_NULL_VIOLATION", "500", "operator", "23502",
                            codes.NOT_NULL_VIOLATION.remedy } do
      assert.truthy(text:find(word, 1, true), text)
    end
    assert.are.equal(text, (moonpool_errors "23502"))
    assert.matches("^SERVER_LIMIT", (moonpool_errors "53999")) -- of its class
    assert.matches("^DATABASE_ERROR", (moonpool_errors "42P01")) -- the rest
    text, code = moonpool_errors "STOCK_EMPTY"
    assert.are.equal(2, code)
    assert.matches("a script's own", text)
  end)
end)
