-- Dealerships that cannot leak over HTTP: every operation that a host serves, with a token of
-- dealership A, asked for what is B's: by the tenant's name, by each id that it takes, by the
-- token's user, by B's cursors and keys. B's rows stay as they are.
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local host       = require "moonpool.host"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local registry   = require "moonpool.operation.registry"
local schemas    = require "moonpool.is.schema"
local service    = require "spec.support.process.http_service"
local serving    = require "spec.support.process.serving"
local tenants    = require "spec.support.data.tenants"

registry.load()

describe("over HTTP a token of dealership A", function()
  local owner, everything, server, a, b, token, as_theirs

  setup(function()
    owner = db.open { url = host.owner_url, max = 2 }
    everything = tenants.reader(owner)
    server = service.start(serving.project())
    a, b = dealership.new(), dealership.new()
    token = service.token(("--tenant %s --user %s"):format(a.id, a:user { role = "admin" }.id))
    as_theirs = service.token(("--tenant %s --user %s"):format(a.id, b.salesperson.id))
  end)

  teardown(function()
    server:stop()
    owner.close()
  end)

  local function call(name, input, options)
    options = options or {}
    return service.ask(server, "POST", "/api/ops/" .. name,
                       { token = options.token or token, headers = options.headers,
      body = json.encode(input, { camel = true, decimal_strings = true }) })
  end

  -- Neither dealership's rows change while fn() gives the answer, which names no row of B's but the
  -- id that was sent.
  local function refused(status, code, fn, sent)
    local before = everything(a, b)
    local answer = fn()
    assert.are.same({ status, code },
                    { answer.status, answer.json.error and answer.json.error.code }, answer.body)
    assert.are.same(before, everything(a, b))
    local text = sent and answer.body:gsub(sent:gsub("%-", "%%-"), "") or answer.body
    for _, row in ipairs { b, b.salesperson } do
      assert.is_nil(text:find(row.id, 1, true), answer.body)
    end
  end

  local function legal(name, d)
    local input = tenants.inputs[name](d)
    if registry.operations[name].tenant then input.dealership_id = d.id end
    return input
  end

  it("meets the operations that are described here, and no other", function()
    local document = service.ask(server, "GET", "/openapi.json", { token = token }).json
    local served = {}
    for path in pairs(document.paths) do served[path:match "^/api/ops/(.*)$" or path] = true end
    assert.are.same(tenants.sorted(registry.operations), tenants.sorted(served))
    for name in pairs(tenants.example(registry.operations)) do
      assert.is_function(tenants.inputs[name],
                         "spec/support/data/tenants.lua: describe a legal input of " .. name)
    end
  end)

  for _, name in ipairs(tenants.sorted(tenants.example(registry.operations))) do
    local op = registry.operations[name]

    describe("in " .. name, function()
      if not tenants.inputs[name] then return end

      if not op.tenant then
        it("reaches nobody of B's, and takes no id", function()
          assert.are.same({}, tenants.references(schemas.of(op.input)))
          local input = legal(name, b)
          refused(401, "INVALID_CREDENTIALS", function() return call(name, input) end)
        end)
        return
      end

      it("works for A, named or not, under a key that B has used too", function()
        local key = { ["Idempotency-Key"] = moonpool.uuid() }
        local theirs = call(name, legal(name, b),
                            { headers = key, token = service.token("--tenant " .. b.id) })
        assert.are.equal(200, theirs.status, theirs.body)
        local named, unnamed = legal(name, a), legal(name, a)
        unnamed.dealership_id = nil
        local before = everything(b)
        for _, ours in ipairs { call(name, unnamed, { headers = key }), call(name, named) } do
          assert.are.equal(200, ours.status, ours.body)
          assert.is_nil(ours.body:find(b.id, 1, true), ours.body)
        end
        assert.are.same(before, everything(b))
      end)

      it("is refused for B", function()
        local input = legal(name, b)
        refused(403, "MULTI_TENANT_VIOLATION", function() return call(name, input) end, b.id)
        input = legal(name, a)
        input.dealership_id = b.id
        refused(403, "MULTI_TENANT_VIOLATION", function() return call(name, input) end, b.id)
        refused(403, "MULTI_TENANT_VIOLATION", function()
          return call(name, input, { token = as_theirs })
        end, b.id)
      end)

      it("cannot name B in another way", function()
        local input = legal(name, a)
        input.dealership_id = nil
        local text = json.encode(input, { camel = true, decimal_strings = true })
        local function with_body(fields)
          return service.ask(server, "POST", "/api/ops/" .. name,
                             { token = token, body = text:gsub("^{", "{" .. fields ..
            (text == "{}" and "" or ","), 1) })
        end
        for _, fields in ipairs {
          ('"dealership_id":"%s"'):format(b.id),
          ('"dealershipId":"%s","dealership_id":"%s"'):format(a.id, b.id),
          ('"dealershipId":"%s","dealershipId":"%s"'):format(a.id, b.id),
          ('"dealershipId":["%s"]'):format(b.id),
          ('"tenant":"%s"'):format(b.id),
        } do
          refused(400, "VALIDATION_ERROR", function() return with_body(fields) end, b.id)
        end
        refused(403, "MULTI_TENANT_VIOLATION", function()
          return with_body(('"dealershipId":"%s"'):format(b.id:upper()))
        end, b.id:upper())
      end)

      for _, path in ipairs(tenants.references(schemas.of(op.input), op.tenant)) do
        it("takes B's " .. table.concat(path, ".") .. " for none", function()
          local make = tenants.ids[path[#path]]
          assert.is_function(make, ("make an id for the field %s in spec/support/data/tenants.lua")
            :format(path[#path]))
          local input, foreign = legal(name, a), make(b)
          for _, dealership_id in ipairs { false, a.id } do
            input.dealership_id = dealership_id or nil
            refused(404, "RESOURCE_NOT_FOUND", function()
              return call(name, tenants.with(input, path, foreign))
            end, foreign)
          end
        end)
      end

      if not op.read_only then
        it("takes a user of B's for nobody", function()
          local input = legal(name, a)
          local before, told = everything(a, b), {}
          for i, user in ipairs { b.salesperson.id, moonpool.uuid() } do
            local answer = call(name, input,
                                { token = service.token(
                                  ("--tenant %s --user %s"):format(a.id, user)) })
            local e = answer.json.error or {}
            told[i] = { answer.status, e.code,
                        e.message and e.message:gsub(user:gsub("%-", "%%-"), "<user>") }
          end
          assert.are.same(told[2], told[1])
          assert.is_true(told[1][1] >= 400)
          assert.are.same(before, everything(a, b))
        end)
      end

      if schemas.of(op.input).fields.cursor then
        it("goes on from B's cursor with rows of A's", function()
          for _, d in ipairs { a, b } do
            for _ = 1, 3 do
              d:deal()
              d:customer()
            end
          end
          local theirs = call(name, { limit = 1 },
                              { token = service.token("--tenant " .. b.id) }).json.result.nextCursor
          local answer = call(name, { limit = 100, cursor = theirs })
          assert.are.equal(200, answer.status, answer.body)
          assert.is_nil(answer.body:find(b.id, 1, true), answer.body)
        end)
      end
    end)
  end
end)
