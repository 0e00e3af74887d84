-- Command lines of the form `--name value`.

-- A line and the exit status for who wrote the command: there is nothing to trace.
local function refuse(...)
  io.stderr:write("moonpool bench: ", string.format(...), "; see: moonpool bench NAME --help\n")
  os.exit(2)
end

--- The defaults with what the arguments say. A default that is a number asks for a number; an
--- unknown name is refused.
---@param _ table
---@param defaults table<string, string | number>
---@param ... string
---@return table<string, any>
local function read(_, defaults, ...)
  local given, names = { ... }, {}
  local options = {}
  for name, value in pairs(defaults) do options[name], names[#names + 1] = value, "--" .. name end
  table.sort(names)
  for i = 1, #given, 2 do
    local name, value = tostring(given[i]):match "^%-%-(.*)$", given[i + 1]
    local default = defaults[name]
    if default == nil then
      refuse("unknown option %s: these are known: %s", tostring(given[i]), table.concat(names, " "))
    end
    if value == nil then refuse("--%s needs a value", name) end
    if type(default) == "number" then
      value = tonumber(value) or refuse("--%s needs a number, not %s", name, value)
    end
    options[name] = value
  end
  return options
end

return setmetatable({ refuse = refuse }, { __call = read })
