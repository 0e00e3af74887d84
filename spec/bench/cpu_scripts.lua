-- Scripts that only compute, for cpu.lua: each is { name, code }, takes about a tenth of a second,
-- and returns a value that must be the same wherever it runs. Plain Lua 5.4.
return {
  { "loops", [[
local x, y = 1, 0.5
for i = 1, 12000000 do
  x = (x * 7 + i) % 1000003
  if x & 1 == 0 then y = y + x / 3 else y = y - 1 end
end
return x .. " " .. string.format("%.3f", y)]] },

  { "calls", [[
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local function count(n, ...) if n == 0 then return select("#", ...) end return count(n - 1, ...) end
local sum = 0
for i = 1, 100000 do sum = sum + count(5, i, i) end
return fib(29) + sum]] },

  { "tables", [[
local sum = 0
for _ = 1, 6 do
  local composite, byname = {}, {}
  for i = 2, 60000 do
    if not composite[i] then for j = i * i, 60000, i do composite[j] = true end end
    byname["k" .. i % 1000] = (byname["k" .. i % 1000] or 0) + i
  end
  for _, v in pairs(byname) do sum = sum + v end
  for i, v in ipairs(composite) do if v then sum = sum + i end end
end
return sum]] },

  { "small tables", [[
local sum = 0
for round = 1, 8 do
  local rows = {}
  for i = 1, 15000 do rows[i] = { id = i, price = i * 3, tags = { "a", "b" } } end
  local kept = {}
  for _, row in ipairs(rows) do
    if row.id % 3 == 0 then kept[#kept + 1] = { id = row.id, total = row.price * round } end end
  for _, row in ipairs(kept) do sum = sum + row.total end
end
return sum]] },

  { "objects", [[
local Account = {}
Account.__index = Account
function Account.new(n) return setmetatable({ balance = n }, Account) end
function Account:deposit(n) self.balance = self.balance + n return self end
Account.__add = function(a, b) return Account.new(a.balance + b.balance) end
local total = Account.new(0)
for i = 1, 300000 do total = total + Account.new(i):deposit(1) end
return total.balance]] },

  { "closures", [[
local sum = 0
local function counter(from)
  local n = from
  return function(step) n = n + step return n end, function() return n end
end
for i = 1, 150000 do
  local step, get = counter(i)
  step(1) step(2)
  sum = sum + get()
end
return sum]] },

  { "pcall", [[
local failed, sum = 0, 0
local function work(i) if i % 50 == 0 then error "no" end return i end
for i = 1, 1200000 do
  local ok, v = pcall(work, i)
  if ok then sum = sum + v else failed = failed + 1 end
end
return sum .. " " .. failed]] },

  { "coroutines", [[
local sum = 0
local function walk(n) for i = 1, n do coroutine.yield(i) end end
for _ = 1, 1000 do for v in coroutine.wrap(function() walk(100) end) do sum = sum + v end end
local co = coroutine.create(function() while true do coroutine.yield(1) end end)
for _ = 1, 300000 do local _, v = coroutine.resume(co) sum = sum + v end
return sum]] },

  { "sort", [[
local seed, sum = 42, 0
local function draw() seed = (seed * 1103515245 + 12345) % 2147483648 return seed end
for _ = 1, 3 do
  local numbers, rows, names = {}, {}, {}
  for i = 1, 20000 do numbers[i] = draw() end
  for i = 1, 6000 do rows[i] = { key = draw() } names[i] = "n" .. draw() end
  table.sort(numbers)
  table.sort(rows, function(a, b) return a.key < b.key end)
  table.sort(names)
  sum = sum + numbers[100] + rows[10].key + #names[5]
end
return sum]] },

  { "patterns", [[
local sum = 0
local line = "2024-03-01T12:30:00 order=12345 customer='Jane Doe' total=28500.00 note=none; "
  .. "tags=a,b,c"
for _ = 1, 6000 do
  local y, m, d = line:match "^(%d+)-(%d+)-(%d+)"
  for key, value in line:gmatch "(%w+)=([^%s;]+)" do sum = sum + #key + #value end
  sum = sum + #line:gsub("%s+", " ") + #line:gsub("%d", function(c) return c + 1 end)
  sum = sum + line:find("total=", 1, true) + line:find "note=%a+" + y + m + d
  if line:find "^%s*$" then sum = 0 end
end
return sum]] },

  { "strings", [[
local sum = 0
for i = 1, 60000 do
  local s = "item " .. i .. ": " .. i * 2
  s = s:upper():sub(2, -2):rep(2, "-")
  sum = sum + #s + s:byte(3) + #string.format("%05d %-8s %.2f", i, "x", i / 7) + tonumber("1" .. i)
end
return sum]] },

  { "string building", [[
local sum = 0
for _ = 1, 30 do
  local parts = {}
  for i = 1, 4000 do parts[#parts + 1] = "line " .. i end
  local text = table.concat(parts, "\n")
  local short = ""
  for i = 1, 300 do short = short .. i end
  sum = sum + #text + #short
end
return sum]] },

  { "table functions", [[
local sum = 0
for i = 1, 60000 do
  local t = table.pack(i, i + 1, i + 2, nil, i)
  table.insert(t, 1, 0)
  table.insert(t, i)
  sum = sum + table.remove(t) + table.remove(t, 1) + select("#", table.unpack(t, 1, t.n))
  t = table.move(t, 1, 3, 2, {})
  sum = sum + #t
end
return sum]] },

  { "an order", [[
local sum = 0
local rates = { TX = 625, CA = 725, NY = 400 }
local function order(n)
  local o = { lines = {}, state = n % 3 == 0 and "TX" or n % 3 == 1 and "CA" or "NY" }
  for i = 1, 6 do o.lines[i] = { sku = ("SKU-%04d"):format(i * n % 9999), quantity = i,
    cents = 199 * i + n % 100 } end
  return o
end
local function total(o)
  local cents = 0
  for _, line in ipairs(o.lines) do
    assert(line.sku:match "^SKU%-%d+$")
    cents = cents + line.quantity * line.cents
  end
  return cents + (cents * rates[o.state] + 5000) // 10000
end
for n = 1, 18000 do sum = sum + total(order(n)) end
return sum]] },
}
