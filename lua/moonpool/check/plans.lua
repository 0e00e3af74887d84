-- moonpool.check.plans: conditions on big tables that no index serves. The plan is made with
-- sequential scans switched off, so one is left only where no index can be used.
local plans = {}

local BIG = 10000 -- rows, as the server's statistics have them

local function each(node, visit)
  visit(node)
  for _, part in ipairs(node.Plans or {}) do each(part, visit) end
end

-- The columns that a plan's filter compares: "((shop_id = $1) AND (note = $2))".
local function columns_in(filter, home)
  local names, seen = {}, {}
  for name in filter:gmatch "[%a_][%w_]*" do
    if home.columns[name] and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return table.concat(names, ", ")
end

--- Judges the plan of a statement (EXPLAIN's JSON).
function plans.judge(self, info, node)
  if not info.plan then return end
  local catalog = self.project.catalog
  each(info.plan, function(step)
    local home = catalog.tables[step["Relation Name"] or ""]
    local whole = step["Node Type"] == "Seq Scan"
      or step["Node Type"]:find "^Index" and not step["Index Cond"]
    if not (home and home.rows >= BIG and whole and step.Filter) then return end
    local columns = columns_in(step.Filter, home)
    self:report("warning", "plan", node,
      ("no index serves this condition on `%s`, which has about %d rows"):format(home.name,
        home.rows),
      columns ~= "" and ("an index can help: create index concurrently on %s (%s)"):format(
        home.name, columns) or nil)
  end)
end

return plans
