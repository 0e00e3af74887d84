-- moonpool.test.arguments: the command line of `moonpool spec`: paths, and options of busted.

-- The options of busted whose value may be the next argument.
local takes_value = {}
for name in ([[-p --pattern --exclude-pattern -e -o --output -C --directory -f --config-file
  --coverage-config-file -t --tags --exclude-tags --filter --filter-out -m --lpath --cpath -r --run
  --repeat --seed --lang --loaders --helper --lua -Xoutput -Xhelper --timeout]]):gmatch("%S+") do
  takes_value[name] = true
end

local arguments = {}

--- split(args) -> the paths, the options with their values
function arguments.split(args)
  local paths, options, i = {}, {}, 1
  while args[i] do
    if takes_value[args[i]] then
      table.move(args, i, i + 1, #options + 1, options)
      i = i + 1
    elseif args[i]:sub(1, 1) == "-" then
      options[#options + 1] = args[i]
    else
      paths[#paths + 1] = args[i]
    end
    i = i + 1
  end
  return paths, options
end

--- take(args, ...) -> the value behind the first of these options, which is taken out; nil: none of
--- them is there; false: nothing follows it.
function arguments.take(args, ...)
  for i, arg in ipairs(args) do
    for _, name in ipairs { ... } do
      if arg == name then
        table.remove(args, i)
        return table.remove(args, i) or false
      end
    end
  end
  return nil
end

return arguments
