-- Exact arithmetic: values known from PostgreSQL, all rounding modes, bounds, and what is refused.
local decimal = require "moonpool.decimal"

local function text(v) return tostring(v) end

local function refuses(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok, "expected an error")
  assert.matches(pattern, message)
end

describe("moonpool.decimal", function()
  it("keeps the scale it was written with", function()
    for _, s in ipairs { "28500.00", "0", "-0.10", "0.000", "9999999999.99", "12" } do
      assert.equal(s, text(decimal(s)))
    end
  end)

  it("writes other spellings canonically, as the server does", function()
    local cases = {
      ["007"] = "7", ["+5.0"] = "5.0", [".5"] = "0.5", ["5."] = "5", ["-0"] = "0",
      ["-0.00"] = "0.00",
      ["1e3"] = "1000", ["1.5e-3"] = "0.0015", ["1.50E1"] = "15.0", ["-12E+2"] = "-1200",
    }
    for from, to in pairs(cases) do assert.equal(to, text(decimal(from))) end
  end)

  it("takes integers exactly, over the whole range", function()
    assert.equal("9223372036854775807", text(decimal(math.maxinteger)))
    assert.equal("-9223372036854775808", text(decimal(math.mininteger)))
    assert.equal("5", text(decimal(5.0)))
    assert.equal("100", text(decimal(100)))
  end)

  it("refuses floats, with the way out in the message", function()
    refuses("decimal%(0%.1%): pass a string, floats are not exact", decimal, 0.1)
    refuses("floats are not exact", decimal, 0 / 0)
    refuses("floats are not exact", decimal, math.huge)
    refuses("floats are not exact", function() return decimal "1" + 0.5 end)
    refuses("floats are not exact", function() return decimal "1" < 1.0 end)
  end)

  it("refuses what is no number and what is out of bounds", function()
    for _, s in ipairs { "", "abc", "NaN", "Infinity", "-inf", "1.2.3", "--1", "1e", "1e+", "0x10",
                         " 1", "1 ",
      "1,5", "1\0", "-", ".", "+", "e5", "1_000" } do
      refuses("decimal:", decimal, s)
    end
    refuses("1000 digits", decimal, "1e200000000")
    refuses("1000 digits", decimal, "1e-200000000")
    refuses("1000 digits", decimal, ("9"):rep(1001))
    refuses("1000 digits", decimal, "1e99999999999999999999")
    refuses("got table", decimal, {})
    refuses("got nil", decimal, nil)
    assert.equal(("9"):rep(1000), text(decimal(("9"):rep(1000))))
  end)

  it("adds, subtracts and multiplies exactly", function()
    assert.equal("0.30", text(decimal "0.10" + decimal "0.2"))
    assert.equal("-0.01", text(decimal "1.00" - decimal "1.01"))
    assert.equal("0.00", text(decimal "1.00" - 1))
    assert.equal("2351.250000", text(decimal "28500.00" * decimal "0.0825"))
    assert.equal("42.5", text(2 + decimal "40.5"))
    assert.equal("-38.5", text(2 - decimal "40.5"))
    assert.equal("9223372036854775808", text(decimal(math.maxinteger) + 1))
    assert.equal("-12.50", text(-decimal "12.50"))
    assert.equal("0.0", text(-decimal "0.0"))
  end)

  it("divides to 20 significant digits at least, rounded once", function()
    assert.equal("0.33333333333333333333", text(decimal(1) / 3))
    assert.equal("0.66666666666666666667", text(decimal(2) / 3))
    assert.equal("-3.3333333333333333333", text(decimal(10) / -3))
    assert.equal("1", text((decimal(10) / 3):round(0) - 2))
    local tiny = text(decimal "0.0001" / 30000)
    assert.equal("0.0000000033333333333333333333", tiny)
    -- the quotient 0.5000...0499.. must not be rounded twice
    assert.equal("0.1", text(decimal("0.1499999999999999999999999999999"):div(1, 1)))
    assert.equal("0.01", text(decimal("1"):div(150, 2)))
    assert.equal("0.00", text(decimal("1"):div(201, 2)))
    assert.equal("0.01", text(decimal("1"):div(200, 2)))
    assert.equal("0.00", text(decimal("1"):div(200, 2, "half_even")))
    assert.equal("-0.34", text(decimal(-1):div(3, 2, "up")))
    refuses("division by zero", function() return decimal(1) / 0 end)
    refuses("division by zero", function() return decimal(1) / decimal "0.00" end)
  end)

  it("rounds in every mode", function()
    local want = {
      half_up = { "3", "-3", "4", "2", "-2", "3" }, half_even = { "2", "-2", "4", "2", "-2", "3" },
      down = { "2", "-2", "3", "2", "-2", "2" }, up = { "3", "-3", "4", "3", "-3", "3" },
      floor = { "2", "-3", "3", "2", "-3", "2" }, ceil = { "3", "-2", "4", "3", "-2", "3" },
    }
    local from = { "2.5", "-2.5", "3.5", "2.4999", "-2.4999", "2.5001" }
    for mode, results in pairs(want) do
      for i, s in ipairs(from) do
        assert.equal(results[i], text(decimal(s):round(0, mode)), s .. " " .. mode)
      end
    end
    assert.equal("100.00", text(decimal "99.995":round(2)))
    assert.equal("12300", text(decimal "12345":round(-2)))
    assert.equal("0", text(decimal "-0.4":round()))
    assert.equal("1.50", text(decimal "1.5":round(2)))
    assert.equal("0.01", text(decimal "0.0001":round(2, "up")))
    assert.equal("1000", text(decimal "5":round(-3, "up")))
    assert.equal("0", text(decimal "5":round(-3)))
    refuses("invalid option", function() return decimal "1":round(2, "sideways") end)
    refuses("places", function() return decimal "1":round(1000) end)
  end)

  it("raises to integer powers", function()
    assert.equal("1.0201", text(decimal "1.01" ^ 2))
    assert.equal("1", text(decimal "7.5" ^ 0))
    assert.equal("-8", text(decimal(-2) ^ 3))
    assert.equal("0.125", text((decimal(2) ^ -3):round(3)))
    assert.equal("0.3333333333333333333333333333", text((decimal(3) ^ -1):round(28)))
    assert.equal("1" .. ("0"):rep(999), text(decimal(10) ^ 999))
    refuses("1000 digits", function() return decimal(10) ^ 1000 end)
    refuses("1000 digits", function() return decimal(9) ^ 1000000 end)
    refuses("base:pow", function() return decimal "1.00375" ^ 720 end)
    refuses("outside", function() return decimal(1) ^ 1000001 end)
    refuses("must be an integer", function() return decimal(4) ^ 0.5 end)
    refuses("division by zero", function() return decimal(0) ^ -1 end)
  end)

  it("raises to the power that repeated multiplication gives", function()
    for exponent = 0, 24 do
      for _, base in ipairs { "0", "7", "-3", "10", "1200", "-1208.9", "0.05", "100.00",
                              "1.0741666", "9999999999999999.5" } do
        local product = decimal "1"
        for _ = 1, exponent do product = product * decimal(base) end
        assert.equal(text(product), text(decimal(base) ^ exponent), base .. " ^ " .. exponent)
      end
    end
  end)

  it("gives rounded powers where exact ones have no room", function()
    assert.equal("3.847698049963501744", text(decimal "1.00375":pow(360, 18)))
    assert.equal("0.2599", text(decimal "1.00375":pow(-360, 4)))
    assert.equal("1.10", text(decimal "1.1":pow(1, 2)))
    -- exact where both are possible
    assert.equal(text((decimal "1.0825" ^ 12):round(20)), text(decimal "1.0825":pow(12, 20)))
  end)

  it("is equal to an integer by eq, and knows zero", function()
    assert.is_true(decimal "5.00":eq(5))
    assert.is_true(decimal "5.00":eq(decimal "5"))
    assert.is_false(decimal "5.01":eq(5))
    assert.has_error(function() return decimal "0.5":eq(0.5) end)
    assert.has_error(function() return decimal "5":eq() end)
    assert.is_true(decimal "0.00":is_zero())
    assert.is_true(decimal "-0":is_zero())
    assert.is_false(decimal "0.01":is_zero())
  end)

  it("compares by value, also with integers", function()
    assert.is_true(decimal "1.0" == decimal "1.00")
    assert.is_false(decimal "1.0" == decimal "1.01")
    assert.is_false(decimal "1" == 1) -- Lua never asks a metamethod here
    assert.is_true(decimal "0.9" < 1)
    assert.is_true(1 <= decimal "1.00")
    assert.is_true(decimal "-2" < decimal "-1")
    assert.is_false(decimal "2" < decimal "2.0")
    assert.equal("3.5", text(decimal.max(1, decimal "3.5", 2)))
    assert.equal("-1", text(decimal.min(decimal "3.5", -1)))
    refuses("got string", function() return decimal "1" < "2" end)
    refuses("got nil", function() return decimal "1" + nil end)
  end)

  it("tells its parts", function()
    local d = decimal "-12.50"
    assert.equal("12.50", text(d:abs()))
    assert.equal(-1, d:sign())
    assert.equal(0, decimal "0.0":sign())
    assert.equal(2, d:scale())
    assert.equal(0, decimal "5":scale())
    assert.is_true(decimal.is(d))
    assert.is_false(decimal.is "12.50")
    assert.is_false(decimal.is(io.stdout))
    assert.equal("total: -12.50 or 3", "total: " .. d .. " or " .. 3)
    assert.equal(-12.5, d:tonumber())
  end)

  it("becomes an integer only if it is one", function()
    assert.equal(math.maxinteger, decimal "9223372036854775807.000":tointeger())
    assert.equal(math.mininteger, decimal "-9223372036854775808":tointeger())
    assert.equal("integer", math.type(decimal "1e3":tointeger()))
    refuses("not integral", function() return decimal "1.5":tointeger() end)
    refuses("64 bits", function() return decimal "9223372036854775808":tointeger() end)
    refuses("64 bits", function() return decimal "-9223372036854775809":tointeger() end)
    refuses("64 bits", function() return decimal "1e400":tointeger() end)
  end)

  it("cannot be tampered with", function()
    assert.is_false(getmetatable(decimal "1"))
    assert.is_false(pcall(function() decimal "1".x = 1 end))
    refuses("", function() return decimal "1".round("2") .. {} end)
  end)

  it("keeps the laws of arithmetic on many random values", function()
    math.randomseed(42)
    local function random()
      return decimal(("%d.%0" .. math.random(1, 9) .. "d"):format(math.random(-99999999, 99999999),
        math.random(0, 9)))
    end
    local broken = {}
    for _ = 1, 2000 do
      local a, b, c = random(), random(), random()
      local ok = (a + b) * c == a * c + b * c and a - b == -(b - a)
      if b:sign() ~= 0 then
        -- smaller than one in the last place, and of a's sign
        local rest = a - a:div(b, 10, "down") * b
        ok = ok and rest:abs() < b:abs() * decimal "1e-10" and rest:sign() * a:sign() >= 0
      end
      if not ok then broken[#broken + 1] = a .. " " .. b .. " " .. c end
    end
    assert.same({}, broken)
  end)
end)
