---@meta moonpool.json
-- Strict and exact JSON. Marks (metatables) distinguish [] from {}, and say which names are data.

---@class moonpool.json
---@field null lightuserdata JSON's null
---@field array_mt table the mark of arrays
local json = {}

---@class moonpool.json.encode_options
---@field pretty? boolean two blanks per level, names sorted
---@field sorted? boolean names sorted
---@field camel? boolean customer_id becomes customerId, but not inside raw tables
---Decimals as strings, as for callers from outside; numbers that were read from JSON stay numbers.
---@field decimal_strings? boolean

---@class moonpool.json.decode_options
---@field decimals? boolean fractions, exponents and integers beyond 64 bits become decimals
---The text was made from Lua values by this host: its decimals are written as strings for callers,
---like any other decimals.
---@field own? boolean
---@field raw? boolean mark all tables as raw
---@field max_bytes? integer default 16 MiB
---@field max_values? integer  the most values in total; more raise CONTENT_TOO_LARGE

---Raises with the path of a value that cannot be JSON: "$.items[3].x: a function cannot be JSON".
---@param value any
---@param options? moonpool.json.encode_options
---@return string
function json.encode(value, options) end

---Raises with line and column. Numbers become integers; else floats if that loses no digits; else
---decimals.
---@param text string
---@param options? moonpool.json.decode_options
---@return any
function json.decode(text, options) end

---Marks (or makes) an array, so that it is written as [] even when empty.
---@generic T: table
---@param t? T
---@return T
function json.array(t) end

---Marks (or makes) an object whose own names are data: they keep their spelling, where customer_id
---would become customerId for callers. The names of objects inside it are still respelled; json.raw
---keeps all names.
---@generic T: table
---@param t? T
---@return T
function json.object(t) end

---The same as json.object.
---@generic T: table
---@param t? T
---@return T
function json.map(t) end

---A value that is written unchanged. A text must be JSON (this is checked) and is written as that
---JSON, not as a JSON string. In a table no name is respelled, at any depth. Other values are
---returned unchanged.
---@generic T
---@param value string|T
---@return moonpool.json.text|T
function json.raw(value) end

---The result of json.raw(text).
---@class moonpool.json.text: userdata

---True if the value is written as an array.
---@param value any
---@return boolean
function json.is_array(value) end

---customer_id -> customerId. An underscore before a digit stays (line_2), so that json.snake
---returns the same name. A text that is not a snake_case identifier is returned unchanged.
---@param name string
---@return string
function json.camel(name) end

---customerId -> customer_id.
---@param name string
---@return string
function json.snake(name) end

return json
