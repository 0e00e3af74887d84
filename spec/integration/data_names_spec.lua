-- Names that are data keep their spelling at the border, in both directions; all others are
-- camelCase there.
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

local function operation(body, fields)
  return (
    'local moonpool = require "moonpool"\nlocal is, json = require "moonpool.is", require \z
      "moonpool.json"\n' ..
          'return moonpool.operation { summary = "x", %s run = function(tx, input) %s end }')
            :format(fields or "", body)
end

local stock = "{ TEA_1 = 3, tea_green = 4, teaBlack = 5 }"

local files = {
  ["scripts/of_map.lua"]    = operation("return { by_sku = " .. stock .. ", read_at = 1 }",
    "output = is.object { by_sku = is.map(is.integer), read_at = is.integer },"),
  ["scripts/of_maps.lua"]   =
    operation("return { tea_shop = { { tea_green = { unit_price = 1 } } } }",
    "output = is.map(is.array(is.map(is.object { unit_price = is.integer }))),"),
  ["scripts/of_any.lua"]    =
    operation("return { free_form = { tea_green = { unit_price = { 1 } } }, no_list = {} }",
    "output = is.object { free_form = is.any, no_list = is.array(is.integer) },"),
  ["scripts/of_choice.lua"] = operation("return { some_value = { tea_green = 1 } }",
    "output = is.object { some_value = is.one_of(is.string, is.map(is.integer), is.object { \z
      tea_green = is.string }) },"),
  ["scripts/of_object.lua"] = operation("return { by_sku = json.object(" .. stock .. "), " ..
    "in_it = json.object { a_b = { c_d = 1 } } }"),
  ["scripts/of_plain.lua"]  = operation("return { by_sku = " .. stock .. " }"),
  ["scripts/of_column.lua"] = operation([[
    local row = tx:one "select '{\"tea_green\": {\"a_b\": 1}}'::jsonb as by_sku, \z
      '{\"c_d\": 1}'::json as as_text"
    return { whole_row = row, one_column = row.by_sku, its_part = row.by_sku.tea_green, of_array =
      tx:value "select array['{\"e_f\": 1}'::jsonb]" }]]),
  ["scripts/echo.lua"]      = operation(
    "return { by_sku = input.by_sku, free_form = input.free_form, list = input.list_of_maps }",
    "input = is.object { by_sku = is.map(is.object { unit_price = is.integer }), free_form = \z
      is.any, " ..
    "list_of_maps = is.array(is.map(is.integer)):optional() },"),
  ["scripts/refuses.lua"]   =
    operation("return 1", "input = is.object { by_sku = is.map(is.integer) },"),
  ["scripts/publishes.lua"] = operation("tx:publish('data_names', input.free_form)",
                                        "input = is.object { free_form = is.any },"),
  ["scripts/hears.lua"]     = operation("tx:insert('data_names.heard', { doc = message.payload })",
    'on = "data_names",'):gsub("function%(tx, input%)", "function(tx, message)"),
}

describe("names that are data", function()
  local host, token, schema
  setup(function()
    schema = scratch.schema("data_names", { "create table data_names.heard (doc jsonb)" })
    host = service.start(files)
    token = service.token "--scopes ops:*"
  end)
  teardown(function()
    host:stop()
    schema.drop()
  end)

  -- Rows write themselves in the order of their columns.
  local function canonical(text) return json.encode(json.decode(text), { sorted = true }) end

  local function answer(name, body, key)
    local got = service.ask(host, "POST", "/api/ops/" .. name,
      { token = token, body = body or "{}", headers = key and { ["Idempotency-Key"] = key } })
    return canonical(got.body), got
  end

  -- Over HTTP; twice under a key, where the answer is kept; and on the command line.
  local function assert_result(expected, name, body)
    assert.are.equal(('{"result":%s}'):format(expected), answer(name, body))
    local key = moonpool.uuid()
    for _ = 1, 2 do
      assert.are.equal(('{"result":%s}'):format(expected), answer(name, body, key))
    end
    for _, options in ipairs { "", "--key " .. key .. "2" } do
      local folder = command.folder { ["input.json"] = body or "{}" }
      local output = command.run(("--app '%s' call --json %s %s @input.json")
        :format(host.folder.path, options, name),
        { dir = folder.path, env = { DATABASE_URL = moonpool.host.app_url } })
      assert.are.equal(expected, canonical(output))
      folder.remove()
    end
  end

  it("are those of is.map and is.any in `output`", function()
    assert_result('{"bySku":{"TEA_1":3,"teaBlack":5,"tea_green":4},"readAt":1}', "of_map")
    assert_result('{"tea_shop":[{"tea_green":{"unitPrice":1}}]}', "of_maps")
    assert_result('{"freeForm":{"tea_green":{"unit_price":[1]}},"noList":[]}', "of_any")
    assert_result('{"someValue":{"tea_green":1}}', "of_choice")
  end)

  it("are those of json.object", function()
    assert_result('{"bySku":{"TEA_1":3,"teaBlack":5,"tea_green":4},"inIt":{"a_b":{"cD":1}}}',
                  "of_object")
  end)

  it("are those within json and jsonb columns", function()
    assert_result('{"itsPart":{"a_b":1},"ofArray":[{"e_f":1}],"oneColumn":{"tea_green":{"a_b":1}},'
                  ..
      '"wholeRow":{"asText":{"c_d":1},"bySku":{"tea_green":{"a_b":1}}}}', "of_column")
  end)

  it("go round through is.map and is.any", function()
    assert_result(
      '{"bySku":{"TEA_1":{"unitPrice":1},"tea_green":{"unitPrice":2}},"freeForm":{"a_b":[{"cD":{"\z
        e_f":null}}]},' ..
      '"list":[{"x_y":1}]}', "echo",
      '{"bySku":{"TEA_1":{"unitPrice":1},"tea_green":{"unitPrice":2}},"freeForm":{"a_b":[{"cD":{"\z
        e_f":null}}]},' ..
      '"listOfMaps":[{"x_y":1}]}')
  end)

  it("stand in the paths of errors as they came", function()
    local _, got = answer("refuses", '{"bySku":{"tea_green":"x"}}')
    assert.matches("bySku.tea_green: must be an integer", got.json.error.message, 1, true)
    assert.are.equal("bySku.tea_green", got.json.error.fields[1].path)
  end)

  it("arrive with subscribers as they were published", function()
    answer("publishes", '{"freeForm":{"tea_green":{"aB":[{"c_d":1}]}}}')
    local doc = scratch.await("the message", function()
      return db.value "select doc::text from data_names.heard"
    end)
    assert.are.equal('{"tea_green": {"aB": [{"c_d": 1}]}}', doc)
  end)

  it("are no others", function()
    local body = answer "of_plain"
    assert.matches('"teaGreen":4', body, 1, true)
  end)
end)

describe("json.object", function()
  it("marks its own names, at the border and nowhere else", function()
    local value = json.object { a_b = { c_d = 1 } }
    assert.are.equal('{"a_b":{"cD":1}}', json.encode(value, { camel = true }))
    assert.are.equal('{"a_b":{"c_d":1}}', json.encode(value))
    assert.are.equal("{}", json.encode(json.object()))
  end)
end)
