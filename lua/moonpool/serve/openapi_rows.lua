-- moonpool.serve.openapi_rows: rows of tables as JSON Schema: what `is.row:of "orders"` is as JSON.
local columns = require "moonpool.db.columns"
local json    = require "moonpool.json"

local rows = {}

local kinds = {
  int2 = "integer", int4 = "integer", int8 = "integer", oid = "integer", float4 = "number",
  float8 = "number", bool = "boolean",
}

local function one_type(column)
  if column.type == "json" or column.type == "jsonb" then return json.object() end -- any value
  local doc = { type = kinds[column.type] or "string" }
  if column.type == "uuid" then doc.format = "uuid" end
  if column.type == "numeric" then doc.format = "decimal" end
  if column.labels[1] then doc.enum = json.array { table.unpack(column.labels) } end
  return doc
end

local function nullable(doc)
  return doc.type and { anyOf = json.array { doc, { type = "null" } } } or doc
end

local function type_of(column)
  local doc = one_type(column)
  if column.category == "A" then doc = { type = "array", items = nullable(doc) } end
  if not column.required then doc = nullable(doc) end
  doc.description = column.about
  return doc
end

-- The schema of a row with these columns of the relation; without names, with all.
local function row_of(list, names)
  local wanted
  for _, name in ipairs(names or {}) do
    wanted = wanted or {}
    wanted[name] = true
  end
  local properties, required = json.object(), json.array()
  for _, column in ipairs(list) do
    if not wanted or wanted[column.name] then
      local border = json.camel(column.name)
      properties[border], required[#required + 1] = type_of(column), border
    end
  end
  return { type = "object", properties = properties, required = required }
end

-- "order_lines" -> "OrderLines"
function rows.pascal(name)
  return (name:gsub("[^%w]*(%w)(%w*)", function(first, rest) return first:upper() .. rest end)
    :gsub("[^%w]", ""))
end

-- Replaces each row of a named table below `doc`.
local function replace(doc, known, schemas)
  for key, part in pairs(doc) do
    if type(part) == "table" then
      local name = part["x-table"]
      local list = name and known[name]
      if list and part["x-columns"] then
        local own = row_of(list, part["x-columns"])
        own.description = part.description
        doc[key] = own
      elseif list then
        local title = rows.pascal(name) .. "Row"
        schemas[title] = schemas[title] or row_of(list)
        doc[key] = { ["$ref"] = "#/components/schemas/" .. title }
      else
        part["x-table"], part["x-columns"] = nil, nil -- no such table: any row
        replace(part, known, schemas)
      end
    end
  end
end

--- Gives all rows in `schemas` their types, and adds those of whole tables to it. Waits for the
--- database.
function rows.resolve(schemas)
  local made = {}
  replace(schemas, columns(), made)
  for title, doc in pairs(made) do schemas[title] = doc end
end

return rows
