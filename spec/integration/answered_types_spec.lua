-- Every type that the server has can be answered: a value of it, an array of them and NULL, read by
-- an operation and written as JSON.
local border   = require "moonpool.operation.border"
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local is       = require "moonpool.is"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

-- type = { an expression, what its answer is } ; a text alone: a constant that is answered as it is
local samples = {
  aclitem = { "'=r/' || current_user", false }, bit = "1", bool = { "true", true },
  box = "(2,2),(1,1)",
  bpchar = "x", bytea = [[\x00ff10]], char = "x", cid = "7", cidr = "10.0.0.0/8",
  circle = "<(1,2),3>", date = "2024-02-29", float4 = { "1.5", 1.5 }, float8 = { "0.1", 0.1 },
  gtsvector = "none", inet = "10.0.0.1", int2 = { "-7", -7 }, int2vector = "1 2", int4 = { "7", 7 },
  int8 = { "9223372036854775807", math.maxinteger }, interval = { "'1 day 02:03:04.5'", false },
  json = { [['{"a": [1]}']], false }, jsonb = { [['{"a": [1]}']], false }, jsonpath = '$."a"',
  line = "{1,2,3}", lseg = "[(1,2),(3,4)]", macaddr = "08:00:2b:01:02:03",
  macaddr8 = "08:00:2b:01:02:03:04:05", money = { "12.50", "$12.50" }, name = "a_name",
  numeric = "1.10", oid = { "42", 42 }, oidvector = "1 2", path = "((1,2),(3,4))",
  pg_brin_bloom_summary = "none", pg_brin_minmax_multi_summary = "none", pg_dependencies = "none",
  pg_lsn = "16/B374D848", pg_mcv_list = "none", pg_ndistinct = "none", pg_node_tree = "none",
  pg_snapshot = "10:20:10,14", point = "(1,2)", polygon = "((1,2),(3,4),(5,6))", refcursor = "c",
  regclass = "pg_class", regcollation = [["C"]], regconfig = "english", regdictionary = "simple",
  regnamespace = "pg_catalog", regoper = "!!", regoperator = "+(integer,integer)", regproc = "now",
  regprocedure = "now()", regrole = { "current_user::text", false }, regtype = "integer",
  text = "x",
  tid = "(1,2)", time = "12:34:56.5", timestamp = { "'2024-02-29 12:00'", "2024-02-29T12:00:00" },
  timestamptz = { "'2024-02-29 12:00Z'", "2024-02-29T12:00:00Z" }, timetz = "12:34:56+00",
  tsquery = "'a' & 'b'", tsvector = "'a':1 'b':2", txid_snapshot = "10:20:10,14",
  uuid = "0197a1f0-0000-7000-8000-000000000001", varbit = "101", varchar = "x", xid = "7",
  xid8 = "7", xml = "<a/>",
  int4range = "[1,5)", int8range = "[1,5)", numrange = "[1.5,5)",
  daterange = "[2024-01-01,2024-02-01)",
  tsrange = [=[["2024-01-01 00:00:00","2024-02-01 00:00:00")]=],
  tstzrange = [=[["2024-01-01 00:00:00+00","2024-02-01 00:00:00+00")]=],
  int4multirange = "{[1,5),[7,9)}", int8multirange = "{[1,5)}", nummultirange = "{[1.5,5)}",
  datemultirange = "{[2024-01-01,2024-02-01)}",
  tsmultirange = [=[{["2024-01-01 00:00:00","2024-02-01 00:00:00")}]=],
  tstzmultirange = [=[{["2024-01-01 00:00:00+00","2024-02-01 00:00:00+00")}]=],
}

local read = moonpool.operation {
  input = is.object { sql = is.string },
  run = function(tx, input) return { row = tx:one(input.sql) } end,
}

--- The answer of an operation that gives the statement's row.
local function answered(sql)
  return json.decode(border.encode(moonpool.call(read, { sql = sql }, { border = true }))).row
end

--- The row of a value of the type: the value, a list of it and NULL.
local function row_of(expression, type_name)
  return answered(([=[select v, array[v, null, v] as list, array[[v], [v]] as lists,
    null::%s as none, '{}'::%s[] as empty from (select (%s)::%s as v) as t]=])
    :format(type_name, type_name, expression, type_name))
end

local function check(expression, type_name, expected)
  local row = row_of(expression, type_name)
  if expected ~= false then assert.are.same(expected, row.v, type_name) end
  assert.are.same({ row.v, json.null, row.v }, { table.unpack(row.list) }, type_name)
  assert.are.same({ row.v, row.v }, { row.lists[1][1], row.lists[2][1] }, type_name)
  assert.are.equal(json.null, row.none, type_name)
  assert.are.equal("[]", json.encode(row.empty), type_name)
end

describe("an answer", function()
  local schema
  setup(function()
    schema = scratch.schema("answered", {
      "create type answered.colour as enum ('red', 'light \"blue\"')",
      "create domain answered.age as integer check (value > 0)",
      "create domain answered.bytes as bytea",
      "create type answered.pair as (x integer, y text)",
      "create type answered.floats as range (subtype = float8)",
      "create table answered.files (id integer generated always as identity, data bytea)",
    })
  end)
  teardown(function() schema.drop() end)

  it("may hold a value of every type of the server", function()
    local admin <close> = setmetatable({ db.open { url = host.admin_url, max = 1 } },
                                       { __close = function(o) o[1].close() end })
    for _, type in ipairs(admin[1].query [[select typname::text as name from pg_type
      where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm', 'e')
        and typelem = 0 or typname in ('point', 'box', 'line', 'lseg', 'name', 'int2vector',
        'oidvector') and typnamespace = 'pg_catalog'::regnamespace order by 1]]) do
      local sample = samples[type.name]
      assert.truthy(sample, "no sample of the type " .. type.name)
      local full = ('pg_catalog."%s"'):format(type.name)
      if sample == "none" then
        assert.are.equal(json.null, answered(("select null::%s as v"):format(full)).v)
      elseif _G.type(sample) == "string" then
        check("$q$" .. sample .. "$q$", full, sample)
      else
        check(sample[1], full, sample[2])
      end
    end
  end)

  it("may hold enums, domains, composites and ranges of a database's own", function()
    check([['light "blue"']], "answered.colour", 'light "blue"')
    check("'7'", "answered.age", 7)
    check([['\x00ff']], "answered.bytes", [[\x00ff]])
    check([[row(1, 'a "b", c')]], "answered.pair", [[(1,"a ""b"", c")]])
    check("'[1.5,2)'", "answered.floats", "[1.5,2)")
    assert.are.equal("(1,x)", answered "select row(1, 'x') as v".v)
    assert.are.equal("", answered "select pg_sleep(0) as v".v)
  end)

  it("holds bytes as \\x and hexadecimal digits, whatever they are", function()
    local texts = { ["\\x"] = "", ["\\x616263"] = "abc", ["\\x00fffe"] = "\0\xff\xfe" }
    for text, bytes in pairs(texts) do
      local stored = moonpool.operation { run = function(tx)
        return tx:insert("answered.files", { data = bytes })
      end }
      local told = border.encode(moonpool.call(stored, {}, { border = true }))
      assert.are.equal(text, json.decode(told).data)
    end
    check("(-1)", [["char"]], [[\377]])
  end)

  it("holds NaN, infinities and what lies far away as text, in arrays too", function()
    check("'NaN'", "numeric", "NaN")
    check("'-Infinity'", "float8", "-Infinity")
    check("'Infinity'", "float4", "Infinity")
    check("'infinity'", "timestamptz", "infinity")
    check("'-infinity'", "date", "-infinity")
    check("'5874897-12-31'", "date", "+5874897-12-31")
    check("'12345-01-02'", "date", "+012345-01-02")
    check("'0044-03-15 BC'", "date", "-000043-03-15")
    check("'294276-12-31 23:59:59.5Z'", "timestamptz", "+294276-12-31T23:59:59.5Z")
  end)
end)
