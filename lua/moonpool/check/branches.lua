-- moonpool.check.branches: what several ways through a script leave behind. Each way is followed
-- from the same state; then a variable may have any of the values that they gave it.
local values = require "moonpool.check.values"

local branches = {}

--- Runs fn() as a branch. -> what it assigned (cell -> value), and what fn returned. The cells
--- have their values from before.
function branches.branch(self, fn)
  local journal, finals = {}, {}
  local dead = self:with({ journal = journal }, fn)
  for cell, before in pairs(journal) do
    finals[cell], cell.value = cell.value, before
  end
  return finals, dead
end

--- Goes on after one of several branches.
function branches.join(self, outcomes)
  local cells = {}
  for _, finals in ipairs(outcomes) do
    for cell in pairs(finals) do cells[cell] = true end
  end
  for cell in pairs(cells) do
    local list = {}
    for i, finals in ipairs(outcomes) do list[i] = finals[cell] or cell.value end
    self:write(cell, values.union(table.unpack(list)))
  end
end

-- A text that each turn of a loop makes longer is not seen.
local function is_text(value)
  for _, member in ipairs(values.members(value)) do
    if member.kind == "text" then return true end
  end
  return false
end

--- Follows the body of a loop, which runs any number of times.
function branches.loop(self, node, body)
  local finals = branches.branch(self, function() return self:with({ looping = true }, body) end)
  for cell, value in pairs(finals) do
    if is_text(value) and is_text(cell.value) then
      finals[cell] = values.hole(self.file, node, "a text that a loop makes")
    end
  end
  branches.join(self, { finals, {} })
end

return branches
