-- Correct scripts for the schema of shop.lua, of three projects that are written in different ways.
local shop = require "spec.support.data.shop"

-- One operation a file, nothing shared.
local plain = {
  ["scripts/sell.lua"] = shop.operation([[
    local product = tx:one("select * from products where shop_id = $shop_id and id = $product_id "
      .. "for update", input, "Product not found: $product_id")
    if product.stock < input.quantity then
      moonpool.fail("OUT_OF_STOCK", ("only %d left"):format(product.stock), { status = 409 })
    end
    tx:exec("update products set stock = stock - $quantity where shop_id = $shop_id "
            .. "and id = $product_id", input)
    local order = tx:insert("orders", { shop_id = input.shop_id, id = tx:uuid(),
      number = "o-" .. product.sku, product_id = product.id, quantity = input.quantity,
      details = { sku = product.sku, at = tx:now() } })
    tx:publish("order.made", { id = order.id })
    tx:after_commit(function() moonpool.cache.invalidate("stock") end)
    return order]], "  errors = { orders_quantity_check = { \"NO_QUANTITY\", 400 } },"),

  ["scripts/find.lua"] = shop.operation([[
    local found = {}
    for i, row in ipairs(tx:query("select id, sku, price, note from products where "
      .. "shop_id = $shop_id and (sku = any($tags) or sku = $sku) order by "
      .. input.order .. " desc, id", input)) do
      local note = row.note
      if not note then note = "" end
      found[i] = { id = row.id, label = row.sku .. " " .. tostring(row.price),
                   note = note:upper() .. (row.note or "") }
    end
    return { found = found, count = tx:value("select count(*) from products where shop_id = $1",
      input.shop_id) }]], "  read_only = true,"),

  ["scripts/totals.lua"] = shop.operation([[
    local first = tx:first([=[
      select sum(o.quantity) as pieces, min(p.price) as least from orders o
        join products p on p.shop_id = o.shop_id and p.id = o.product_id
       where o.shop_id = $shop_id and total(o.quantity, 2) > 2 group by p.sku]=], input)
    tx:exec([=[
      with old as (select id, shop_id from products where shop_id = $shop_id and stock < 0)
      update products p set stock = 0 from old where old.id = p.id and p.shop_id = old.shop_id]=],
      input)
    if not first then return moonpool.null end
    return { pieces = first.pieces, cheap = first.least < moonpool.decimal "10",
             free = first.least == moonpool.decimal "0" }]], [[
  output = is.object { pieces = is.integer, cheap = is.boolean, free = is.boolean }:nullable(),]]),
}

-- Helpers in lib/: queries put together of parts, methods of tables, functions that take functions.
local shared = {
  ["scripts/lib/query.lua"] = [[
local Query = {}
Query.__index = Query

local query = {}

function query.from(name) return setmetatable({ name = name, parts = {} }, Query) end

function Query:also(condition)
  table.insert(self.parts, condition)
  return self
end

function Query:text()
  return "select * from " .. self.name .. " where " .. table.concat(self.parts, " and ")
end

--- @param tx moonpool.tx
function query.each(tx, sql, params, fn)
  for i, row in ipairs(tx:query(sql, params)) do fn(i, row) end
end

return query
]],
  ["scripts/lib/limits.lua"] = [[
local limits = { most = 50 }
local sizes = setmetatable({ small = 1 }, { __index = function() return 10 end })

function limits.of(name) return math.min(limits.most, sizes[name]) end

return limits
]],
  ["scripts/list.lua"] = shop.operation([[
    local wanted = query.from("products"):also "shop_id = $shop_id"
    if input.tags then wanted:also "sku = any($tags)" end
    if input.quantity > 1 then
      wanted:also "stock >= $quantity"
    else
      wanted:also "stock > 0"
    end
    local list, params = {}, { limit = limits.of "small" }
    for name, value in pairs(input) do params[name] = value end
    query.each(tx, wanted:text() .. " limit $limit", params, function(i, row)
      list[i] = row.sku
    end)
    return list]], "  read_only = true,",
    'local query  = require "lib.query"\nlocal limits = require "lib.limits"'),

  ["scripts/change.lua"] = shop.operation([[
    local ok, fault = pcall(function()
      return tx:savepoint(function(inner)
        inner:exec("update products set price = $price where shop_id = $shop_id and id = $id",
                   { price = input.price, shop_id = input.shop_id, id = input.product_id })
        return moonpool.call("list", { shop_id = input.shop_id, product_id = input.product_id,
          sku = "x", quantity = 1, price = "1.00" })
      end)
    end)
    if not ok then moonpool.log.warn("not changed: %s", tostring(fault)) end
    local seen, count = {}, 0
    for _, name in ipairs(input.tags or {}) do
      if not seen[name] then seen[name], count = true, count + 1 end
    end
    return { count = count }]]),
}

-- Everything beside the usual: a subscriber, a schedule, a tool that is run from the command line.
local odd = {
  ["scripts/on_order.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"

return moonpool.operation {
  on     = "order.made",
  tenant = "shop_id",
  input  = is.object { shop_id = is.uuid, id = is.uuid },
  run    = function(tx, message)
    tx:exec("update orders set details = null where shop_id = $shop_id and id = $id",
            message.payload)
  end,
}
]],
  ["scripts/nightly.lua"] = [[
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local counted  = { "products", "orders" }

return moonpool.operation {
  every    = "0 3 * * *",
  for_each = "select id from shops",
  tenant   = "shop_id",
  input    = is.object { shop_id = is.uuid },
  output   = is.timestamp:optional(),
  run   = function(tx, input)
    for _, name in ipairs(counted) do
      tx:value(("select count(*) from %s where shop_id = $shop_id"):format(name), input)
    end
    local oldest
    repeat
      oldest = tx:first("select made_at from orders where shop_id = $1 order by made_at limit 1",
                        input.shop_id)
    until not oldest or oldest.made_at
    goto done
    ::done::
    return oldest and oldest.made_at
  end,
}
]],
  ["scripts/tools/report.lua"] = [[
local db   = require "moonpool.db"
local lfs  = require "lfs"
local name = ... or "report.txt"

local file = assert(io.open(name, "w"))
for row in db.stream("select name from shops order by name") do file:write(row.name, "\n") end
db.transaction({ read_only = true }, function(tx)
  file:write(tostring(tx:value "select count(*) from shops"), os.date(), "\n")
end)
db.lease(function(conn)
  if not conn.value "select pg_try_advisory_lock(1)" then os.exit(1) end
end)
file:close()
print(lfs.currentdir(), arg[0])
]],
}

return { plain = plain, shared = shared, odd = odd }
