-- Prints the alert rules for Prometheus: moonpool run scripts/tools/alert_rules.lua >
-- scripts/monitoring/rules.yml
io.stdout:write(require "moonpool.alerts.prometheus"())
