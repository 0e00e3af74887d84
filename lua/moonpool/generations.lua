-- moonpool.generations: the generations of scripts/ in a serving host; for the host's own jobs, not
-- for operations.
local host   = require "moonpool.host"
local border = require "moonpool.operation.border"
local errors = require "moonpool.errors"
local json   = require "moonpool.json"

local native = host.generations
  or error("moonpool.generations: this code has none; they belong to `moonpool serve`", 2)

local generations = {
  reload  = native.reload,  -- () -> { ok, generation, files, changed, ms, report }
  current = native.current, -- () -> the number of the generation that takes calls, 0 if none does
  list    = native.list,    -- () -> { { number, state, opened_at, age, calls, memory, files }, … }
  watch   = native.watch,   -- (seconds between two checks of scripts/; 0: no checks)
  -- (name, JSON text, options) -> ok, JSON text, generation, status, detail
  call_json = native.call,
}

-- call(name, input, options) -> result, generation. Calls an operation of the current generation.
-- Its failure is raised with only those fields that a caller may see. Input and result are passed
-- as JSON. Options: tenant, as, scopes, key, timeout.
function generations.call(name, input, options)
  local ok, text, number = native.call(name, border.encode(input or json.decode "{}"), options)
  local value = json.decode(text, { decimals = true })
  if ok then return value, number end
  error(errors.new(value), 2)
end

-- Asks an entry of the current generation, which answers with JSON.
local function ask(entry)
  local ok, text = native.call(entry, nil, { entry = entry })
  local value = json.decode(text)
  return ok and value or error(errors.new(value), 3)
end

-- operations() -> a description of each operation of the current generation: name, summary, every,
-- …
function generations.operations() return ask "moonpool.operation.describe" end

-- raised() -> by the operation's name: { codes = of the errors that it raises, open = true if it
-- may raise others }
function generations.raised() return ask "moonpool.check.raised" end

return generations
