-- moonpool.serve.openapi: the operations as an OpenAPI 3.1 document, made of their schemas.
local codes = require "moonpool.script.codes"
local host  = require "moonpool.host"
local json  = require "moonpool.json"

local openapi = {}

-- Removes `$schema`, which names the dialect: inside an OpenAPI document the dialect is given for
-- the whole document.
local function embedded(schema)
  if schema then schema["$schema"] = nil end
  return schema
end

local function content(schema)
  return { ["application/json"] = { schema = schema } }
end

local function ref(kind, name) return { ["$ref"] = "#/components/" .. kind .. "/" .. name } end

local function path_of(op)
  local result = embedded(op.output) or json.object()
  return {
    post = {
      operationId = op.name,
      summary = op.summary,
      parameters = json.array { ref("parameters", "IdempotencyKey"),
                                ref("parameters", "RequestTimeout"),
                                ref("parameters", "RequestId") },
      requestBody = { required = op.input ~= nil,
                      content = content(embedded(op.input) or json.object()) },
      responses = {
        ["200"] = { description = "Done, and stored.",
                    content = content { type = "object", properties = { result = result },
                                        required = json.array { "result" } } },
        default = ref("responses", "Error"),
      },
    },
  }
end

local function header(name, description, schema)
  return { name = name, ["in"] = "header", required = false, description = description,
           schema = schema }
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

--- The document of a list of operations (moonpool.operation.describe). Internal operations are left
--- out, because HTTP clients cannot call them.
function openapi.document(operations)
  local paths = json.object()
  for _, op in ipairs(operations) do
    if not op.internal then paths["/api/ops/" .. op.name] = path_of(op) end
  end
  return {
    openapi = "3.1.0",
    info = { title = host.app_dir:match "([^/]+)/*$" or "moonpool", version = host.version,
             description =
               "Each operation is one transaction. Names are in camelCase, decimals are strings." },
    paths = paths,
    security = json.array { { token = json.array() } },
    components = {
      securitySchemes = { token = { type = "http", scheme = "bearer" } },
      parameters = {
        IdempotencyKey = header("Idempotency-Key",
                                "The same call under the same key is done once, and answered the \z
                                  same.",
                                { type = "string", minLength = 1, maxLength = 255 }),
        RequestTimeout = header("Request-Timeout",
                                "Seconds; the operation's own timeout is the longest.",
                                { type = "number", exclusiveMinimum = 0, maximum = 86400 }),
        RequestId = header("X-Request-Id", "Comes back in the answer and stands in the log.",
                           { type = "string", maxLength = 128 }),
      },
      responses = { Error = { content = content(ref("schemas", "Error")),
        description =
          "Not done; or the result cannot be written as JSON (RESULT_UNWRITABLE: the message \z
            says whether the "
          .. "work is stored); or the outcome is unknown (OUTCOME_UNKNOWN)." } },
      schemas = {
        Error = {
          type = "object", required = json.array { "error" },
          properties = { error = {
            type = "object", required = json.array { "code", "message", "status" },
            properties = {
              code = { type = "string", pattern = "^[A-Z][A-Z0-9_]*$", description = codes_text() },
              message = { type = "string" },
              status = { type = "integer", minimum = 400, maximum = 599 },
              requestId = { type = "string" }, callId = { type = "string" },
              fields = { description = "What is wrong with which field of the input." },
            },
          } },
        },
      },
    },
  }
end

return openapi
