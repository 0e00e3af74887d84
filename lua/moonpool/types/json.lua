---@meta moonpool.json
-- Strict and exact JSON. Marks (metatables) tell [] from {} and say which names are data.

---@class moonpool.json
---@field null lightuserdata JSON's null
---@field array_mt table the mark of arrays
local json = {}

---@class moonpool.json.encode_options
---@field pretty? boolean two blanks per level, names sorted
---@field sorted? boolean names sorted
---@field camel? boolean customer_id becomes customerId, but not inside raw tables
---@field decimal_strings? boolean decimals as strings, as at the border; numbers that were read
---   from JSON stay numbers

---@class moonpool.json.decode_options
---@field decimals? boolean fractions, exponents and integers beyond 64 bits become decimals
---@field own? boolean the text was made of Lua values here: its decimals leave as strings at the
---   border, as any others
---@field raw? boolean mark all tables as raw
---@field max_bytes? integer default 16 MiB
---@field max_values? integer  values in all; with more: CONTENT_TOO_LARGE

---Raises with the path of a value that cannot be JSON: "$.items[3].x: a function cannot be JSON".
---@param value any
---@param options? moonpool.json.encode_options
---@return string
function json.encode(value, options) end

---Raises with line and column. Numbers become integers, floats where nothing is lost, else
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

---Marks (or makes) an object whose own names are data: they keep their spelling at the border,
---where customer_id would become customerId. The names of objects within are respelled; json.raw is
---for all of them.
---@generic T: table
---@param t? T
---@return T
function json.object(t) end

---The same.
---@generic T: table
---@param t? T
---@return T
function json.map(t) end

---JSON that is written as it stands: text that is JSON already (checked here), where a string would
---become a JSON string; or a table in which no name is respelled, at any depth. Other values are
---given back as they are.
---@generic T
---@param value string|T
---@return moonpool.json.text|T
function json.raw(value) end

---What json.raw(text) gives.
---@class moonpool.json.text: userdata

---Would the value be written as an array?
---@param value any
---@return boolean
function json.is_array(value) end

---customer_id -> customerId. An underscore before a digit stays (line_2), so that the way back is
---exact. Text that is no snake_case identifier is given back as it is.
---@param name string
---@return string
function json.camel(name) end

---customerId -> customer_id.
---@param name string
---@return string
function json.snake(name) end

return json
