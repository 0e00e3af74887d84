-- moonpool.script.sorted: the keys of a table, in order, as an array. All are strings, or all
-- are numbers.
return function(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end
