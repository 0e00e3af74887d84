---@meta moonpool.is
-- Schemas. A schema is immutable: each method returns a new schema.

---@class moonpool.schema
local schema = {}

---Checks a value with names in snake_case, as they are used inside the host. Returns a new,
---converted copy, or raises VALIDATION_ERROR.
---@param value any
---@param path? string put in front of the paths in the error
---@return any
function schema:check(value, path) end

---Like `check`, for decoded JSON from outside (camelCase, decimals); positions in error paths count
---from 0.
---@param value any
---@param path? string
---@return any
function schema:from_json(value, path) end

---@return table json_schema JSON Schema 2020-12
function schema:json_schema() end

---The value may be absent.
---@return moonpool.schema
function schema:optional() end

---The value may be null; the copy has is.null then.
---@return moonpool.schema
function schema:nullable() end

---The value that replaces an absent value.
---@param value any
---@return moonpool.schema
function schema:default(value) end

---The smallest number of characters (string) or items (array, map), or the smallest number.
---@param n integer|number|string|moonpool.decimal
---@return moonpool.schema
function schema:min(n) end

---@param n integer|number|string|moonpool.decimal
---@return moonpool.schema
function schema:max(n) end

---is.string only; `what` completes "must look like …".
---@param pattern string a Lua pattern
---@param what? string
---@return moonpool.schema
function schema:pattern(pattern, what) end

---is.decimal only: the most digits after the decimal point.
---@param digits integer
---@return moonpool.schema
function schema:scale(digits) end

---is.decimal only: the most digits in total, as in numeric(12, 2).
---@param digits integer
---@return moonpool.schema
function schema:precision(digits) end

---is.object only: exactly one of these optional fields must be given; the last argument may be the
---message.
---@param ... string
---@return moonpool.schema
function schema:exactly_one(...) end

---is.row only: the table whose row it is, and its columns if it does not have all of them.
---`/openapi.json` takes their types from the database.
---@param name string
---@param ... string columns
---@return moonpool.schema
function schema:of(name, ...) end

---@param text string
---@return moonpool.schema
function schema:describe(text) end

---@class moonpool.is
---@field null lightuserdata
---@field any moonpool.schema any value, unchanged; its names keep their spelling in JSON (jsonb)
---@field boolean moonpool.schema
---@field date moonpool.schema YYYY-MM-DD, a real day
---@field decimal moonpool.schema decimal, integer or plain text; floats are refused
---@field email moonpool.schema
---@field integer moonpool.schema
---@field number moonpool.schema
---@field row moonpool.schema a database row, passed on without a check
---@field string moonpool.schema valid UTF-8 without NUL, at most 10,000 characters (:max: others)
---@field timestamp moonpool.schema ISO 8601 with its zone; becomes UTC
---@field uuid moonpool.schema becomes lower case
local is = {}

---@param values string[]
---@return moonpool.schema
function is.enum(values) end

---@param item moonpool.schema
---@return moonpool.schema
function is.array(item) end

---@param value moonpool.schema
---@return moonpool.schema
function is.map(value) end

---@param fields table<string, moonpool.schema>
---@return moonpool.schema
function is.object(fields) end

---The first schema that accepts the value.
---@param ... moonpool.schema
---@return moonpool.schema
function is.one_of(...) end

---@param value any
---@return boolean
function is.schema(value) end

return is
