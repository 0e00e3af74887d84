---@meta moonpool.generations
-- LuaCATS definitions of `moonpool.generations`: for the host's own jobs and for scripts that
-- `moonpool run` starts, not for operations.

---@class moonpool.reload_report
---@field ok boolean
---@field generation integer  the one that takes calls now
---@field files integer
---@field changed integer
---@field ms number
---A summary in one line; if not ok, one line for each fault: "scripts/x.lua:12: message".
---@field report string

---@class moonpool.generation_state : moonpool.generation
---@field state "loading" | "current" | "retiring" | "closing"
---@field age number          seconds
---@field calls integer       running calls
---@field memory integer      bytes
---@field operations integer  the number of its operations

---@class moonpool.generations_call_options
---@field tenant? string
---@field as? string          user id
---@field scopes? string
---@field key? string         idempotency key
---@field timeout? number     seconds
---@field far? boolean        over the network: what a caller there may do and see
---@field dry_run? boolean    rolls back; `key` is not looked at
---A module of the host that is called instead of an operation, in the generation's Lua state. It
---returns function(name, json, options) -> json.
---@field entry? string

---@class moonpool.generations
local generations = {}

---Loads scripts/ again and waits for the result. A failed reload changes nothing.
---@return moonpool.reload_report
function generations.reload() end

---The number of the generation that takes calls; 0 before the first reload.
---@return integer
function generations.current() end

---@return moonpool.generation_state[]  the newest first
function generations.list() end

---From now on checks scripts/ every `seconds` seconds, and reloads if it has changed; 0 ends this.
---@param seconds number
function generations.watch(seconds) end

---Calls an operation of the current generation. Input and result are passed as JSON: the names in
---the result are in camelCase. A failure is raised with only those fields that a caller may see.
---@param name string
---@param input? table
---@param options? moonpool.generations_call_options
---@return any result
---@return integer generation
function generations.call(name, input, options) end

---Like `call`, but with JSON texts, and a failure is returned, not raised.
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

---A description of each operation of the current generation.
---@return moonpool.generations.operation[]
function generations.operations() end

---@class moonpool.generations.raised
---@field codes string[] of the errors that the operation's `errors` and files name
---@field open? boolean  it may raise others, whose codes it computes

---By the operation's name.
---@return table<string, moonpool.generations.raised>
function generations.raised() end

return generations
