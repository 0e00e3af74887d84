-- Scripts with a mistake each, for the project of shop.lua. The comment `--! rule: words` stands on
-- the line that must be reported, `--^ rule: words` below it: with that rule and with words of its
-- message; after a bar, words of its help.
local shop = require "spec.support.data.shop"

local files = {}

-- Each body is the `run` of an operation of its own.
local function mistake(name, body, fields, head)
  files["scripts/" .. name .. ".lua"] = shop.operation(body, fields, head)
end

-- -- the SQL text ---------------------------------------------------------------------------------

mistake("unknown_column", [=[
    return tx:one([[
      select id, skuu --! sql: column "skuu" does not exist | did you mean `sku`?
        from products where shop_id = $shop_id and id = $product_id]], input)]=])

mistake("unknown_table", [=[
    return tx:one("select id from prodcts where shop_id = $shop_id",
    --^ sql: "prodcts" does not exist | `products`
                  input)]=])

mistake("wrong_syntax", [=[
    return tx:query("select id frm products where shop_id = $shop_id", --! sql: syntax error
                    input)]=])

mistake("no_right", [=[
    return tx:value "select word from secrets"
    --^ sql: permission denied for table secrets | grant]=])

mistake("types_differ", [=[
    return tx:query([[
      select id from products where shop_id = $shop_id
        and id = quantity_of($quantity)]], input) --! sql: function quantity_of]=])

mistake("in_two_parts", [=[
    local columns = "id, "
    columns = columns .. "prise" --! sql: column "prise" does not exist | `price`
    return tx:query("select " .. columns .. " from products where shop_id = $shop_id", input)]=])

mistake("in_a_branch", [=[
    local sql = "select id from products where shop_id = $shop_id"
    if input.tags then
      sql = sql .. " and tags = any($tags)" --! sql: column "tags" does not exist
    end
    return tx:query(sql .. " order by id", input)]=])

mistake("formatted", [=[
    local function all(name)
      return tx:query(("select * from %s where shop_id = $shop_id"):format(name), input)
    end
    all "products"
    return all "oders" --! sql: relation "oders" does not exist | `orders`]=])

mistake("with_a_value", [=[
    return tx:query("select id from products where shop_id = $shop_id and sku = '"
      .. input.sku --! sql-value: input.sku | write $name
      .. "'", input)]=])

mistake("with_a_value_formatted", [=[
    local sql = "select id from products where shop_id = $shop_id and stock = %d"
    return tx:query(sql:format(input.quantity), input)
    --^ sql-value: input.quantity]=])

mistake("two_texts", [=[
    tx:exec("delete from orders where shop_id = $shop_id; select 1", input)
    --^ sql: more than one statement]=])

mistake("control", [=[
    tx:exec "set local role postgres" --! refused: the host controls]=])

mistake("names_twice", [=[
    return tx:query("select p.id, o.id from products p join orders o using (shop_id) "
    --^ sql: both named `id` | as
      .. "where shop_id = $shop_id and o.product_id = p.id", input)]=])

mistake("read_only_write", [=[
    tx:exec("update products set stock = 0 where shop_id = $shop_id", input)
    --^ read-only: UPDATE fails here]=],
  "  read_only = true,")

mistake("read_only_lock", [=[
    return tx:first("select id from products where shop_id = $shop_id for update", input)
    --^ read-only: SELECT … FOR UPDATE]=],
  "  read_only = true,")

-- -- parameters -----------------------------------------------------------------------------------

mistake("parameter_name", [=[
    return tx:one("select id from products where shop_id = $shop_id and id = $produkt_id",
                  input) --! parameter: `produkt_id` | did you mean `product_id`?]=])

mistake("parameter_of_table", [=[
    return tx:one("select id from products where shop_id = $shop and id = $id",
                  { shop = input.shop_id }) --! parameter: has no `id`]=])

mistake("parameters_missing", [=[
    return tx:one "select id from products where shop_id = $shop_id"
    --^ parameter: no values are given]=])

mistake("parameter_count", [=[
    return tx:query("select id from products where shop_id = $1 and id = $2",
                    input.shop_id) --! parameter: 2 parameters, and 1 value is given]=])

mistake("parameter_type", [=[
    return tx:query("select id from products where shop_id = $shop_id and id = $sku",
                    input) --! type: `input.sku` is is.string | is.uuid]=])

mistake("parameter_scalar", [=[
    return tx:one("select id from products where shop_id = $shop_id",
                  "7f000000-0000-7000-8000-000000000000")
                  --^ parameter: its values come in a table]=])

mistake("message_name", [=[
    return tx:one("select id from products where shop_id = $shop_id and id = $product_id", input,
                  "Not found: $product") --! message: `$product` | callers would see it]=])

-- -- insert ---------------------------------------------------------------------------------------

mistake("insert_column", [=[
    return tx:insert("products", {
      shop_id = input.shop_id, id = tx:uuid(), sku = input.sku,
      prise = input.price, --! insert: no column `prise` | `price`
      price = input.price,
    })]=])

mistake("insert_missing", [=[
    return tx:insert("orders", { --! insert: leaves out `number`, `quantity`
      shop_id = input.shop_id, id = tx:uuid(), product_id = input.product_id,
    })]=])

mistake("insert_table", [=[
    return tx:insert("product", { id = tx:uuid() }) --! insert: no table `product` | `products`]=])

mistake("insert_type", [=[
    return tx:insert("products", {
      shop_id = input.shop_id, id = tx:uuid(), price = input.price, sku = input.sku,
      sold_on = input.quantity, --! type: sold_on: `input.quantity` is is.integer | is.date
    })]=])

mistake("insert_right", [=[
    return tx:insert("shops", { id = tx:uuid(), name = input.sku })
    --^ sql: permission denied for table shops | grant insert]=])

-- -- what is read ---------------------------------------------------------------------------------

mistake("row_field", [=[
    local product = tx:one("select id, sku from products where shop_id = $shop_id", input)
    return { sku = product.skuu } --! row-field: no column `skuu` | `sku`]=])

mistake("rows_field", [=[
    local products = tx:query("select id, sku from products where shop_id = $shop_id", input)
    return { sku = products.sku } --! row-field: array of rows | rows[1].sku]=])

mistake("row_in_loop", [=[
    local skus = {}
    local products = tx:query("select sku from products where shop_id = $shop_id", input)
    for _, product in ipairs(products) do
      skus[#skus + 1] = product.name --! row-field: no column `name`
    end
    return skus]=])

mistake("input_field", [=[
    if input.quantitty > 3 then return 1 end --! input-field: no field `quantitty` | `quantity`]=])

mistake("decimal_equals", [=[
    if input.price == 0 then return "free" end --! decimal: never equals a number]=])

-- -- names ----------------------------------------------------------------------------------------

mistake("global", [=[
    return json.encode(input) --! global: no global `json` | require "moonpool.json"]=])

mistake("global_set", [=[
    total = input.quantity --! global: cannot be set | local total]=])

mistake("outside_sandbox", [=[
    local file = io.open "/etc/passwd" --! global: no global `io` | cannot reach it
    return file]=])

mistake("tx_method", [=[
    return tx:selct("select 1 as one") --! name: no tx:selct]=])

mistake("tx_dot", [=[
    return tx.query("select 1 as one") --! name: called with a colon | tx:query]=])

mistake("module_function", [=[
    return moonpool.fial("NOT_THERE", "it is not there")
    --^ name: moonpool has no `fial` | `fail`]=])

mistake("module_missing", [=[
    return require "lib.taxes".of(input.price)
    --^ require: no module `lib.taxes` | scripts/lib/taxes.lua]=])

mistake("fail_code", [=[
    moonpool.fail("not found", "it is not there") --! fail: must be made of capitals]=])

mistake("fail_status", [=[
    moonpool.fail("NOT_FOUND", "it is not there", 404) --! fail: the status stands in a table]=])

mistake("call_name", [=[
    return moonpool.call("unknown_colum", input)
    --^ call: no operation `unknown_colum` | `unknown_column`]=])

-- -- retries --------------------------------------------------------------------------------------

mistake("counts_calls", [=[
    calls = calls + 1 --! state: `calls` belongs to the file
    return calls]=], nil, "local calls = 0")

mistake("remembers", [=[
    seen[input.sku] = true --! state: `seen` belongs to the file]=], nil, "local seen = {}")

mistake("clock", [=[
    return { at = os.time() } --! clock: each attempt | tx:now()]=])

mistake("dice", [=[
    return { n = math.random(6) } --! clock: each attempt | tx:random()]=])

mistake("database_inside", [=[
    return db.value "select 1" --! outside: refused inside of an operation | tx:value]=], nil,
  'local db = require "moonpool.db"')

mistake("cache_inside", [=[
    moonpool.cache.invalidate "products" --! effect: rolled back | tx:after_commit]=])

-- -- taken by the server, and not what was meant --------------------------------------------------

mistake("quoted_parameter", [=[
    return tx:query("select id from products where shop_id = $shop_id and sku = '$sku'", input)
    --^ quoted: '$sku' in quotes | $sku without quotes]=])

mistake("equals_null", [=[
    return tx:query("select id from products where shop_id = $shop_id and note = null", input)
    --^ null: never true | is null]=])

mistake("without_where", [=[
    tx:exec "update shops set name = 'x'" --! sql: permission denied
    tx:exec "delete from orders" --! no-where: all rows of the table]=])
files["scripts/without_where.lua"] = files["scripts/without_where.lua"]:gsub(
  '"delete from orders" %-%-!', '"delete from audit" --!')

mistake("no_returning", [=[
    return tx:one("update products set stock = 0 where shop_id = $shop_id and id = $product_id",
    --^ no-rows: gives no rows | returning
                  input)]=])

mistake("list_in_parentheses", [=[
    return tx:query("select id from products where shop_id = $shop_id and id in ($tags)", input)
    --^ type: `input.tags` is is.array | any($name)]=])

mistake("wrong_enum", [=[
    if input.order == "prise" then return 1 end --! never: "prise" | "price"]=])

mistake("wrong_lua_type", [=[
    local product = tx:first("select stock from products where shop_id = $shop_id", input)
    return product and product.stock == "0" --! never: number, which never equals a string]=])

mistake("one_is_never_nil", [=[
    local product = tx:one("select id from products where shop_id = $shop_id", input)
    if not product then return moonpool.null end --! never-nil: this row is never nil | tx:first
    return product]=])

mistake("array_is_never_nil", [=[
    local products = tx:query("select id from products where shop_id = $shop_id", input)
    if products == nil then return 0 end --! never-nil: array of rows is never nil | #rows]=])

mistake("float_and_decimal", [=[
    return { price = input.price * 1.19 } --! decimal: with a float | decimal "1.19"]=])

mistake("tx_in_hook", [=[
    tx:after_commit(function()
      tx:exec("update products set stock = 0 where shop_id = $shop_id", input) --! over: is over
    end)]=])

mistake("sleeps", [=[
    moonpool.sleep(2) --! sleep: its locks are held]=])

mistake("input_of_call", [=[
    return moonpool.call("sleeps", { shop_id = input.shop_id, product_id = input.product_id,
    --^ call: the input of sleeps needs `quantity`
      sku = "a", price = "1.00",
      quantty = 1 })]=])
files["scripts/input_of_call.lua"] = files["scripts/input_of_call.lua"]:gsub("quantty = 1",
  "%0 --! call: no field `quantty` | `quantity`\n")

-- -- NULL and lengths -----------------------------------------------------------------------------

mistake("null_column", [=[
    local product = tx:first("select note from products where shop_id = $shop_id", input)
    return product and product.note:upper() --! nullable: `row.note` may be NULL | no NOT NULL]=])

mistake("perhaps_no_row", [=[
    local product = tx:first("select sku from products where shop_id = $shop_id", input)
    return { sku = product.sku } --! nullable: there may be no row | tx:one]=])

mistake("null_of_outer_join", [=[
    for _, row in ipairs(tx:query([[
      select p.sku, o.quantity from products p
        left join orders o on o.shop_id = p.shop_id and o.product_id = p.id
       where p.shop_id = $shop_id]], input)) do
      if row.quantity > 5 then return row.sku end --! nullable: `row.quantity` | outer join
    end]=])

mistake("null_inserted", [=[
    return tx:insert("products", { shop_id = input.shop_id, id = tx:uuid(), price = input.price,
      sku = input.code, --! insert: `input.code` may be absent | :default
    })]=])
files["scripts/null_inserted.lua"] = files["scripts/null_inserted.lua"]:gsub("is%.object {",
  "%0 code = is.string:optional(),")

mistake("too_long", [=[
    return tx:insert("orders", { shop_id = input.shop_id, id = tx:uuid(), quantity = 1,
      product_id = input.product_id,
      number = input.sku, --! length: may have 20 characters, and the column `number` takes 12
    })]=])

-- -- tenants --------------------------------------------------------------------------------------

mistake("tenant_not_named", [=[
    return tx:query("select id from products where sku = $sku", input)
    --^ tenant-key: does not compare the shop_id of `products` | shop_id = $shop_id]=])

mistake("tenant_of_one_table", [=[
    return tx:query([[
      select p.id, o.number from products p join orders o on o.product_id = p.id
       where p.shop_id = $shop_id]], input)]=])
files["scripts/tenant_of_one_table.lua"] = files["scripts/tenant_of_one_table.lua"]:gsub(
  "return tx:query%(%[%[", "%0 --! tenant-key: does not compare the shop_id of `orders`")

mistake("tenant_in_subquery", [=[
    return tx:exec([[ --! tenant-key: the shop_id of `orders`
      delete from products p where p.shop_id = $shop_id
         and not exists (select from orders o where o.product_id = p.id)]], input)]=])

files["scripts/tenant_left_out.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"
return moonpool.operation {
  input = is.object { shop_id = is.uuid }, --! tenant: has the tenant's field `shop_id` | tenant =
  run   = function(tx, input)
    return tx:query("select sku from products where shop_id = $shop_id", input)
    --^ tenant: shows it no row of `products`
  end,
}
]]

-- -- locks ----------------------------------------------------------------------------------------

mistake("locks_first", [=[
    tx:exec("update orders set quantity = 1 where shop_id = $shop_id", input)
    tx:exec("update products set stock = 1 where shop_id = $shop_id", input)]=])

mistake("locks_other", [=[
    tx:first("select id from products where shop_id = $shop_id for no key update", input)
    tx:exec("delete from orders where shop_id = $shop_id", input)
    --^ locks: the other way round in locks_first (scripts/locks_first.lua:13) | same lane]=])

-- -- the definition -------------------------------------------------------------------------------

mistake("constraint_name", [=[
    return nil]=], [=[
  errors = { product_sku_key = { "SKU_TAKEN", 409 } },
  --^ constraint: `product_sku_key` | `products_sku_key`]=])

mistake("output_field", [=[
    local product = tx:one("select * from products where shop_id = $shop_id and id = $product_id",
                           input)
    return { produkt = product, --! output: has no field `produkt` | `product`
             product = product }]=], "  output = is.object { product = is.row },")

mistake("output_columns", [=[
    return { product = tx:one([[
      select sku from products where shop_id = $shop_id and id = $product_id]], input) }]=],
  "  output = is.object { product = is.row:of('products', 'skuu') }, "
  .. "--! output: no column `skuu` | `sku`")

mistake("output_missing", [=[
    return { count = 1 } --! output: needs `product`]=],
  "  output = is.object { product = is.row, count = is.integer },")

mistake("output_kind", [=[
    return {
      product = tx:query("select sku from products where shop_id = $shop_id", input),
      --^ output: `product` is is.row, and this is an array of rows
    }]=], "  output = is.object { product = is.row },")

-- -- files ----------------------------------------------------------------------------------------

files["scripts/unfinished.lua"] = [[
local moonpool = require "moonpool"
return moonpool.operation {
  run = function(tx
    return 1 --! syntax: expected
  end,
}
]]

files["scripts/no_operation.lua"] = [[
return { run = function() end } --! load: must return moonpool.operation
]]

files["scripts/no_field.lua"] = [[
return require "moonpool".operation {
  isolaton = "serializable", --! load: no field `isolaton`; did you mean `isolation`?
  run = function() end,
}
]]

files["scripts/no_lane.lua"] = [[
local is = require "moonpool.is"
return require "moonpool".operation {
  input = is.object { sku = is.string },
  lane = "sku:$skuu", --! load: names `skuu`, which is not a field of the input
  run = function() end,
}
]]

files["scripts/reports/by_day.lua"] = [[
local moonpool = require "moonpool" --! not-operation: operations are the files of scripts/ itself
return moonpool.operation { run = function() end }
]]

files["scripts/constant.lua"] = [[
local limit <const> = 3
limit = 4 --! load: attempt to assign to const variable
return require "moonpool".operation { run = function() return limit end }
]]

return files
