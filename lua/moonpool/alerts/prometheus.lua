-- moonpool.alerts.prometheus: the rules of alerts/rules.lua as a rule file for Prometheus.
local rules = require "moonpool.alerts.rules"

local signs = { above = ">", below = "<", at_least = ">=" }

local function name_of(rule, level)
  local words = rule.name:gsub("(%a)(%a*)_?", function(first, rest)
    return first:upper() .. rest
  end)
  return "Moonpool" .. words .. level:gsub("^%a", string.upper)
end

-- A scalar of YAML in single quotes.
local function quoted(text)
  return "'" .. text:gsub("'", "''") .. "'"
end

local function add_rule(lines, rule, level)
  local expr = ("%s %s %s"):format(rule.promql, signs[rule.sense], rule[level])
  if rule.promql_only then expr = expr .. " " .. rule.promql_only end
  if level == "warning" then
    expr = ("(%s) unless ignoring (alertname, alertstate, severity) %s"):format(expr,
      ('ALERTS{alertname="%s", alertstate="firing"}'):format(name_of(rule, "critical")))
  end
  local shown = rule.unit == "s" and "{{ $value | humanizeDuration }}" or "{{ $value | humanize }}"
  local add = function(text, ...) lines[#lines + 1] = text:format(...) end
  add("      - alert: %s", name_of(rule, level))
  add("        expr: %s", quoted(expr))
  if rule.for_s > 0 then add("        for: %ds", rule.for_s) end
  add("        labels:")
  add("          severity: %s", level)
  add("        annotations:")
  add("          summary: %s", quoted(rule.title))
  add("          description: %s", quoted(rule.message:format(shown) .. "; " .. rule.action))
end

--- The whole file, as YAML. A critical alert comes first, because the warning, evaluated behind it,
--- does not fire while that does. The intervals are the same as those of the host's own evaluation.
return function()
  local lines = {
    "# Made from lua/moonpool/alerts/rules.lua by: moonpool run scripts/tools/alert_rules.lua",
    "groups:",
    "  - name: moonpool",
    "    interval: 10s",
    "    rules:",
    "      - alert: MoonpoolDown",
    "        expr: 'up{job=\"moonpool\"} == 0'",
    "        for: 30s",
    "        labels:",
    "          severity: critical",
    "        annotations:",
    "          summary: 'A host cannot be scraped'",
    "          description: 'Nothing has answered at {{ $labels.instance }} for 30 seconds'",
  }
  for _, rule in ipairs(rules) do
    add_rule(lines, rule, "critical")
    add_rule(lines, rule, "warning")
  end
  return table.concat(lines, "\n") .. "\n"
end
