-- Dealerships that cannot leak: every operation with every id that it takes, of another dealership;
-- and SQL that means harm, as the application role. An operation or a table that is not described
-- here fails until it is.
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local host       = require "moonpool.host"
local inline     = require "spec.support.data.inline"
local moonpool   = require "moonpool"
local registry   = require "moonpool.operation.registry"
local schemas    = require "moonpool.is.schema"
local tenants    = require "spec.support.data.tenants"

registry.load()

local owner = db.open { url = host.owner_url, max = 2 }
teardown(function() owner.close() end)

local tables, everything = tenants.tables(owner), tenants.reader(owner)
local sorted, inputs, ids, references, with = tenants.sorted, tenants.inputs, tenants.ids,
  tenants.references, tenants.with

-- Operations --------------------------------------------------------------------------------------

-- What a caller is told, with the id itself left out.
local function answer(name, input, id, options)
  local e = failure(moonpool.call, name, input, options)
  return { code = e.code, status = e.status, sqlstate = e.sqlstate,
           message = e.message:gsub(id:gsub("%-", "%%-"), "<id>"),
           fields = e.fields }
end

describe("an operation", function()
  local a, b

  before_each(function()
    a, b = dealership.new(), dealership.new()
  end)

  local function input_of(name, d)
    local input = inputs[name](d)
    if registry.operations[name].tenant then input.dealership_id = d.id end
    return input
  end

  it("that is broken hides none", function()
    assert.are.same({}, registry.broken)
  end)

  for _, name in ipairs(sorted(tenants.example(registry.operations))) do
    local op = registry.operations[name]

    describe(name, function()
      it("is described here", function()
        assert.is_function(inputs[name],
                           "spec/support/data/tenants.lua: describe a legal input of " .. name)
        assert.is_not_nil(op.input, name .. " needs an input schema")
      end)
      if not (inputs[name] and op.input) then return end

      if name ~= "verify_password" then
        it("works with what is its own", function()
          moonpool.call(name, input_of(name, a))
          moonpool.call(name, input_of(name, a),
                        { tenant = a.id, as = a:user { role = "admin" }.id })
        end)
      end

      for _, path in ipairs(references(schemas.of(op.input), op.tenant)) do
        local field = path[#path]
        it("takes another dealership's " .. table.concat(path, ".") .. " for none", function()
          assert.is_function(ids[field], ("spec/support/data/tenants.lua: make an id \z
            for the field %s")
            :format(field))
          for _, pair in ipairs { { a, b }, { b, a } } do
            local ours, theirs = pair[1], pair[2]
            local input, foreign, nobody = input_of(name, ours), ids[field](theirs), moonpool.uuid()
            for _, options in ipairs { {}, { tenant = ours.id, as = ours.salesperson.id } } do
              local before = everything(a, b)
              local told = answer(name, with(input, path, foreign), foreign, options)
              assert.are.same(answer(name, with(input, path, nobody), nobody, options), told)
              assert.are.same({ "RESOURCE_NOT_FOUND", 404 }, { told.code, told.status })
              assert.truthy(told.message:find("not found: <id>", 1, true), told.message)
              assert.are.same(before, everything(a, b))
            end
          end
        end)
      end

      if op.tenant then
        it("refuses a caller of another dealership than the input names", function()
          for _, pair in ipairs { { a, b }, { b, a } } do
            local ours, theirs = pair[1], pair[2]
            local input = input_of(name, theirs)
            local before = everything(a, b)
            for _, as in ipairs { ours.salesperson.id, theirs.salesperson.id } do
              local e = failure(moonpool.call, name, input, { tenant = ours.id, as = as })
              assert.are.same({ "MULTI_TENANT_VIOLATION", 403 }, { e.code, e.status })
            end
            assert.are.same(before, everything(a, b))
          end
        end)

        if not op.read_only then
          it("takes a caller who is another dealership's user for nobody", function()
            local input, nobody = input_of(name, a), moonpool.uuid()
            local before = everything(a, b)
            local told = answer(name, input, b.salesperson.id,
                                { tenant = a.id, as = b.salesperson.id })
            assert.are.same(answer(name, input, nobody, { tenant = a.id, as = nobody }), told)
            assert.are.same(before, everything(a, b))
          end)
        end
      else
        it("has no tenant, and takes no id either", function()
          assert.are.same({}, references(schemas.of(op.input)))
        end)
      end

      if op.read_only then
        it("writes nothing", function()
          local input = input_of(name, a)
          local before = everything(a, b)
          moonpool.call(name, input)
          assert.are.same(before, everything(a, b))
        end)
      end
    end)
  end
end)

-- SQL as the application role ---------------------------------------------------------------------

-- One row, at least, in each table.
local function fill(d)
  local function add(name, values)
    values.dealership_id = d.id
    return owner.insert(name, values)
  end
  local user, customer, vehicle, deal = d.salesperson.id, d:customer().id, d:vehicle().id,
    d:deal().id
  local scenario = d:insert("deal_scenarios", { deal_id = deal }).id
  d:trade_vehicle()
  d:email_message()
  add("user_permissions", { user_id = user, permission = "deals.read" })
  add("customer_notes", { id = moonpool.uuid(), customer_id = customer, user_id = user,
                          note = "Called" })
  add("customer_vehicles", { id = moonpool.uuid(), customer_id = customer, year = 2018,
                             make = "Honda", model = "Civic" })
  add("customer_history", { id = moonpool.uuid(), customer_id = customer, event_type = "visit",
                            description = "Walked in" })
  add("appointments", { id = moonpool.uuid(), user_id = user, vehicle_id = vehicle, title = "Drive",
                        scheduled_at = "2026-03-14T10:00:00Z" })
  add("security_audit_log",
      { id = moonpool.uuid(), user_id = user, event_type = "login", success = true })
  add("audit_log", { id = moonpool.uuid(), user_id = user, action = "create", entity_type = "deal",
                     entity_id = deal,
                     deal_id = deal, scenario_id = scenario })
  add("deal_number_sequences", { current_sequence = 7 })
  add("dealership_stock_settings", {})
  local lender = add("lenders", { id = moonpool.uuid(), name = "Bank" }).id
  add("lender_programs", { id = moonpool.uuid(), lender_id = lender, name = "A", buy_rate = "6.9" })
  local request = add("rate_requests", { id = moonpool.uuid(), deal_id = deal, requested_by = user,
                                         requested_amount = "1.00",
                                         term = 60 }).id
  add("approved_lenders", { id = moonpool.uuid(), rate_request_id = request, lender_id = lender })
  d:transaction(function(tx) tx:exec("select system.seal_audit_log($1, 100)", d.id) end)
end

describe("SQL of dealership A on what is B's", function()
  local a, b, before

  setup(function()
    a, b = dealership.new(), dealership.new()
    fill(a)
    fill(b)
    before = everything(a, b)
  end)

  -- Rows affected or counted, or the SQLSTATE.
  local function as_a(method, sql, ...)
    local params = table.pack(...)
    local ok, result = pcall(inline.call, function(tx)
      return tx[method](tx, sql, table.unpack(params, 1, params.n))
    end, { tenant = "dealership_id" }, { dealership_id = a.id })
    return ok and result or result.sqlstate or error(result, 0)
  end

  local function assert_nothing(result)
    assert.is_true(result == 0 or result == "42501", tostring(result))
    assert.are.same(before, everything(a, b))
  end

  for _, name in ipairs(sorted(tables)) do
    local column = tables[name]

    describe("in " .. name, function()
      it("has something to find", function()
        for _, d in ipairs { a, b } do
          assert.is_true(owner.value(("select count(*) from %s where %s = $1"):format(name, column),
                                     d.id) > 0,
                         "add a row of " .. name .. " in spec/integration/tenants_spec.lua")
        end
      end)

      it("finds nothing", function()
        assert_nothing(as_a("value", ("select count(*) from %s where %s = $1"):format(name, column),
                            b.id))
        assert_nothing(
          as_a("value", ("select count(*) from %s where %s <> $1"):format(name, column), a.id))
        assert_nothing(
          as_a("value", ("select count(*) from (select * from %s where %s = $1 for update) t")
            :format(name, column),
               b.id))
      end)

      it("inserts nothing", function()
        local row = owner.value(("select to_jsonb(t)::text from %s t where %s = $1"):format(name,
          column), b.id)
        assert.are.equal("42501", as_a("count",
          ("insert into %s select (jsonb_populate_record(null::%s, $1::text::jsonb)).*")
            :format(name, name), row))
        assert_nothing(0)
      end)

      it("updates nothing", function()
        assert_nothing(
          as_a("count", ("update %s set created_at = now() where %s = $1"):format(name, column),
               b.id))
      end)

      it("deletes nothing", function()
        assert_nothing(as_a("count", ("delete from %s where %s = $1"):format(name, column), b.id))
      end)

      it("slips in nothing of its own", function()
        assert.are.equal("42501",
                         as_a("count", ("update %s set %s = $1 where %s = $2"):format(name, column,
                           column), b.id, a.id))
        assert_nothing(0)
      end)

      it("cannot empty it", function()
        -- no statement of an operation, says the host
        failure(as_a, "count", ("truncate %s cascade"):format(name))
        assert_nothing(0)
      end)
    end)
  end

  describe("cannot become B's by", function()
    for _, sql in ipairs {
      "set local app.dealership_id = '%s'", "set app.dealership_id = '%s'",
      "select set_config('app.dealership_id', '%s', true)",
      "reset app.dealership_id", "set local role moonpool_owner",
      "set session authorization moonpool_system",
      "set local row_security = off", "alter table deals disable row level security",
      "drop policy tenant on deals",
    } do
      it(sql:format "B", function()
        local seen
        pcall(inline.call, function(tx)
          tx:exec((sql:format(b.id)))
          seen = tx:value("select count(*) from deals where dealership_id = $1", b.id)
        end, { tenant = "dealership_id" }, { dealership_id = a.id })
        assert.is_true(seen == nil or seen == 0, "rows seen: " .. tostring(seen))
        assert.are.same(before, everything(a, b))
      end)
    end
  end)
end)
