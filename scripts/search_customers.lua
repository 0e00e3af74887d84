-- Finds customers by the beginning of their name, by e-mail address or telephone number; in the
-- order of their names.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local paging   = require "lib.paging"

local prefix = is.string:min(1):max(100)

local customers = paging.list("customers", {
  { name = "last_name",  schema = is.string },
  { name = "first_name", schema = is.string },
  { name = "id",         schema = is.uuid },
})

-- Names are compared regardless of case, which under row level security no index on a function of
-- the name can serve. One on the name itself can: a name begins with the first letter, large or
-- small. In whatever order the database sorts, names with that letter lie between it and the next,
-- so this leaves few rows for the comparison that counts.
local function first_letter(params)
  local letter = params.last_name:match "^%a"
  if not letter then return "" end
  for _, case in ipairs { "upper", "lower" } do
    local from = letter[case](letter)
    params[case] = from
    params["past_" .. case] = from:lower() ~= "z" and string.char(from:byte() + 1) or nil
  end
  return params.past_upper and [[ and (last_name >= $upper and last_name < $past_upper
                                       or last_name >= $lower and last_name < $past_lower)]]
    or " and (last_name >= $upper or last_name >= $lower)"
end

local function conditions(params)
  local sql = "dealership_id = $dealership_id"
  if params.last_name then
    sql = sql .. first_letter(params) .. " and starts_with(lower(last_name), lower($last_name))"
  end
  if params.first_name then
    sql = sql .. " and starts_with(lower(first_name), lower($first_name))"
  end
  -- As it was written down, or all small, as most are.
  if params.email then sql = sql .. " and (email = $email or email = lower($email))" end
  if params.phone then sql = sql .. " and phone = $phone" end
  if params.after_id then
    sql = sql
      .. " and (last_name, first_name, id) > ($after_last_name, $after_first_name, $after_id)"
  end
  return sql
end

return moonpool.operation {
  summary = "Find customers by name, e-mail address or telephone number",

  input = is.object {
    dealership_id = is.uuid,
    last_name     = prefix:optional():describe("beginning of the last name, in any case"),
    first_name    = prefix:optional():describe("beginning of the first name, in any case"),
    email         = is.email:optional(),
    phone         = is.string:pattern("^[(]%d%d%d[)] %d%d%d[-]%d%d%d%d$", "(XXX) XXX-XXXX")
      :optional(),
    limit         = paging.limit,
    cursor        = paging.cursor:optional():describe("nextCursor of the page before"),
  },
  output = is.object { customers = is.array(is.row), next_cursor = is.string:optional() },

  tenant    = "dealership_id",
  read_only = true,
  timeout   = 10,

  run = function(tx, input)
    local params = customers:after(input.cursor) or {}
    for name, value in pairs(input) do params[name] = value end
    params.limit = input.limit + 1

    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    local rows = tx:query("select * from customers where " .. conditions(params)
                          .. " order by last_name, first_name, id limit $limit", params)

    local page, next_cursor = customers:page(rows, input.limit)
    return { customers = page, next_cursor = next_cursor }
  end,
}
