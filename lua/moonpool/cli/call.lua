-- `moonpool call NAME [JSON | @FILE | -]`: calls one operation and prints its result as JSON on
-- stdout.
local border     = require "moonpool.operation.border"
local calls      = require "moonpool.calls"
local errors     = require "moonpool.errors"
local failed     = require "moonpool.cli.failed"
local laid_out   = require "moonpool.cli.laid_out"
local moonpool   = require "moonpool"
local output     = require "moonpool.operation.output"
local read_input = require "moonpool.cli.input"

-- The steps of the call, on stderr.
local function print_steps(id)
  local steps = id and calls.timeline(id)
  if steps then io.stderr:write(steps, "\n") end
end

return function(options)
  output.mode = "refuse"
  local ok, result, info = pcall(function()
    return moonpool.call_info(options.name, border.decode(read_input(options.input)),
      { border = true, answer_text = true, shown = true, tenant = options.tenant,
        as = options.as, key = options.key })
  end)
  if options.why then
    print_steps(ok and info and info.id or errors.is(result) and result.call_id)
  end
  if not ok then return failed(result, options) end
  print(laid_out(result, options.pretty))
  return 0
end
