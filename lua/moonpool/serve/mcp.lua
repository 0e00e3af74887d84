-- moonpool.serve.mcp: operations as tools of the Model Context Protocol (revision 2025-11-25),
-- over its streamable HTTP without sessions and streams: each POST has one message of JSON-RPC, and
-- its answer is one JSON text. The tools are the operations that the token may call.
local codes       = require "moonpool.script.codes"
local errors      = require "moonpool.errors"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local json        = require "moonpool.json"

local mcp = {}

local LATEST = "2025-11-25"
local versions = { [LATEST] = true, ["2025-06-18"] = true, ["2025-03-26"] = true }

-- Of JSON-RPC 2.0.
local INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, PARSE_ERROR = -32600, -32601, -32602, -32700

local function fail(number, message, ...)
  error({ code = number, message = message:format(...) }, 0)
end

-- -- tools ----------------------------------------------------------------------------------------

local DRY_RUN = {
  type = "boolean", default = false,
  description = "true: the call is tried in full and rolled back, and nothing is stored; the \z
    result is what it would have been",
}

-- Where the arguments of a tool are: an input that is an object stands for itself, beside dryRun;
-- any other is in `input`.
local function shape_of(op)
  local input = op.input
  if not input then return "nothing" end
  local properties = input.type == "object" and input.properties
  if not properties or properties.dryRun then return "inside" end
  return "beside"
end

local function copy_of(given)
  local copy = json.object()
  for name, value in pairs(given) do copy[name] = value end
  return copy
end

-- The schema of a tool's arguments; op is not changed. The token names the tenant, so that field
-- may be left out.
local function schema_of(op)
  local shape = shape_of(op)
  local schema = shape == "beside" and copy_of(op.input)
    or { type = "object", additionalProperties = false }
  schema.properties = copy_of(shape == "beside" and schema.properties or {})
  if shape == "beside" then
    local required, tenant = json.array(), op.tenant and json.camel(op.tenant)
    for _, name in ipairs(schema.required or required) do
      if name ~= tenant then required[#required + 1] = name end
    end
    schema.required = required[1] and required or nil
  elseif shape == "inside" then
    schema.properties.input, schema.required = copy_of(op.input), json.array { "input" }
    schema.properties.input["$schema"] = nil
  end
  if not op.read_only then schema.properties.dryRun = DRY_RUN end
  return schema
end

-- The operation's JSON, and whether it is a dry run, from the arguments of a tool.
local function arguments_of(op, given)
  local shape, dry_run = shape_of(op), given.dryRun
  if shape ~= "beside" then
    if dry_run == nil and shape == "nothing" and next(given) then return given, false end
    return shape == "inside" and given.input or json.object(), dry_run
  end
  if op.read_only then return given, false end
  given.dryRun = nil
  return given, dry_run
end

local function list_tools(request, operations, may_call)
  local tools = json.array()
  for _, op in ipairs(operations) do
    if not op.internal and may_call(request.who, op.name) then
      tools[#tools + 1] = {
        name = op.name, description = op.summary or op.name, inputSchema = schema_of(op),
        annotations = { readOnlyHint = op.read_only or false },
      }
    end
  end
  return { tools = tools }
end

local again = {
  no = "The same call would fail again.",
  yes = "The same call may be sent again.",
  host = "The host has tried it again already; the same call may be sent again later.",
}

-- What happened and what to do next, as text for a model.
local function told_of(e)
  local lines = { ("%s: %s"):format(e.code, e.message) }
  for _, field in ipairs(e.fields or {}) do
    lines[#lines + 1] = ("- %s: %s"):format(field.path, field.message)
  end
  local info = codes[e.code]
  if not info then
    lines[#lines + 1] = "This is an answer of the operation itself."
  elseif info.fault == "operator" then
    lines[#lines + 1] = "To do: tell whoever runs the host; its log has more about this call."
  else
    lines[#lines + 1] = again[info.again]
  end
  if e.call_id then lines[#lines + 1] = "Call id: " .. e.call_id end
  return table.concat(lines, "\n")
end

local function call_tool(request, operations, may_call, params)
  local op
  for _, one in ipairs(operations) do
    if one.name == params.name and not one.internal and may_call(request.who, one.name) then
      op = one
    end
  end
  if not op then
    fail(INVALID_PARAMS, "there is no tool %q for this token", tostring(params.name))
  end
  local given = params.arguments
  if given ~= nil and (type(given) ~= "table" or json.is_array(given)) then
    fail(INVALID_PARAMS, "`arguments` must be an object")
  end
  local input, dry_run = arguments_of(op, given or json.object())
  if dry_run ~= nil and type(dry_run) ~= "boolean" then
    fail(INVALID_PARAMS, "`dryRun` must be true or false")
  end
  local who = request.who
  local ok, text = generations.call_json(op.name, json.encode(input),
    { tenant = who.tenant, as = who.user, scopes = who.scopes, far = true, dry_run = dry_run })
  local value = json.decode(text, { decimals = true, max_bytes = #text + 1 })
  if ok then
    return { content = json.array { { type = "text", text = text } },
             structuredContent = { result = value, dryRun = dry_run or nil } }
  end
  return { content = json.array { { type = "text", text = told_of(json.decode(text)) } },
           structuredContent = { error = value }, isError = true }
end

-- -- messages -------------------------------------------------------------------------------------

local methods = {}

function methods.initialize(_, _, _, params)
  return {
    protocolVersion = versions[params.protocolVersion] and params.protocolVersion or LATEST,
    capabilities = { tools = json.object() },
    serverInfo = { name = host.app_dir:match "([^/]+)/*$" or "moonpool", version = host.version },
    instructions = "Each tool is one business transaction: it is done completely or not at all. \z
      With dryRun = true it is tried and rolled back.",
  }
end

function methods.ping() return json.object() end

methods["tools/list"] = list_tools
methods["tools/call"] = call_tool

local function handle(request, operations, may_call, message)
  if type(message) ~= "table" or json.is_array(message) or message.jsonrpc ~= "2.0"
    or type(message.method) ~= "string" then
    fail(INVALID_REQUEST, "one message of JSON-RPC 2.0 is needed")
  end
  local method = methods[message.method]
  if not method then fail(NO_METHOD, "there is no method %q", message.method) end
  local params = message.params
  if params == nil or params == json.null then params = {} end
  if type(params) ~= "table" then fail(INVALID_PARAMS, "`params` must be an object") end
  return method(request, operations, may_call, params)
end

local function refuse(status, code, message)
  error(errors.new { status = status, code = code, message = message }, 0)
end

local function check_head(head)
  if head.foreign then
    refuse(403, "FORBIDDEN", "MOONPOOL_CORS_ORIGINS does not list this origin")
  elseif head.not_json then
    refuse(415, "UNSUPPORTED_MEDIA_TYPE", head.not_json)
  elseif head.mcp_version and not versions[head.mcp_version] then
    refuse(400, "BAD_REQUEST", "MCP-Protocol-Version names a revision that this host does not know")
  end
end

--- Answers a POST: a table and the status. `operations`: moonpool.operation.describe; `may_call`:
--- (who, name) -> whether the token has the scope. Raises an error object for a request that is not
--- one of the protocol's; a call of a tool that fails is an answer.
function mcp.answer(request, operations, may_call)
  check_head(request.head)
  local read, message = pcall(json.decode, request.body or "",
                              { decimals = true, max_values = host.body_values })
  local id = read and type(message) == "table" and message.id
  if read and type(message) == "table" and message.jsonrpc == "2.0" and id == nil then
    return "", 202, "application/json" -- a notification, or an answer: nothing waits for them
  end
  local ok, result
  if read then
    ok, result = pcall(handle, request, operations, may_call, message)
  else
    ok, result = false, { code = PARSE_ERROR, message = "the body is not JSON" }
  end
  if not ok and (type(result) ~= "table" or errors.is(result)) then error(result, 0) end
  local answer = { jsonrpc = "2.0", id = id or json.null }
  answer[ok and "result" or "error"] = result
  return answer, id and 200 or 400 -- a client reads answers with its id
end

return mcp
