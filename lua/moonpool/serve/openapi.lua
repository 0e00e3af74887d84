-- moonpool.serve.openapi: the operations as an OpenAPI 3.1 document, made of their schemas, of the
-- errors that they raise and of the tables whose rows they give.
local codes  = require "moonpool.script.codes"
local host   = require "moonpool.host"
local json   = require "moonpool.json"
local rows   = require "moonpool.serve.openapi_rows"

local openapi = {}

-- Removes `$schema`, which names the dialect: inside an OpenAPI document the dialect is given for
-- the whole document.
local function embedded(schema)
  if schema then schema["$schema"] = nil end
  return schema
end

local CODE = "^[A-Z][A-Z0-9_]*$"
local NOT_DONE = "Not done; or the result cannot be written as JSON (RESULT_UNWRITABLE: the \z
  message says whether the work is stored); or the outcome is unknown (OUTCOME_UNKNOWN)."

local function content(schema)
  return { ["application/json"] = { schema = schema } }
end

local function ref(kind, name) return { ["$ref"] = "#/components/" .. kind .. "/" .. name } end

-- The input as a client gives it: its token names the tenant, so the field may be left out.
local function input_of(op)
  local schema = embedded(op.input) or json.object()
  local kept, tenant = json.array(), op.tenant and json.camel(op.tenant)
  for _, name in ipairs(schema.required or kept) do
    if name ~= tenant then kept[#kept + 1] = name end
  end
  schema.required = kept[1] and kept or nil
  return schema
end

-- The error's body: its code is one of the operation's own or of the host's.
local function error_of(raised)
  local forms = json.array { ref("schemas", "HostErrorCode") }
  local own = json.array()
  for _, code in ipairs(raised.codes) do
    if not codes[code] then own[#own + 1] = code end
  end
  if own[1] then table.insert(forms, 1, { type = "string", enum = own }) end
  if raised.open then
    forms[#forms + 1] = { type = "string", pattern = CODE,
                          description = "A code that the script computes." }
  end
  return {
    type = "object", required = json.array { "error" },
    properties = { error = { allOf = json.array {
      ref("schemas", "ErrorBody"),
      { type = "object", required = json.array { "code" },
        properties = { code = forms[2] and { anyOf = forms } or forms[1] } },
    } } },
  }
end

-- The schemas of an operation, by name: what it takes, answers and fails with.
local function add_schemas(schemas, title, op, raised)
  schemas[title .. "Input"] = input_of(op)
  schemas[title .. "Result"] = embedded(op.output) or json.object()
  schemas[title .. "Error"] = error_of(raised or { codes = {}, open = true })
  return schemas[title .. "Input"].required ~= nil
end

local function path_of(op, title, needs_input)
  return {
    post = {
      operationId = op.name,
      summary = op.summary,
      parameters = json.array { ref("parameters", "IdempotencyKey"),
                                ref("parameters", "RequestTimeout"),
                                ref("parameters", "RequestId") },
      requestBody = { required = needs_input, content = content(ref("schemas", title .. "Input")) },
      responses = {
        ["200"] = { description = "Done, and stored.",
                    content = content { type = "object", required = json.array { "result" },
                      properties = { result = ref("schemas", title .. "Result") } } },
        default = { description = NOT_DONE, content = content(ref("schemas", title .. "Error")) },
      },
    },
  }
end

local function header(name, description, schema)
  return { name = name, ["in"] = "header", required = false, description = description,
           schema = schema }
end

local function host_codes()
  local list = {}
  for i, row in ipairs(codes) do list[i] = row.code end
  table.sort(list)
  return list
end

-- The meaning of the host's own error codes for a caller, one line each.
local function codes_text()
  local lines = { "Further ones are the operations' own.", "" }
  for _, row in ipairs(codes) do
    lines[#lines + 1] = ("- `%s` (%d%s): %s")
      :format(row.code, row.status, row.again == "no" and "" or ", may be tried again",
      row.told or row.cause)
  end
  return table.concat(lines, "\n")
end

local function shared_schemas()
  return {
    HostErrorCode = { type = "string", enum = json.array(host_codes()),
                      description = codes_text() },
    ErrorBody = {
      type = "object", required = json.array { "code", "message", "status" },
      properties = {
        code = { type = "string", pattern = CODE },
        message = { type = "string" },
        status = { type = "integer", minimum = 400, maximum = 599 },
        requestId = { type = "string" }, callId = { type = "string" },
        fields = {
          type = "array", description = "What is wrong with which field of the input.",
          items = { type = "object", required = json.array { "path", "message" },
                    properties = { path = { type = "string" }, message = { type = "string" } } },
        },
      },
    },
  }
end

local parameters = {
  IdempotencyKey = header("Idempotency-Key",
                          "The same call under the same key is done once, and answered the same.",
                          { type = "string", minLength = 1, maxLength = 255 }),
  RequestTimeout = header("Request-Timeout",
                          "Seconds; the operation's own timeout is the longest.",
                          { type = "number", exclusiveMinimum = 0, maximum = 86400 }),
  RequestId = header("X-Request-Id", "Comes back in the answer and stands in the log.",
                     { type = "string", maxLength = 128 }),
}

--- The document of a list of operations (moonpool.operation.describe) and of what they raise
--- (moonpool.check.raised). Internal operations are left out, because HTTP clients cannot call
--- them. Waits for the database, which knows the types of rows.
function openapi.document(operations, raised)
  local paths, schemas = json.object(), shared_schemas()
  for _, op in ipairs(operations) do
    if not op.internal then
      local title = rows.pascal(op.name)
      local needs_input = add_schemas(schemas, title, op, raised[op.name])
      paths["/api/ops/" .. op.name] = path_of(op, title, needs_input)
    end
  end
  rows.resolve(schemas)
  return {
    openapi = "3.1.0",
    info = { title = host.app_dir:match "([^/]+)/*$" or "moonpool", version = host.version,
             description =
               "Each operation is one transaction. Names are in camelCase, decimals are strings." },
    paths = paths,
    security = json.array { { token = json.array() } },
    components = {
      securitySchemes = { token = { type = "http", scheme = "bearer" } },
      parameters = parameters,
      schemas = schemas,
    },
  }
end

return openapi
