-- Lists a dealership's deals, newest first, page by page.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local paging   = require "lib.paging"

local state = is.enum { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED", "DELIVERED" }
local closed = { CANCELLED = true, DELIVERED = true }

local deals = paging.list("deals", {
  { name = "created_at", schema = is.timestamp },
  { name = "id",         schema = is.uuid },
})

-- Each filter that is given adds its condition, so that the planner sees which index serves it:
-- open deals have one of their own.
local function conditions(input, after)
  local sql = "dealership_id = $dealership_id"
  if input.states then
    local wanted, open, count = {}, true, 0
    for _, name in ipairs(input.states) do
      if not wanted[name] then wanted[name], count = true, count + 1 end
      open = open and not closed[name]
    end
    if open then sql = sql .. " and deal_state not in ('CANCELLED', 'DELIVERED')" end
    if not open or count < 3 then sql = sql .. " and deal_state = any($states)" end
  end
  if input.salesperson_id then sql = sql .. " and salesperson_id = $salesperson_id" end
  if input.customer_id then sql = sql .. " and customer_id = $customer_id" end
  if after then sql = sql .. " and (created_at, id) < ($after_created_at, $after_id)" end
  return sql
end

return moonpool.operation {
  summary = "List deals, newest first, by state, salesperson or customer",

  input = is.object {
    dealership_id  = is.uuid,
    states         = is.array(state):min(1):max(5):optional(),
    salesperson_id = is.uuid:optional(),
    customer_id    = is.uuid:optional(),
    limit          = paging.limit,
    cursor         = paging.cursor:optional():describe("nextCursor of the page before"),
  },
  output = is.object { deals = is.array(is.row:of "deals"), next_cursor = is.string:optional() },

  tenant    = "dealership_id",
  read_only = true,
  timeout   = 10,

  run = function(tx, input)
    local after = deals:after(input.cursor)
    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    if input.salesperson_id then
      tx:one("select id from users where dealership_id = $dealership_id and id = $salesperson_id",
             input,
             "Salesperson not found: $salesperson_id")
    end
    if input.customer_id then
      tx:one("select id from customers where dealership_id = $dealership_id and id = $customer_id",
             input,
             "Customer not found: $customer_id")
    end

    local params = { limit = input.limit + 1 }
    for name, value in pairs(input) do
      if name ~= "limit" then params[name] = value end
    end
    for name, value in pairs(after or {}) do params[name] = value end
    local rows = tx:query("select * from deals where " .. conditions(input, after)
                          .. " order by created_at desc, id desc limit $limit", params)

    local page, next_cursor = deals:page(rows, input.limit)
    return { deals = page, next_cursor = next_cursor }
  end,
}
