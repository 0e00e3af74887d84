---@meta moonpool.generations
-- LuaCATS definitions of `moonpool.generations`: for the host's own jobs and for scripts that
-- `moonpool run` starts, not for operations.

---@class moonpool.reload_report
---@field ok boolean
---@field generation integer  that takes calls now
---@field files integer
---@field changed integer
---@field ms number
---@field report string       a line for people; if not ok a line for each fault: "scripts/x.lua:12:
---   message"

---@class moonpool.generation_state : moonpool.generation
---@field state "loading" | "current" | "retiring" | "closing"
---@field age number          seconds
---@field calls integer       under way
---@field memory integer      bytes
---@field operations integer  that it has

---@class moonpool.generations_call_options
---@field tenant? string
---@field as? string          user id
---@field scopes? string
---@field key? string         idempotency key
---@field timeout? number     seconds
---@field entry? string       a module of the host that is called in the operation's place, in the
---   generation's state:
---                           function(name, json, options) -> json

---@class moonpool.generations
local generations = {}

---Loads scripts/ anew and waits for the verdict. A failed reload changes nothing.
---@return moonpool.reload_report
function generations.reload() end

---The number of the generation that takes calls; 0 before the first reload.
---@return integer
function generations.current() end

---@return moonpool.generation_state[]  the newest first
function generations.list() end

---Looks at scripts/ every so many seconds and reloads what has changed; 0: no longer.
---@param seconds number
function generations.watch(seconds) end

---Calls an operation of the current generation. Values travel as JSON: names come back in
---camelCase. Its failure is raised as a caller may see it.
---@param name string
---@param input? table
---@param options? moonpool.generations_call_options
---@return any result
---@return integer generation
function generations.call(name, input, options) end

---The same with texts, and without raising.
---@param name string
---@param json? string
---@param options? moonpool.generations_call_options
---@return boolean ok
---@return string json        the result, or the error as a caller may see it
---@return integer generation
---@return integer status     as in HTTP
---@return string detail      of an error, for the log
function generations.call_json(name, json, options) end

---@class moonpool.generations.operation
---@field name string
---@field summary? string
---@field tenant? string
---@field every? string
---@field input? table
---@field output? table

---What each operation of the current generation is.
---@return moonpool.generations.operation[]
function generations.operations() end

return generations
