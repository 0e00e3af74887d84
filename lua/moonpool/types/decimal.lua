---@meta moonpool.decimal
-- Exact decimals: at most 1000 digits, the scale is kept as written ("28500.00"). Operators take
-- decimals and integers; floats are refused. `a / b` has at least 20 significant digits and never
-- fewer places than an operand, rounded half away from zero; `a ^ n` is exact for n >= 0, and has
-- at least 30 significant digits below.
-- `==` compares decimals only (Lua compares a decimal and an integer as unequal); `<` and `<=` take
-- both.

---@alias moonpool.rounding
---| '"half_up"'   # default: halves away from zero
---| '"half_even"' # halves to the even neighbour
---| '"down"'      # towards zero
---| '"up"'        # away from zero
---| '"floor"'     # towards minus infinity
---| '"ceil"'      # towards plus infinity

---@class moonpool.decimal: userdata
---@operator add(moonpool.decimal|integer): moonpool.decimal
---@operator sub(moonpool.decimal|integer): moonpool.decimal
---@operator mul(moonpool.decimal|integer): moonpool.decimal
---@operator div(moonpool.decimal|integer): moonpool.decimal
---@operator pow(integer): moonpool.decimal
---@operator unm: moonpool.decimal
---@operator concat(string|number|moonpool.decimal): string
local methods = {}

---Rounded to `places` (default 0) digits behind the point; negative places round tens, hundreds, …
---@param places? integer
---@param mode? moonpool.rounding
---@return moonpool.decimal
function methods:round(places, mode) end

---The quotient with exactly `places` digits behind the point, rounded once.
---@param divisor moonpool.decimal|integer
---@param places integer
---@param mode? moonpool.rounding
---@return moonpool.decimal
function methods:div(divisor, places, mode) end

---The power rounded to `places`, where the exact one has too many digits (interest over many
---months).
---@param exponent integer
---@param places integer
---@param mode? moonpool.rounding
---@return moonpool.decimal
function methods:pow(exponent, places, mode) end

---@return moonpool.decimal
function methods:abs() end

---@return integer sign -1, 0 or 1
function methods:sign() end

---False for NaN and the infinities that a column may hold: they can be compared, written and sent
---back, not calculated with.
---@return boolean
function methods:is_finite() end

---True if the two are equal. `==` is false for a decimal and a number, whatever they are: Lua does
---not ask further.
---@param other moonpool.decimal|integer
---@return boolean
function methods:eq(other) end

---@return boolean
function methods:is_zero() end

---@return integer places digits behind the point
function methods:scale() end

---Raises unless the value is integral and fits in 64 bits.
---@return integer
function methods:tointeger() end

---The nearest float; for statistics, not for money.
---@return number
function methods:tonumber() end

---@class moonpool.decimal.module
---@overload fun(value: string|integer|moonpool.decimal): moonpool.decimal
local decimal = {}

---@param value any
---@return boolean
function decimal.is(value) end

---@param first moonpool.decimal|integer
---@param ... moonpool.decimal|integer
---@return moonpool.decimal
function decimal.max(first, ...) end

---@param first moonpool.decimal|integer
---@param ... moonpool.decimal|integer
---@return moonpool.decimal
function decimal.min(first, ...) end

return decimal
