-- GET /openapi.json of a real host before public validators from npm (openapi.mjs), with what
-- operations take and answer.
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local registry   = require "moonpool.operation.registry"
local service    = require "spec.support.process.http_service"
local serving    = require "spec.support.process.serving"
local tenants    = require "spec.support.data.tenants"

registry.load()

-- What is wrong with a document, and with calls that claim to keep to it; "" if nothing is.
local function faults_of(document, calls)
  assert(os.execute(("test -d '%s/build/npm/node_modules'"):format(moonpool.app_dir)),
         "make build/npm/node_modules")
  local folder = command.folder { ["openapi.json"] = document,
                                  ["calls.json"] = json.encode(json.array(calls)) }
  local pipe = assert(
    io.popen(
      ("cd '%s' && node '%s/spec/support/client/openapi.mjs' '%s/build/npm' openapi.json \z
        calls.json 2>&1")
    :format(folder.path, moonpool.app_dir, moonpool.app_dir)))
  local said = pipe:read "a"
  pipe:close()
  folder.remove()
  return said
end

describe("the OpenAPI document", function()
  local document, calls

  setup(function()
    local host, ours = service.start(serving.project()), dealership.new()
    local token = service.token(("--tenant %s --user %s"):format(ours.id,
      ours:user { role = "admin" }.id))
    local answer = service.ask(host, "GET", "/openapi.json", { token = token })
    document, calls = answer.body, {}
    for name, op in pairs(tenants.example(registry.operations)) do
      for _, legal in ipairs { true, false } do
        local input = tenants.inputs[name](ours)
        if op.tenant then input.dealership_id = legal and ours.id or moonpool.uuid() end
        local body = json.encode(input, { camel = true, decimal_strings = true })
        local said = service.ask(host, "POST", "/api/ops/" .. name, { token = token, body = body })
        assert.are.equal(legal and name ~= "verify_password" and 200 or op.tenant and 403 or 401,
                         said.status, said.body)
        calls[#calls + 1] = { operation = name, input = body, status = said.status,
                              answer = said.body }
      end
    end
    host:stop()
  end)

  it("is valid, and so are its schemas, and operations keep to them", function()
    assert.are.equal("", faults_of(document, calls))
  end)

  it("would be found wrong if it were", function()
    local function found(fault, from, to)
      assert.matches(fault, faults_of(document:gsub(from, to), calls))
    end
    found("the document: ", '"description":"Done', '"explanation":"Done')
    found("the input of add_vehicle: ", '"maximum":2100', '"maximum":1999')
    found("the answer of %l", '"required":%["result"%]', '"required":["outcome"]')
    found("the error of verify_password: ", '"required":%["error"%]', '"required":["fault"]')
  end)
end)
