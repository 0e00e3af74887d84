-- Command lines of the form `--name value`.

--- The defaults with what the arguments say. A default that is a number asks for a number; an unknown name is an error.
---@param defaults table<string, string | number>
---@param ... string
---@return table<string, any>
return function(defaults, ...)
  local given, names = { ... }, {}
  local options = {}
  for name, value in pairs(defaults) do options[name], names[#names + 1] = value, "--" .. name end
  table.sort(names)
  for i = 1, #given, 2 do
    local name, value = tostring(given[i]):match "^%-%-(.*)$", given[i + 1]
    local default = defaults[name]
    if default == nil then
      error(string.format("unknown option %s: these are known: %s", tostring(given[i]), table.concat(names, " ")), 0)
    end
    if value == nil then error("--" .. name .. " needs a value", 0) end
    if type(default) == "number" then
      value = tonumber(value) or error(string.format("--%s needs a number, not %s", name, value), 0)
    end
    options[name] = value
  end
  return options
end
