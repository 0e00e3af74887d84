-- moonpool.operation.describe: the operations of a generation as JSON: name, summary, tenant,
-- schedule, schemas.
local json     = require "moonpool.json"
local registry = require "moonpool.operation.registry"
local sorted   = require "moonpool.script.sorted"

return function()
  local list = {}
  for i, name in ipairs(sorted(registry.operations)) do
    local op = registry.operations[name]
    list[i] = { name = name, summary = op.summary, tenant = op.tenant or nil,
      every = op.every, on = op.on,
                from = op.from, for_each = op.for_each, internal = op.internal,
                renamed_from = op.renamed_from,
                deliveries = op.deliveries, concurrency = op.concurrency, isolation = op.isolation,
                timeout = op.timeout, read_only = op.read_only,
                input = op.input and op.input:json_schema(),
                output = op.output and op.output:json_schema() }
  end
  return json.encode(json.array(list), { sorted = true })
end
